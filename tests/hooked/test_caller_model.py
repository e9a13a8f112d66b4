"""A model belongs to its caller: probes leave it as it was, and need no particular mode of torch or of the model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import itlens
from itlens.errors import ModelError
from itlens.models.running import mend_tables
from tests.tiny import BACKENDS, tiny_hf_model, tiny_tokenizer

TEXT = "List three animals and three fruits: cat, dog"
PROMPT = itlens.Prompt(TEXT, id="a", instruction="List three animals", response=" plum, pear")
OWN = PROMPT.replace(response=None)
WORDS = itlens.Vocabulary(["cat", "dog", "horse", "apple", "pear", "plum", "river", "mouse"])
QUIET: dict[str, Any] = {"progress": False}

Probe = Callable[[Any, Any], Any]
READ: dict[str, Probe] = {  # of a model and a second one
    "reverse": lambda model, other: itlens.attribute(model, PROMPT, mode="reverse", **QUIET),
    "forward": lambda model, other: itlens.attribute(model, PROMPT, mode="forward", **QUIET),
    "generated": lambda model, other: itlens.attribute(model, OWN, max_new_tokens=3, **QUIET),
    "saliency": lambda model, other: itlens.attribute(model, PROMPT, method="saliency", **QUIET),
    "path": lambda model, other: itlens.attribute(model, PROMPT, method="integrated_gradients", steps=2, **QUIET),
    "activations": lambda model, other: itlens.activations(model, OWN, max_new_tokens=3, **QUIET),
    "faithfulness": lambda model, other: itlens.faithfulness(model, PROMPT, steps=2, draws=2, **QUIET),
    "shift": lambda model, other: itlens.activation_shift((model, other), OWN, max_new_tokens=3, **QUIET),
    "heads": lambda model, other: itlens.patch((model, other), OWN, max_new_tokens=3, layers=[1], controls=1, **QUIET),
    "weights": lambda model, other: itlens.patch(
        (model, other), PROMPT, what="weights", unit="layer", responses="given", curve=False, **QUIET
    ),
    "importance": lambda model, other: itlens.patch(
        (model, other), PROMPT, what="mlp", layers=[1], metric="importance", responses="given", curve=False, **QUIET
    ),
}
WEIGHTS: dict[str, Probe] = {
    "energy": lambda model, other: itlens.qk_energy(model, WORDS),
    "copying": lambda model, other: itlens.ov_copying(model, WORDS),
    "outputs": lambda model, other: itlens.ov_word_pairs(model, WORDS, top_k=2, **QUIET),
    "concepts": lambda model, other: itlens.mlp_concepts(model, WORDS, components=3, top_k=2, resamples=1, **QUIET),
    "neurons": lambda model, other: itlens.neuron_words(model, WORDS, 0, top_k=2),
    "vectors": lambda model, other: pd.DataFrame(itlens.mean_vectors(model, WORDS).numpy()),
}
PROBES = READ | WEIGHTS


def tiny(backend: str = "hooked", seed: int = 0, architecture: str = "llama", **options: Any) -> Any:
    return itlens.load_model(
        tiny_hf_model(architecture, seed, **options), tokenizer=tiny_tokenizer(), backend=backend, check=False
    )


def same(one: Any, other: Any) -> bool:
    """Whether two results hold the same numbers, up to rounding."""
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, rtol=1e-5, atol=1e-7)
    else:
        xr.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    return True


def state(model: Any) -> dict[str, Any]:
    """Everything of a model that a caller could find changed."""
    seen: dict[str, Any] = {"cfg": repr(model.cfg), "attributes": sorted(vars(model))}
    tokenizer = model.tokenizer
    seen["tokenizer"] = (tokenizer.padding_side, tokenizer.pad_token, len(tokenizer), tokenizer.chat_template)
    settings = getattr(getattr(model, "original_model", None), "generation_config", None)
    seen["generation"] = None if settings is None else settings.to_dict()
    inner = getattr(model, "original_model", None)  # a bridge does not name all of its modules
    modules = {
        **dict(model.named_modules()),
        **({} if inner is None else {f"inner {n}": m for n, m in inner.named_modules()}),
    }
    for name, module in modules.items():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        own = tuple(len(getattr(module, kept, ())) for kept in ("fwd_hooks", "bwd_hooks"))
        seen[f"module {name}"] = (module.training, *map(len, hooks), *own, _attributes(module))
    for name, parameter in model.named_parameters():
        kept = (parameter.requires_grad, parameter.grad is None, parameter.dtype, parameter.device, parameter.stride())
        seen[f"parameter {name}"] = (id(parameter), *kept, parameter.detach().clone())
    for name, buffer in model.named_buffers():
        seen[f"buffer {name}"] = (buffer.dtype, buffer.device, buffer.is_inference(), buffer.clone())
    return seen


def _attributes(module: torch.nn.Module) -> list[str]:
    return sorted(name for name in vars(module) if not name.startswith("_fired_"))  # the bridge's note of its last run


def unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before.keys() == after.keys()
    for name, value in before.items():
        if isinstance(value, tuple) and isinstance(value[-1], torch.Tensor):
            assert value[:-1] == after[name][:-1], name
            assert torch.equal(value[-1], after[name][-1]), name
        else:
            assert value == after[name], name


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_is_left_as_it_was(backend: str) -> None:
    """Also one that is being trained: gradients wanted, in training mode, with hooks of the caller's own."""
    model, other = tiny(backend), tiny(backend, 1)
    met: list[int] = []
    for each in (model, other):
        each.train()
        for number, parameter in enumerate(each.parameters()):
            parameter.requires_grad_(number % 2 == 0)
        next(iter(each.blocks[0].parameters())).grad = None
        each.hook_dict["blocks.0.hook_resid_post"].add_hook(lambda value, hook: met.append(1))
        each.generate(torch.tensor([[1, 40, 41]]), max_new_tokens=1, verbose=False)  # a bridge completes itself then
        each.train()
    before = state(model), state(other)
    for name, probe in PROBES.items():
        met.clear()
        probe(model, other)
        for seen, each in zip(before, (model, other), strict=True):
            try:
                unchanged(seen, state(each))
            except AssertionError as error:
                raise AssertionError(f"{name} changes the model: {error}") from error
        assert bool(met) == (name in READ), f"{name}: the caller's hooks act while the model runs"


