"""Summaries of a run: by hand, by plain loops over every activation, on both backends, with a planted head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.errors import ModelError, ProbeError, PromptError
from itlens.findings.activation.probe_statistics import sparsity
from itlens.hooked.tokens import CLASSES, Forced, forced
from tests.findings.activation.activation_models import PROMPTS, seen, shared, tiny
from tests.tiny import BACKENDS


def by_loops(model: Any, one: Forced) -> dict[str, np.ndarray]:
    """All statistics but the lens's, position by position, from all activations of a float64 llama."""
    layers, heads = range(model.cfg.n_layers), range(model.cfg.n_heads)
    points = ("attn.hook_pattern", "mlp.hook_post", "hook_mlp_out", "hook_resid_mid", "hook_resid_pre")
    points += ("hook_resid_post", "attn.hook_z")
    got = seen(model, one.read, *(f"blocks.{layer}.{name}" for layer in layers for name in points))
    out: dict[str, list[Any]] = {}

    def note(name: str, where: tuple[int, ...], values: list[float]) -> None:
        out.setdefault(name, []).append((where, sum(values) / len(values) if values else np.nan))

    for layer in layers:
        at = {name: got[f"blocks.{layer}.{name}"] for name in points}
        W_O = model.blocks[layer].attn.W_O.detach().numpy()
        norm = np.linalg.norm
        stream = {q: norm(at["hook_resid_pre"][q]) for q in one.positions}
        post = {q: np.abs(at["mlp.hook_post"][q]) for q in one.positions}
        rms = {q: np.sqrt(np.mean(post[q] ** 2)) for q in one.positions}
        note("mlp_participation", (layer,), [a.sum() ** 2 / (a.size * (a**2).sum()) for a in post.values()])
        note("mlp_zero", (layer,), [np.mean(a == 0) for a in post.values()])
        note("mlp_near_zero", (layer,), [np.mean(post[q] < 0.1 * rms[q]) for q in one.positions])
        added = [norm(at["hook_mlp_out"][q]) / norm(at["hook_resid_mid"][q]) for q in one.positions]
        note("mlp_relative_norm", (layer,), added)
        note("resid_rms", (layer,), [np.sqrt(np.mean(at["hook_resid_post"][q] ** 2)) for q in one.positions])
        for head in heads:
            rows = {q: at["attn.hook_pattern"][head, q, : q + 1] for q in one.positions}
            entropy = {q: -sum(p * np.log(p) for p in row if p > 0) for q, row in rows.items()}
            note("attention_entropy", (layer, head), list(entropy.values()))
            share = [entropy[q] / np.log(q + 1) for q in one.positions]
            note("attention_entropy_share", (layer, head), share)
            result = {q: norm(at["attn.hook_z"][q, head] @ W_O[head]) for q in one.positions}
            note("head_z_norm", (layer, head), [norm(at["attn.hook_z"][q, head]) for q in one.positions])
            note("head_result_norm", (layer, head), list(result.values()))
            note("head_relative_norm", (layer, head), [result[q] / stream[q] for q in one.positions])
            for number in range(len(CLASSES)):
                keys = {q: [k for k in range(q + 1) if one.classes[k] == number] for q in one.positions}
                mass = [sum(rows[q][k] for k in keys[q]) for q in one.positions] if any(keys.values()) else []
                even = sum(len(keys[q]) / (q + 1) for q in one.positions)
                note("attention_mass", (layer, head, number), mass)
                note("attention_lift", (layer, head, number), [sum(mass) / even] if mass else [])
    return {name: np.array([value for _, value in sorted(rows)]) for name, rows in out.items()}


