"""Interpolated models: the ends to the last bit, what lies between, parts, tied embeddings, backends, bad input."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.errors import ModelError, PairError
from itlens.models import source_of
from itlens.models.interpolation import Interpolation, blend, is_part
from tests.tiny import tiny_folder

KINDS = ("llama", "qwen3", "gpt2", "gemma3")  # qwen3, gpt2 and gemma3 tie their embeddings
BACKENDS = ("hooked", "bridge")
IDS = torch.tensor([[1, 17, 40, 33, 8]])


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """What is imported is no garbage: loading a model collects several times, which takes a second otherwise."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    root = tmp_path_factory.mktemp("between")
    return {
        kind: tuple(tiny_folder(root / kind / str(seed), kind, seed=seed) for seed in (0, 1))  # type: ignore[misc]
        for kind in KINDS
    }


def pair_of(folders: dict[str, tuple[Path, Path]], kind: str, backend: str = "hooked", **more: Any) -> itlens.ModelPair:
    return itlens.load_pair(*folders[kind], backend=backend, check=False, **more)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters(remove_duplicate=False))


@pytest.mark.parametrize(
    ("kind", "backend"), [("llama", "hooked"), ("qwen3", "hooked"), ("gpt2", "bridge"), ("gemma3", "bridge")]
)
def test_the_ends_are_the_models_to_the_last_bit(
    folders: dict[str, tuple[Path, Path]], kind: str, backend: str
) -> None:
    pair = pair_of(folders, kind, backend)
    for alpha, side in ((0, "base"), (1.0, "tuned")):
        made, own = itlens.interpolate(pair, alpha), getattr(pair, side)
        assert made is not own
        assert weights(made).keys() == weights(own).keys()
        for name, value in weights(own).items():
            assert torch.equal(weights(made)[name], value), (side, name)
        assert torch.equal(made(IDS), own(IDS)), side


@pytest.mark.parametrize("backend", BACKENDS)
def test_between_and_beyond_every_weight_is_on_the_line(folders: dict[str, tuple[Path, Path]], backend: str) -> None:
    pair = pair_of(folders, "qwen3", backend)
    for alpha in (1.5, -0.5):
        made = weights(itlens.interpolate(pair, alpha))
        base = {name: value.double() for name, value in weights(pair.base).items()}
        for name, value in weights(pair.tuned).items():
            expected = base[name] + alpha * (value.double() - base[name])
            torch.testing.assert_close(made[name].double(), expected, rtol=1e-5, atol=1e-6)


def test_both_backends_agree(folders: dict[str, tuple[Path, Path]]) -> None:
    hooked, bridge = (itlens.interpolate(pair_of(folders, "gemma3", backend), 0.5)(IDS) for backend in BACKENDS)
    torch.testing.assert_close(hooked, bridge, rtol=1e-3, atol=1e-3)


def test_embeddings_stay_tied_where_they_are(folders: dict[str, tuple[Path, Path]]) -> None:
    made = itlens.interpolate(pair_of(folders, "qwen3"), 0.3)
    assert made.W_E.data_ptr() == made.W_U.data_ptr()
    assert torch.equal(made.W_E, made.W_U.T)


@pytest.mark.parametrize("backend", BACKENDS)
def test_parts_move_alone_and_together_are_all(folders: dict[str, tuple[Path, Path]], backend: str) -> None:
    pair = pair_of(folders, "gemma3", backend, keep_both=True)
    base, tuned = weights(pair.base), weights(pair.tuned)
    names = [name for name, _ in pair.base.named_parameters()]  # type: ignore[attr-defined]
    halves = {half: {n for n in names if is_part(n, half, sandwich=True)} for half in ("attention", "mlp", "embedding")}
    assert set().union(*halves.values()) == set(names)
    assert sum(map(len, halves.values())) == len(names), "a parameter is in two halves"
    assert all(len(found) > 1 for found in halves.values())
    made = weights(itlens.interpolate(pair, 1, parts=["mlp", 1]))
    inside = {name for name in halves["mlp"] if is_part(name, 1)}
    assert 0 < len(inside) < len(halves["mlp"])
    for name in names:
        assert torch.equal(made[name], (tuned if name in inside else base)[name]), name


def test_both_backends_take_a_norm_for_the_same_half() -> None:
    for hooked, bridge in (("ln1_post.w", "post_attention_layernorm.weight"), ("ln2.w", "pre_feedforward_layernorm.w")):
        own = is_part(f"blocks.0.{hooked}", "mlp", sandwich=True)
        assert own == is_part(f"model.layers.0._original_component.{bridge}", "mlp", sandwich=True)
    assert is_part("model.layers.0._original_component.post_attention_layernorm._original_component.weight", "mlp")


def test_the_pair_and_given_models_stay_as_they_are(folders: dict[str, tuple[Path, Path]]) -> None:
    base, tuned = (itlens.load_model(folder, check=False) for folder in folders["llama"])
    before = [{name: value.clone() for name, value in weights(model).items()} for model in (base, tuned)]
    made = itlens.interpolate(itlens.load_pair(base, tuned), 0.5)
    for model, own in zip((base, tuned), before, strict=True):
        assert all(torch.equal(value, own[name]) for name, value in weights(model).items())
    name = "blocks.0.mlp.W_in"
    torch.testing.assert_close(weights(made)[name], (before[0][name] + before[1][name]) / 2)


