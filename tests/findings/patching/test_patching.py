"""Patching between models: everything is the donor, nothing the receiver, a planted head carries what it was given."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.findings.patching.probe_metrics import metric_of
from itlens.findings.patching.probe_parts import Part, parts_of
from itlens.findings.patching.probe_runs import ActivationPatches, Receiver, batches
from itlens.hooked.hooks import run_hooked
from itlens.hooked.tokens import forced
from itlens.models import pair as pair_module
from tests.findings.patching.patch_pairs import FULL_HEADS, PROMPTS, changed_heads, llama, pair_of, with_blocks_of
from tests.tiny import BACKENDS, hf_in_float64, tiny_folder, tiny_hf_model

ALL = [(layer, head) for layer in range(2) for head in range(4)]
GIVEN: dict[str, Any] = {"responses": "given", "progress": False, "controls": 5}
PLAIN = GIVEN | {"estimate": False, "curve": False}
# what the tuned model answers itself is likelier to it than to the base, so that the gap has one sign
OWN = GIVEN | {"responses": "tuned", "max_new_tokens": 5}
LAST = (1, 2)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both, and what Hugging Face computes in float32 in float64."""
    with hf_in_float64(llama()) if request.param == "bridge" else nullcontext():
        yield request.param


def exactly(got: Any, expected: Any, atol: float = 1e-10) -> None:
    np.testing.assert_allclose(np.asarray(got, dtype=float), np.asarray(expected, dtype=float), rtol=0, atol=atol)


@pytest.mark.parametrize("direction", ["tuned->base", "base->tuned"])
def test_the_last_residual_stream_carries_everything(backend: str, direction: str) -> None:
    base = llama()
    pair = pair_of(base, with_blocks_of(base, llama(1)), backend=backend)
    ds = itlens.patch(pair, PROMPTS, what="resid", direction=direction, **OWN)
    assert float(np.abs(ds.donor - ds.receiver).mean()) > 1 and "no curve" in ds.attrs["note"]
    exactly(ds.receiver + ds.effect.sel(layer=1), ds.donor, 1e-10 if backend == "hooked" else 1e-6)
    exactly(ds.recovered.sel(layer=1), 1, 1e-9 if backend == "hooked" else 1e-5)
    assert abs(float(ds.recovered.sel(layer=0)) - 1) > 0.01


def test_all_parts_together_are_the_donor_and_none_the_receiver(backend: str) -> None:
    base = llama()
    tuned = with_blocks_of(base, llama(1), kept=["o_proj"])  # z is read by the receiver's own W_O
    with torch.no_grad():
        tuned.model.embed_tokens.weight.mul_(1.5)
    pair = pair_of(base, tuned, backend=backend)
    (one,) = forced(pair.base, PROMPTS[:1])
    tokens, kept = torch.tensor([one.read]), {}

    def keep(value: torch.Tensor, hook: Any) -> None:
        kept[len(kept)] = value.detach()[0].clone()

    names = [name for layer in range(2) for name in (f"blocks.{layer}.attn.hook_z", f"blocks.{layer}.hook_mlp_out")]
    expected = run_hooked(
        pair.tuned, tokens, [(name, keep) for name in ("hook_embed", *names)], positions=one.positions
    )
    embedded, heads, mlps = kept[0], torch.stack([kept[1], kept[3]]), torch.stack([kept[2], kept[4]])
    receiver = Receiver(pair.base, [one], metric_of("logprob"))
    places = [np.arange(len(one.read))]
    hooks: list[Any] = [("hook_embed", lambda value, hook: embedded[None])]
    for what, given in (("head", heads), ("mlp", mlps)):
        parts = parts_of(pair.base.cfg, what, "head", None, None)
        patches = ActivationPatches(receiver, parts, places, lambda number, given=given: given)
        hooks += patches.hooks(0, [parts.listed()], given, torch.device("cpu"))
        assert patches([0], [[], []], lambda more: None)[0].tolist() == pytest.approx([receiver.own(0)] * 2, abs=1e-14)
    got = run_hooked(pair.base, tokens, hooks, positions=one.positions)
    exactly(got.detach(), expected.detach(), 1e-10 if backend == "hooked" else 1e-5)


@pytest.mark.parametrize("direction", ["tuned->base", "base->tuned"])
def test_a_head_that_differs_carries_all_of_it_and_others_nothing(backend: str, direction: str) -> None:
    base = llama(**FULL_HEADS)
    pair = pair_of(base, changed_heads(base, [LAST], ["q_proj", "v_proj"], scale=3), backend=backend)
    ds = itlens.patch(pair, PROMPTS, direction=direction, **OWN)
    exactly(ds.recovered.sel(layer=1, head=2), 1, 1e-8 if backend == "hooked" else 1e-4)
    others = [ds.recovered.sel(layer=layer, head=head) for layer, head in ALL if (layer, head) != LAST]
    exactly(others, 0, 1e-8 if backend == "hooked" else 1e-4)
    assert (int(ds.order_layer[0]), int(ds.order_head[0])) == LAST and float(ds.needed_80) == 1
    assert float(ds.joint[0]) == pytest.approx(1, abs=1e-4) == float(ds.joint[-1])
    assert float(ds.joint_random[0]) < 0.7 and float(ds.p_bh.sel(layer=1, head=2)) < 0.05


