"""Divergence on models: the four cells by hand, exact checks, brute force, changes in one block, passes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import itlens
from itlens.errors import PairError, ProbeError
from itlens.findings.divergence.probe import late_runs
from itlens.models import ModelPair
from itlens.prompts import Prompt
from tests.findings.divergence.two_blocks import gap, two_block_model
from tests.findings.patching.patch_pairs import PROMPTS, llama, pair_of
from tests.findings.token_shift.chains import chain, id_of, pair_of_chains
from tests.tiny import BACKENDS, tiny_tokenizer

LAYERS = 3
QUESTIONS = [prompt.replace(response=None) for prompt in PROMPTS]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_four_cells_by_hand(backend: str) -> None:
    """Base a = 1, b = 1; tuned a = 3, b = 2: the base writes B, the tuned model T."""
    pair = pair_of_chains(two_block_model(1, 1), two_block_model(3, 2), backend=backend)
    dv = itlens.divergence(pair, [Prompt("Q:", id="q")], 3, progress=False)
    assert (dv["token_base"].item(), dv["token_tuned"].item(), dv["position"].item()) == ("B", "T", 0)
    assert (dv["id_base"].item(), dv["id_tuned"].item(), dv["compared"].item()) == (id_of("B"), id_of("T"), 3)
    y = dv["logit_gap"].isel(prompt=0)
    written = {"base": (1.0, 1.0), "tuned": (3.0, 2.0)}
    for upstream, (a, b) in written.items():
        for late, (late_a, late_b) in written.items():
            expected = [gap(late_a, late_b), gap(a, late_b), gap(a, b)]
            np.testing.assert_allclose(y.sel(upstream=upstream, late=late), expected, rtol=1e-6)
    np.testing.assert_allclose(dv["logit_gap_tuned"], dv["logit_gap"], rtol=1e-12, err_msg="they share the readout")
    assert gap(1, 1) < 0 < gap(3, 2)


@pytest.fixture(scope="module")
def pair() -> ModelPair:
    return pair_of(llama(0, num_hidden_layers=LAYERS), llama(1, num_hidden_layers=LAYERS))


@pytest.fixture(scope="module")
def parted(pair: ModelPair) -> xr.Dataset:
    return itlens.divergence(pair, QUESTIONS, 4, progress=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_own_upstream_with_own_late_blocks_is_the_plain_run(backend: str) -> None:
    pair = pair_of(llama(0, num_hidden_layers=LAYERS), llama(1), backend=backend)
    tokens = [1, 70, 80, 90, 100]
    own, plain = late_runs(pair.base, tokens, torch.zeros(LAYERS, 5, 32, dtype=torch.float64))
    again, finals = late_runs(pair.base, tokens, own[:-1])
    torch.testing.assert_close(again, own, rtol=0, atol=0)
    torch.testing.assert_close(finals, plain[:1].expand(LAYERS + 1, -1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(own[-1, -1], plain[0], rtol=0, atol=0)
    with torch.no_grad():
        logits = pair.base(torch.tensor([tokens]))[0, -1]
        read = pair.base.unembed(pair.base.ln_final(finals[1][None, None]))[0, 0]
    torch.testing.assert_close(read, logits, rtol=1e-10, atol=1e-10)


def test_it_is_what_brute_force_gives(pair: ModelPair, parted: xr.Dataset) -> None:
    """Every cell by a run of its own, from `start_at_layer`, on whole streams of the other model."""
    from itlens.hooked.tokens import forced

    read = {one.id: one for one in forced(pair.tuned, QUESTIONS, max_new_tokens=4)}
    models = {"base": pair.base, "tuned": pair.tuned}
    for number in range(3):
        row = parted.isel(prompt=number)
        one = read[str(row["prompt"].item())]
        tokens = torch.tensor([one.read[: one.positions[int(row["position"])] + 1]])
        for upstream, model in models.items():
            with torch.no_grad():
                _, cache = model.run_with_cache(tokens)
            for late, other in models.items():
                for boundary in range(LAYERS):
                    with torch.no_grad():
                        stream = cache[f"blocks.{boundary}.hook_resid_pre"]
                        _, kept = other.run_with_cache(stream, start_at_layer=boundary)
                        last = kept[f"blocks.{LAYERS - 1}.hook_resid_post"][:, -1:]
                        logits = pair.base.unembed(pair.base.ln_final(last))[0, 0]
                    expected = float(logits[int(row["id_tuned"])] - logits[int(row["id_base"])])
                    found = row["logit_gap"].sel(boundary=boundary, upstream=upstream, late=late)
                    assert float(found) == pytest.approx(expected, abs=1e-8)


def test_the_answers_part_where_the_greedy_answers_do(pair: ModelPair, parted: xr.Dataset) -> None:
    from itlens.hooked.tokens import forced

    answers = {
        side: forced(model, QUESTIONS, max_new_tokens=4) for side, model in (("b", pair.base), ("t", pair.tuned))
    }
    for number, (base, tuned) in enumerate(zip(answers["b"], answers["t"], strict=True)):
        differ = next(i for i, (x, y) in enumerate(zip(base.targets, tuned.targets, strict=True)) if x != y)
        row = parted.isel(prompt=number)
        assert row["position"] == differ
        assert (row["id_base"], row["id_tuned"]) == (base.targets[differ], tuned.targets[differ])


def test_who_writes_does_not_matter(pair: ModelPair, parted: xr.Dataset) -> None:
    other = itlens.divergence(pair, QUESTIONS, 4, responses="base", progress=False)
    for name in ("position", "id_base", "id_tuned"):
        np.testing.assert_array_equal(other[name], parted[name])
    np.testing.assert_allclose(other["logit_gap"], parted["logit_gap"], atol=1e-9)


def test_rows_at_a_time_do_not_matter(pair: ModelPair, parted: xr.Dataset) -> None:
    one_by_one = itlens.divergence(pair, QUESTIONS[:2], 4, batch_size=2, progress=False)
    np.testing.assert_allclose(one_by_one["logit_gap"], parted["logit_gap"][:2], atol=1e-9)


def test_both_backends_agree(parted: xr.Dataset) -> None:
    base, tuned = (llama(seed, num_hidden_layers=LAYERS) for seed in (0, 1))
    bridged = itlens.divergence(pair_of(base, tuned, backend="bridge"), QUESTIONS[:2], 4, progress=False)
    np.testing.assert_array_equal(bridged["id_base"], parted["id_base"][:2])
    np.testing.assert_allclose(bridged["logit_gap"], parted["logit_gap"][:2], rtol=1e-4, atol=1e-5)


def with_block_of(base: Any, other: Any, block: int) -> Any:
    """A copy of `base` with one block of `other`."""
    tuned = copy.deepcopy(base)
    tuned.model.layers[block].load_state_dict(other.model.layers[block].state_dict())
    return tuned


@pytest.mark.parametrize("block", [0, LAYERS - 1])
def test_a_change_in_one_block_is_found_in_that_block_and_nowhere_else(block: int) -> None:
    base = llama(0, num_hidden_layers=LAYERS)
    tuned = with_block_of(base, llama(1, num_hidden_layers=LAYERS), block)
    dv = itlens.divergence(pair_of(base, tuned), QUESTIONS, 8, progress=False)
    effects = itlens.diff.divergence_effects(dv)
    assert effects.sizes["prompt"] >= 5
    others = [other for other in range(LAYERS) if other != block]
    np.testing.assert_allclose(effects["step"].sel(block=block), effects["total"], rtol=1e-9)
    np.testing.assert_allclose(effects["step"].sel(block=others), 0, atol=1e-9)
    depth = itlens.diff.divergence_depth(dv)
    np.testing.assert_allclose(depth["share"], (np.arange(LAYERS + 1) > block).astype(float), atol=1e-9)
    assert depth["half_depth"].iloc[0] == pytest.approx(block + 0.5)
    sentence = itlens.findings()["divergence"].verdict(tables_of(dv)).sentence
    assert f"The {'first' if block == 0 else 'second'} half of the blocks decides more" in sentence


def tables_of(dv: xr.Dataset) -> dict[str, Any]:
    return {
        "partings": itlens.diff.partings(dv),
        "divergence_depth": itlens.diff.divergence_depth(dv),
        "divergence_tests": itlens.diff.divergence_tests(dv),
    }


def test_equal_models_never_part_and_that_is_a_result() -> None:
    dv = itlens.divergence(pair_of(llama(0), llama(0)), QUESTIONS, 5, progress=False)
    assert dv["position"].isnull().all()
    assert dv["logit_gap"].isnull().all()
    assert dv["token_base"].values.tolist() == [""] * len(QUESTIONS)
    verdict = itlens.findings()["divergence"].verdict(tables_of(dv))
    assert (verdict.direction, verdict.tested) == ("none", True)
    assert verdict.sentence == (
        "No significant change: the greedy answers of both models are the same on all 6 prompts (as far as they were "
        "compared, at most 5 tokens)."
    )


def test_an_answer_that_ends_where_the_other_goes_on_parts_there() -> None:
    base = {"": {"a": 1.0}, "a": {"b": 0.9, ".": 0.1}, "b": {"c": 1.0}}
    tuned = {"": {"a": 1.0}, "a": {"b": 0.1, ".": 0.9}, "b": {"c": 1.0}}
    dv = itlens.divergence(pair_of_chains(chain(base), chain(tuned)), [Prompt("Q:", id="q")], 6, progress=False)
    assert (dv["position"].item(), dv["token_base"].item(), dv["token_tuned"].item()) == (1, "b", "</s>")
    y = dv["logit_gap"].isel(prompt=0)
    np.testing.assert_allclose(y.sel(upstream="base", late="base"), np.log(0.1 / 0.9), rtol=1e-6)
    np.testing.assert_allclose(dv["logit_gap_tuned"].sel(upstream="tuned", late="tuned"), np.log(9), rtol=1e-6)


def test_each_model_runs_twice_a_prompt() -> None:
    """Calls of blocks: two passes over the responses, two over the prefixes, at most (layers + 4) / 2 + 4 are allowed.
    By rows: of a batch that grows, half a pass more for each block."""
    pair = pair_of(llama(0, num_hidden_layers=LAYERS), llama(1, num_hidden_layers=LAYERS))
    rows = []
    for model in (pair.base, pair.tuned):
        for layer in range(LAYERS):
            point = model.hook_dict[f"blocks.{layer}.attn.hook_z"]
            point.add_perma_hook(lambda value, hook: rows.append(len(value)))
    given = [prompt for prompt in PROMPTS if prompt.response][:3]
    from itlens.hooked.tokens import forced

    read = forced(pair.tuned, given)
    rows.clear()
    dv = itlens.divergence(pair, read, progress=False)
    assert dv["position"].notnull().all()
    assert len(rows) / LAYERS / len(read) == 4 <= (LAYERS + 4) / 2 + 4
    assert sum(rows) / LAYERS / len(read) == LAYERS + 5


def test_other_tokenizers_and_unknown_choices_are_refused(pair: ModelPair) -> None:
    base = itlens.load_model(llama(0), tokenizer=tiny_tokenizer(), check=False)
    tuned = itlens.load_model(llama(1), tokenizer=tiny_tokenizer("metaspace"), check=False)
    with pytest.raises(PairError, match="only what reads each model by itself"):
        itlens.divergence((base, tuned), QUESTIONS)
    with pytest.raises(ProbeError, match="responses='given' is unknown"):
        itlens.divergence(pair, QUESTIONS, responses="given")  # type: ignore[arg-type]
    with pytest.raises(ProbeError, match="batch_size"):
        itlens.divergence(pair, QUESTIONS, batch_size=0)