def test_every_statistic_is_what_plain_loops_over_all_activations_give() -> None:
    model = shared("llama", dtype="float64")
    ds = itlens.activations(model, PROMPTS, hooks=("attention", "mlp", "norms"))
    for one in forced(model, PROMPTS):
        expected = by_loops(model, one)
        assert set(expected) == set(ds.data_vars)
        for name, values in expected.items():
            np.testing.assert_allclose(ds[name].sel(prompt=one.id).values.ravel(), values, rtol=1e-9, err_msg=name)
    assert np.isnan(ds.attention_mass.sel(prompt="b", token_class="context")).all(), "there is no context"
    np.testing.assert_allclose(ds.attention_mass.sum("token_class"), 1.0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_heads_without_a_preference_by_hand(backend: str) -> None:
    """With W_Q = 0 all keys are equal: mass is the share of tokens, entropy the logarithm of their number."""
    model = tiny("llama", backend)
    with torch.no_grad():
        for block in model.blocks:
            weight = block.attn.W_Q if backend == "hooked" else block.attn.q.original_component.weight
            weight.zero_()
    ds = itlens.activations(model, PROMPTS[1], hooks="attention")
    (one,) = forced(model, PROMPTS[1])
    readable = np.array(one.positions) + 1.0
    np.testing.assert_allclose(ds.attention_entropy, np.log(readable).mean(), rtol=1e-6)
    np.testing.assert_allclose(ds.attention_entropy_share, 1.0, rtol=1e-6)
    np.testing.assert_allclose(ds.attention_mass.sel(token_class="first"), (1 / readable).mean(), rtol=1e-6)
    there = ds.token_share.values[0] > 0
    np.testing.assert_allclose(ds.attention_lift.values[..., there], 1.0, rtol=1e-6)
    assert np.isnan(ds.attention_lift.values[..., ~there]).all()


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "opt", "gemma2"])
def test_both_backends_agree(architecture: str) -> None:
    one, other = (itlens.activations(shared(architecture, backend), PROMPTS) for backend in BACKENDS)
    assert set(one.data_vars) == set(other.data_vars)
    for name in one.data_vars:
        np.testing.assert_allclose(one[name], other[name], rtol=2e-4, atol=2e-5, err_msg=str(name))
        assert one[name].attrs["long_name"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "gemma3"])
def test_a_layer_of_one_head_writes_what_that_head_writes(architecture: str, backend: str) -> None:
    """Also behind a norm after attention; and the stream an MLP is added to is the one before it."""
    single = {"n_head": 1} if architecture == "gpt2" else {"num_attention_heads": 1, "num_key_value_heads": 1}
    model = tiny(architecture, backend, **single)
    if architecture == "gpt2":
        with torch.no_grad():  # the bias belongs to no head
            for block in model.blocks:
                (block.attn.b_O if backend == "hooked" else block.attn.o.original_component.bias).zero_()
    ds = itlens.activations(model, PROMPTS[0], hooks=("norms", "mlp"))
    (one,) = forced(model, PROMPTS[0])
    for layer in range(model.cfg.n_layers):
        points = [f"blocks.{layer}.{name}" for name in ("hook_attn_out", "hook_resid_mid", "hook_mlp_out")]
        written, middle, mlp = (seen(model, one.read, *points)[name][list(one.positions)] for name in points)
        norms = np.linalg.norm(written, axis=1)
        np.testing.assert_allclose(ds.head_result_norm.sel(layer=layer).item(), norms.mean(), rtol=1e-4)
        share = np.linalg.norm(mlp, axis=1) / np.linalg.norm(middle, axis=1)
        np.testing.assert_allclose(ds.mlp_relative_norm.sel(layer=layer).item(), share.mean(), rtol=1e-4)