def test_dropout_does_not_reach_a_probe() -> None:
    """A model in training mode gives the numbers of evaluation mode, and stays in training mode."""
    model = tiny("bridge", architecture="gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    expected = itlens.attribute(model, PROMPT, **QUIET), itlens.activations(model, PROMPT, **QUIET)
    model.train()
    assert same(itlens.attribute(model, PROMPT, **QUIET), expected[0])
    assert same(itlens.activations(model, PROMPT, **QUIET), expected[1])
    assert model.training and any(module.p for module in model.modules() if isinstance(module, torch.nn.Dropout))


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    return tiny(), tiny(seed=1)


@pytest.mark.parametrize("name", PROBES)
def test_inference_mode_around_a_probe_changes_nothing(pair: tuple[Any, Any], name: str) -> None:
    expected = PROBES[name](*pair)
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            assert same(PROBES[name](*pair), expected)
            assert not torch.is_grad_enabled() and torch.is_inference_mode_enabled() == (mode is torch.inference_mode)


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_computes_in_the_precision_of_the_weights(pair: tuple[Any, Any], name: str) -> None:
    expected = PROBES[name](*pair)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same(PROBES[name](*pair), expected)


@pytest.mark.parametrize("name", ["reverse", "generated", "activations", "faithfulness", "shift", "heads"])
def test_threads_may_share_a_model(pair: tuple[Any, Any], name: str) -> None:
    expected = READ[name](*pair)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda number: READ[name](*pair), range(3)))
    for result in found:
        same(result, expected)


def test_a_model_that_is_loaded_in_inference_mode_is_an_ordinary_one() -> None:
    source = tiny_hf_model("llama")
    with torch.inference_mode():
        model = itlens.load_model(source, tokenizer=tiny_tokenizer())
    assert not any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers()))
    assert same(itlens.attribute(model, PROMPT, **QUIET), itlens.attribute(tiny(), PROMPT, **QUIET))