def test_a_head_in_an_early_layer_passes_it_on_to_later_heads() -> None:
    """So what later heads recover alone is part of what the early one recovers, not more of it."""
    base = llama(**FULL_HEADS)
    ds = itlens.patch(pair_of(base, changed_heads(base, [(0, 1)])), PROMPTS, **OWN)
    exactly(ds.recovered.sel(layer=0), [0, 1, 0, 0], 1e-9)
    assert float(np.abs(ds.recovered.sel(layer=1)).max()) > 0.02


@pytest.mark.parametrize("changed", [["v_proj", "o_proj"], ["q_proj", "k_proj"]])
def test_weights_of_the_head_that_differs_recover_all(backend: str, changed: list[str]) -> None:
    base = llama(**FULL_HEADS)
    pair = pair_of(base, changed_heads(base, [LAST], changed), backend=backend)
    ds = itlens.patch(pair, PROMPTS, what="weights", curve=False, **OWN)
    exactly(ds.recovered.sel(layer=1, head=2), 1, 1e-9 if backend == "hooked" else 1e-5)
    assert all(float(np.abs(ds.effect.sel(layer=x, head=y)).max()) < 1e-12 for x, y in ALL if (x, y) != LAST)
    assert "no first-order estimate" in ds.attrs["note"] and "estimated" not in ds


def test_shared_key_value_heads_need_their_group(backend: str) -> None:
    base = llama()  # heads 2 and 3 share key-value head 1
    pair = pair_of(base, changed_heads(base, [(0, 1)], ["k_proj", "v_proj"]), backend=backend)
    single = itlens.patch(pair, PROMPTS, what="weights", **PLAIN)
    assert float(np.abs(single.effect).max()) < 1e-12 and "2 query heads share" in single.attrs["note"]
    group = itlens.patch(pair, PROMPTS, what="weights", unit="group", curve=False, **OWN)
    assert group.recovered.dims == ("layer", "key_value_head")
    exactly(group.recovered, [[0, 1], [0, 0]], 1e-9 if backend == "hooked" else 1e-5)


@pytest.mark.parametrize(
    ("backend", "architecture"),
    [("hooked", "gpt2"), ("hooked", "gemma3"), ("bridge", "gpt_neox"), ("bridge", "qwen2"), ("bridge", "gpt2")],
)
def test_weights_of_every_block_are_the_donor(backend: str, architecture: str) -> None:
    base, other = (tiny_hf_model(architecture, seed) for seed in (0, 1))
    tuned, blocks = copy.deepcopy(base), (".layers.", ".h.")
    with torch.no_grad():
        theirs = dict(other.named_parameters())
        for name, parameter in tuned.named_parameters():
            if any(block in name for block in blocks):
                parameter.copy_(theirs[name])
    pair = pair_of(base, tuned, backend=backend, dtype="float32")
    ds = itlens.patch(pair, PROMPTS[:1], what="weights", unit="layer", **OWN | {"controls": 1})
    exactly(ds.joint[-1], 1, 1e-4)


@pytest.mark.parametrize("unit", ["head", "mlp", "layer"])
def test_the_receiver_is_itself_again_to_the_bit(backend: str, unit: str) -> None:
    pair = pair_of(llama(**FULL_HEADS), llama(1, **FULL_HEADS), backend=backend)
    before = {name: value.clone() for name, value in pair.base.state_dict().items()}
    strides = {name: value.stride() for name, value in pair.base.named_parameters()}

    def interrupted(logits: torch.Tensor, one: Any) -> torch.Tensor:
        # the first time that there are weights of the donor in it
        if any(not torch.equal(before[name], value) for name, value in pair.base.state_dict().items()):
            raise KeyboardInterrupt
        return logits.mean(dim=(1, 2))

    ask = GIVEN | {"what": "weights", "unit": unit, "controls": 1}
    itlens.patch(pair, PROMPTS[:2], **ask)
    with pytest.raises(KeyboardInterrupt):
        itlens.patch(pair, PROMPTS[:2], metric=interrupted, **ask)
    after = pair.base.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert strides == {name: value.stride() for name, value in pair.base.named_parameters()}


def test_backends_and_batches_agree() -> None:
    base, tuned = tiny_hf_model("gemma3"), tiny_hf_model("gemma3", 1)
    found = [
        itlens.patch(
            pair_of(base, tuned, backend=name, dtype="float32"),
            PROMPTS[:2],
            batch_size=size,
            **GIVEN | {"curve": False},
        )
        for name, size in (("hooked", None), ("hooked", 3), ("bridge", None))
    ]
    for other in found[1:]:
        for name in ("effect", "estimated_effect", "donor", "receiver"):
            exactly(other[name], found[0][name], 5e-4)