def test_sparsity_by_hand() -> None:
    post = torch.tensor([[2.0, 0, 0, 0], [1, -1, 1, -1], [0, 0, 0, 0], [10, 10, 0.1, 0]])
    found = sparsity(post)
    participation = [1 / 4, 1.0, 0.0, 20.1**2 / (4 * 200.01)]
    np.testing.assert_allclose(found["mlp_participation"], participation, rtol=1e-6)
    np.testing.assert_allclose(found["mlp_zero"], [0.75, 0.0, 1.0, 0.25])
    np.testing.assert_allclose(found["mlp_near_zero"], [0.75, 0.0, 1.0, 0.5])
    half = sparsity(torch.full((1, 4), 3e4, dtype=torch.float16))  # its square is infinite in half precision
    assert half["mlp_participation"].tolist() == [1.0]


def test_a_planted_head_shows_up_at_its_place_and_nowhere_before() -> None:
    """Head L1H2 of a GPT-2 gets keys that are 1 on the instruction and 0 elsewhere, and a constant query."""
    model, (one,) = tiny("gpt2", dtype="float64", n_layer=3, n_embd=48), forced(shared("gpt2"), PROMPTS[:1])
    before = itlens.activations(model, [one], hooks="attention")
    attn, ln1 = model.blocks[1].attn, model.blocks[1].ln1
    assert len(one.read) < 48, "else the keys cannot be chosen freely"
    resid = seen(model, one.read, "blocks.1.hook_resid_pre")["blocks.1.hook_resid_pre"]
    inputs = ln1(torch.tensor(resid)[None])[0].detach().numpy()
    wanted = np.zeros(len(one.read))
    wanted[one.of_class("instruction")] = 1.0
    with torch.no_grad():
        for weight in (attn.W_Q[2], attn.W_K[2], attn.b_Q[2], attn.b_K[2]):
            weight.zero_()
        attn.W_K[2, :, 0] = torch.tensor(np.linalg.lstsq(inputs, wanted, rcond=None)[0])
        attn.b_Q[2, 0] = 20 * np.sqrt(model.cfg.d_head)
    after = itlens.activations(model, [one], hooks="attention")
    mass = after.attention_mass.sel(token_class="instruction")[0]
    assert mass.sel(layer=1, head=2) > 0.999 > before.attention_mass.sel(token_class="instruction").max()
    changed = np.abs(after.attention_mass - before.attention_mass).max("token_class")[0]
    assert changed.sel(layer=0).max() == 0 and changed.sel(layer=1).drop_sel(head=2).max() == 0
    assert changed.sel(layer=2).min() > 0, "later layers read what it writes"
    np.testing.assert_allclose(after.attention_entropy.sel(layer=1, head=2), np.log(wanted.sum()), atol=1e-3)


def test_tokens_made_once_are_read_by_every_model() -> None:
    model = shared("llama")
    texts = forced(model, PROMPTS)
    one, other = itlens.activations(model, (prompt for prompt in PROMPTS)), itlens.activations(model, texts)
    assert one.equals(other) and one.attrs["format"] == "raw" and "format" not in other.attrs
    assert one.group.values.tolist() == ["words", "lists"] and one.targets.values.tolist() == [
        len(text.targets) for text in texts
    ]
    np.testing.assert_array_equal(one.tokens.sum("token_class"), [len(text.read) for text in texts])
    np.testing.assert_allclose(one.token_share.sum("token_class"), 1.0)
    longer = itlens.activations(model, PROMPTS, responses={"a": " no"}, hooks="norms")
    same = (longer.tokens_digest == one.tokens_digest).values
    assert same.tolist() == [False, True]