def test_half_precision_is_blended_in_float32(folders: dict[str, tuple[Path, Path]]) -> None:
    pair = pair_of(folders, "llama", dtype="bfloat16")
    made, name = itlens.interpolate(pair, 0.25), "blocks.1.attn.W_Q"
    base, tuned = (weights(getattr(pair, side))[name].float() for side in ("base", "tuned"))
    assert torch.equal(weights(made)[name], (base + 0.25 * (tuned - base)).bfloat16())


def test_a_result_says_what_the_model_is(folders: dict[str, tuple[Path, Path]]) -> None:
    pair = pair_of(folders, "llama")
    one, other = (source_of(itlens.interpolate(pair, alpha)) for alpha in (0.25, 0.5))
    assert one.name == f"{folders['llama'][0]} + 0.25 ({folders['llama'][1]} - base)"
    assert one.revision != other.revision
    assert Interpolation(pair, 0.25).side("tuned").revision == one.revision
    assert one.tokenizer is not None


def test_models_that_compute_with_other_settings(folders: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    rope = {"rope_type": "default", "rope_theta": 50000.0}
    other = tiny_folder(tmp_path / "other", "qwen3", seed=3, rope_parameters=rope, rms_norm_eps=1e-4)
    untied = tiny_folder(tmp_path / "untied", "qwen3", seed=4, tie_word_embeddings=False)
    pair = itlens.load_pair(untied, other, check=False)
    for alpha, parts in ((1e-6, None), (1, "mlp")):
        with pytest.raises(
            PairError, match=r"rotary_base 10000.* and 50000.*eps 1e-06 and 0\.0001.*nothing lies between"
        ):
            itlens.interpolate(pair, alpha, parts)
    for alpha, own in ((0, pair.base), (1, pair.tuned)):
        assert torch.equal(itlens.interpolate(pair, alpha)(IDS), own(IDS)), alpha


def test_a_pairs_own_arguments_hold_where_the_caller_gives_none(folders: dict[str, tuple[Path, Path]]) -> None:
    between = Interpolation(pair_of(folders, "llama", "bridge", dtype="float64", tokenizer=False), 0.5)
    plain = source_of(itlens.load_model(between))
    assert (plain.dtype, plain.backend, plain.tokenizer, plain.check) == ("float64", "bridge", None, {})
    given = source_of(itlens.load_model(between, dtype="bfloat16", backend="hooked"))
    assert (given.dtype, given.backend, given.tokenizer) == ("bfloat16", "hooked", None)


def test_the_embedding_and_a_layer_are_both() -> None:
    moved = {"embed.W_E": True, "blocks.1.attn.W_Q": True, "blocks.1.mlp.W_in": True, "blocks.0.attn.W_Q": False}
    assert {name: is_part(name, ("embedding", 1)) for name in moved} == moved
    assert [is_part(name, ("embedding", "mlp", 1)) for name in moved] == [True, False, True, False]
    assert [is_part(name, "embedding") for name in moved] == [True, False, False, False]


def test_a_norm_behind_attention_is_of_attention() -> None:
    from transformers import Olmo2Config, Olmo2ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 4}
    host, other = (Olmo2ForCausalLM(Olmo2Config(**sizes, vocab_size=50)) for _ in range(2))
    blend(host, other, "attention", lambda own, their: own + 1)
    norms = {
        name.split(".")[-2]: float(v.detach().mean())
        for name, v in host.named_parameters()
        if "feedforward" in name or "attention" in name
    }
    assert norms == {"post_attention_layernorm": 2.0, "post_feedforward_layernorm": 1.0}


def test_alpha_is_a_number_of_its_own_kind(folders: dict[str, tuple[Path, Path]]) -> None:
    pair = pair_of(folders, "llama")
    marks = {Interpolation(pair, alpha).side("tuned").revision for alpha in (1, 1.0, np.float64(1))}
    assert len(marks) == 1


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), "0.5", None, True])
def test_alpha_that_is_no_finite_number(folders: dict[str, tuple[Path, Path]], alpha: Any) -> None:
    with pytest.raises(ModelError, match=r"interpolate got alpha=.*; expected a finite number"):
        itlens.interpolate(pair_of(folders, "llama"), alpha)


@pytest.mark.parametrize("parts", ["heads", 2, -1, [], ["mlp", 7], 0.5, True])
def test_parts_that_there_are_not(folders: dict[str, tuple[Path, Path]], parts: Any) -> None:
    with pytest.raises(ModelError, match=r"interpolate got parts.*expected attention, mlp, embedding"):
        itlens.interpolate(pair_of(folders, "llama"), 0.5, parts)


def test_no_pair_and_models_of_other_sizes(folders: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    with pytest.raises(PairError, match=r"interpolate got a str; expected a pair: itlens\.load_pair\(base, tuned\)"):
        itlens.interpolate("base", 0.5)  # type: ignore[arg-type]
    larger = tiny_folder(tmp_path / "larger", "llama", seed=2, intermediate_size=60)
    with pytest.raises(PairError, match="expected equal shapes: nothing lies between them"):
        itlens.interpolate(itlens.load_pair(folders["llama"][0], larger, check=False), 0.5)