def test_weights_made_in_inference_mode_are_named_where_derivatives_are_taken() -> None:
    with torch.inference_mode():
        source = tiny_hf_model("llama")
    assert same(  # what is converted is copied, and becomes ordinary
        itlens.attribute(itlens.load_model(source, tokenizer=tiny_tokenizer(), check=False), PROMPT, **QUIET),
        itlens.attribute(tiny(), PROMPT, **QUIET),
    )
    model = itlens.load_model(source, tokenizer=tiny_tokenizer(), backend="bridge", check=False)
    for name in ("reverse", "faithfulness", "heads"):
        with pytest.raises(ModelError, match=r"made inside torch\.inference_mode\(\).*load or build the model outside"):
            PROBES[name](model, tiny("bridge"))
    assert itlens.activations(model, PROMPT, **QUIET).sizes["prompt"] == 1  # no derivative is taken


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> int:
    """Rotary angles for 24 tokens at first, where TransformerLens has them for 2,048."""
    from transformer_lens.components.abstract_attention import AbstractAttention

    monkeypatch.setattr(AbstractAttention, "ROTARY_INITIAL_CACHE_SIZE", 24)
    return 24


def of_tokens(model: Any, count: int) -> itlens.Prompt:
    """A prompt of so many tokens, BOS included, whose response the model generates."""
    from itlens.tokenization import encode

    text = "List"
    while len(encode(model.tokenizer, text).ids) < count:
        text += "q"  # a token of its own each time
    assert len(encode(model.tokenizer, text).ids) == count
    return itlens.Prompt(text, id="long", instruction="List")


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox", "gemma3"])
def test_tables_that_grow_while_a_response_is_generated_stay_ordinary(small_cache: int, architecture: str) -> None:
    """Just below, at and above the length at which they grow; and a short prompt after that."""
    fresh = tiny(architecture=architecture)
    short = itlens.attribute(fresh, PROMPT, mode="reverse", **QUIET)
    for count in (small_cache - 4, small_cache - 1, small_cache, small_cache + 1, 2 * small_cache + 3):
        model = tiny(architecture=architecture)
        prompt = of_tokens(model, count)
        own = itlens.attribute(model, prompt, max_new_tokens=4, mode="reverse", **QUIET)
        assert not any(buffer.is_inference() for buffer in model.buffers())
        given = itlens.attribute(fresh, prompt, own.target_id.values.tolist(), mode="reverse", **QUIET)
        assert np.allclose(own.score, given.score, atol=1e-6)
        assert same(itlens.attribute(model, PROMPT, mode="reverse", **QUIET), short)
        for name, buffer in tiny(architecture=architecture).named_buffers():  # longer, and the same numbers
            grown = model.get_buffer(name)
            assert torch.equal(grown[: len(buffer)] if buffer.dim() else grown, buffer)


@pytest.mark.parametrize("name", READ)
def test_every_probe_reads_a_prompt_longer_than_the_tables(small_cache: int, name: str) -> None:
    def answer(model: Any, other: Any, probe: Probe) -> Any:
        probe(model, other)
        return itlens.attribute(model, PROMPT, **QUIET)

    model, other = tiny(), tiny(seed=1)
    expected = itlens.attribute(model, PROMPT, **QUIET)
    prompt = of_tokens(model, small_cache + 2)
    for each in (model, other):
        itlens.activations(each, prompt, max_new_tokens=2, **QUIET)
    assert same(answer(model, other, READ[name]), expected)


def test_a_model_damaged_by_the_caller_is_mended(small_cache: int) -> None:
    model = tiny()
    ids = torch.full((1, small_cache + 5), 40)
    model.generate(ids, max_new_tokens=2, do_sample=False, verbose=False, eos_token_id=2, return_type="tokens")
    assert any(buffer.is_inference() for buffer in model.buffers())
    whole, other = tiny(), tiny(seed=1)
    for name in ("reverse", "heads", "importance"):
        damaged = copy.deepcopy(model)
        assert same(READ[name](damaged, other), READ[name](whole, other)), name
    mend_tables(model)
    assert not any(buffer.is_inference() for buffer in model.buffers())