def test_one_forward_pass_a_prompt_and_nothing_stays_hooked(monkeypatch: pytest.MonkeyPatch) -> None:
    model = shared("llama")
    runs: list[int] = []
    whole = model.run_with_hooks

    def counted(*args: Any, **more: Any) -> Any:
        runs.append(1)
        return whole(*args, **more)

    monkeypatch.setattr(model, "run_with_hooks", counted)
    told: list[tuple[int, int]] = []
    itlens.activations(model, PROMPTS, progress=lambda done, count: told.append((done, count)))
    assert len(runs) == len(PROMPTS) and told == [(1, 2), (2, 2)]
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_half_precision_is_summed_in_single() -> None:
    single, half = (itlens.activations(shared("llama", dtype=name), PROMPTS) for name in ("float32", "bfloat16"))
    np.testing.assert_allclose(half.attention_mass.sum("token_class"), 1.0, atol=0.01)
    np.testing.assert_allclose(half.resid_rms, single.resid_rms, rtol=0.05)
    np.testing.assert_allclose(half.lens_logprob, single.lens_logprob, rtol=0.1, atol=0.3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_finite_names_its_place(backend: str) -> None:
    model = tiny("llama", backend)
    with torch.no_grad():
        next(model.blocks[1].mlp.parameters()).fill_(torch.nan)
    with pytest.raises(ProbeError, match=r"layer 1 are not finite on prompt 'a'.*float32"):
        itlens.activations(model, PROMPTS, hooks="attention")
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    model = tiny("llama", backend)
    with torch.no_grad():
        next(model.unembed.parameters()).fill_(torch.nan)
    with pytest.raises(ProbeError, match="logits are not finite on prompt 'a'"):
        itlens.activations(model, PROMPTS, hooks="lens")


def test_wrong_input_is_one_sentence() -> None:
    model = shared("llama")
    with pytest.raises(
        ProbeError, match=r"'atention'; did you mean 'attention'\? expected attention, mlp, norms, lens"
    ):
        itlens.activations(model, PROMPTS, hooks=("atention",))
    with pytest.raises(
        ProbeError, match=r"no hook point 'blocks.0.hook_resid_pots'; the nearest are blocks.0.hook_res"
    ):
        itlens.activations(model, PROMPTS, hooks=("mlp", "blocks.0.hook_resid_pots"))
    with pytest.raises(ProbeError, match="named by text"):
        itlens.activations(model, PROMPTS, hooks=(3,))
    with pytest.raises(ProbeError, match="hooks= is empty"):
        itlens.activations(model, PROMPTS, hooks=())
    with pytest.raises(PromptError, match="There are no prompts"):
        itlens.activations(model, [])
    with pytest.raises(PromptError, match=r"prompts holds a int; expected an itlens\.Prompt, a text, or several"):
        itlens.activations(model, [3])  # type: ignore[list-item]
    with pytest.raises(ModelError, match=r"activations got 'gpt2' as the model; expected a loaded model"):
        itlens.activations("gpt2", "List three animals.")  # type: ignore[arg-type]
    texts = forced(model, PROMPTS)
    with pytest.raises(ProbeError, match="these are tokens already"):
        itlens.activations(model, texts, format="chat")
    with pytest.raises(ProbeError, match="Two prompts have the id 'a'"):
        itlens.activations(model, [texts[0], texts[0]])
    with pytest.raises(ProbeError, match=r"'a' was made for another model: .* ids up to 300, .* ids below 300"):
        itlens.activations(model, [replace(texts[0], targets=(300,), positions=(5,))])


def test_texts_are_prompts() -> None:
    """A text, or several, are what `Prompt`s of that text are, named by their place; one format reads both alike."""
    model, texts = shared("llama"), ["List three animals.", "A river flows."]
    named = [itlens.Prompt(text, id=f"prompt-{number:04d}") for number, text in enumerate(texts, 1)]
    how: dict[str, Any] = {"hooks": "norms", "max_new_tokens": 3, "progress": False}
    ds = itlens.activations(model, texts, **how)
    assert ds["prompt"].values.tolist() == ["prompt-0001", "prompt-0002"]
    assert ds.equals(itlens.activations(model, named, **how))
    single = itlens.activations(model, texts[0], **how)
    assert single.equals(ds.isel(prompt=[0]))
    framed = itlens.activations(model, texts[0], format="Q: {prompt}", **how)
    assert framed["tokens"].sel(token_class="template").item() > 0
    assert framed["tokens_digest"].item() != single["tokens_digest"].item()