def test_batches_start_late_and_hold_every_set_once() -> None:
    sets = [[Part(layer, 0)] for layer in (3, 1, 1, 0, 3, 2)] + [[]]
    for size, length in ((2, 1), (4, 1), (8, 10_000), (1, 1)):
        got = list(batches(sets, size, length))
        assert sorted(row for rows in got for row in rows) == list(range(7)) and max(map(len, got)) <= size
    assert list(batches(sets, 8, 10_000)) == [[3, 6], [1, 2], [5], [0, 4]]


def test_identical_models_have_nothing_to_recover() -> None:
    base = llama()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = itlens.patch(pair_of(base, llama()), PROMPTS, **GIVEN)
    assert float(np.abs(ds.effect).max()) < 1e-12 and float(np.abs(ds.estimated_effect).max()) == 0
    assert ds.recovered.isnull().all() and ds.joint.isnull().all() and "nothing to recover" in ds.attrs["note"]


def test_positions_are_places_of_the_prompt() -> None:
    pair = pair_of(llama(), llama(1))
    read = forced(pair.base, PROMPTS[:2])
    shortest = min(len(one.read) for one in read)
    by = {
        str(positions): itlens.patch(pair, read, what="mlp", positions=positions, **PLAIN).effect
        for positions in ("all", "targets", "response", ["first", "response"], [0, shortest - 1])
    }
    one = min(read, key=lambda one: len(one.read))
    alone = itlens.patch(pair, [one], what="mlp", positions=list(one.positions), **PLAIN).effect
    exactly(alone[0], by["targets"].sel(prompt=one.id))
    whole = itlens.patch(pair, [one], what="mlp", positions=range(len(one.read)), **PLAIN).effect
    exactly(whole[0], by["all"].sel(prompt=one.id))
    different = [float(np.abs(by[a] - by[b]).max()) for a in by for b in by if a < b]
    assert min(different) > 1e-6


def test_a_prompt_without_such_a_token_has_no_effect() -> None:
    prompts = [PROMPTS[0].replace(context="A river"), PROMPTS[1]]
    ds = itlens.patch(pair_of(llama(), llama(1)), prompts, what="mlp", positions="context", estimate=True, **GIVEN)
    assert float(np.abs(ds.effect[1]).max()) < 1e-12 < float(np.abs(ds.effect[0]).max())
    assert float(np.abs(ds.estimated_effect[1]).max()) == 0


def test_subsets_keep_their_labels() -> None:
    pair = pair_of(llama(), llama(1))
    everything = itlens.patch(pair, PROMPTS[:2], **PLAIN)
    some = itlens.patch(pair, PROMPTS[:2], layers=1, heads=[3, 0], **GIVEN)
    assert some["head"].values.tolist() == [0, 3] and some["layer"].values.tolist() == [1]
    exactly(some.effect, everything.effect.sel(layer=[1], head=[0, 3]))
    assert some["count"].values.tolist() == [1, 2] and set(some.order_head.values) == {0, 3}


def test_responses_are_the_named_models_and_each_model_loads_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tiny_folder(tmp_path / name, "llama", seed=seed) for seed, name in enumerate(("base", "tuned"))]
    loaded: list[str] = []
    real = pair_module.load_model

    def noted(name_or_path: Path, **options: Any) -> Any:
        loaded.append(name_or_path.name)
        return real(name_or_path, **options)

    monkeypatch.setattr(pair_module, "load_model", noted)
    pair = itlens.load_pair(*folders)
    asked: dict[str, Any] = {"what": "mlp", "max_new_tokens": 3, "progress": False, "curve": False}
    found = {name: itlens.patch(pair, PROMPTS[:2], responses=name, **asked) for name in ("tuned", "base")}
    assert loaded == ["tuned", "base", "tuned", "base"], "to generate and give, to receive; to generate, to give, ..."
    assert found["tuned"].donor.values.tolist() != found["base"].donor.values.tolist()
    assert float(found["tuned"].donor.mean()) > float(found["tuned"].receiver.mean()), "it is the donor's own response"
    assert found["tuned"].attrs["base_model"] == str(folders[0])


def test_nothing_stays_on_the_disk(tmp_path: Path) -> None:
    pair = pair_of(llama(), llama(1))
    itlens.patch(pair, PROMPTS[:1], cache=tmp_path, **PLAIN)

    def broken(logits: torch.Tensor, one: Any) -> torch.Tensor:
        assert list(tmp_path.iterdir())
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        itlens.patch(pair, PROMPTS[:1], cache=tmp_path, metric=broken, **PLAIN)
    assert not list(tmp_path.iterdir())


def test_progress_counts_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    ask = GIVEN | {"progress": lambda done, all: told.append((done, all))}
    itlens.patch(pair_of(llama(), llama(1)), PROMPTS[:5], **ask)
    assert told[-1][0] == told[-1][1] and len({everything for _, everything in told}) == 1
    assert [done for done, _ in told] == sorted(done for done, _ in told)
