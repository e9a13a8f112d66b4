"""Activation shift: every number by plain loops, planted differences in one place, nulls, both backends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import itlens
from itlens.hooked.tokens import forced
from itlens.weights import weights_of
from tests.findings.activation.shift_reference import (
    PROMPTS,
    altered,
    by_loops,
    cached,
    divergence,
    load,
    network,
    of_class,
)
from tests.findings.activation.test_kernel_alignment import direct_cka
from tests.tiny import BACKENDS

NAMES = ("relative_change", "cosine", "norm_ratio")
LAYER, HEAD, SIZE = 1, 2, 12  # the planted head, and a head's size in the tiny llama
CUT = 300_000  # bytes: less than all positions, more than those that predict


def shift(pair: Any, **options: Any) -> xr.Dataset:
    return itlens.activation_shift(pair, PROMPTS, **{"responses": "given", "progress": False} | options)


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    return load(network(seed=0)), load(network(seed=1))


@pytest.fixture(scope="module")
def found(pair: tuple[Any, Any]) -> xr.Dataset:
    return shift(pair)


def test_numbers_are_those_of_plain_loops(pair: tuple[Any, Any], found: xr.Dataset) -> None:
    read = forced(pair[0], PROMPTS)
    for one in read:
        got = found.sel(prompt=one.id, layer=LAYER)
        names = [f"blocks.{LAYER}.{name}" for name in ("hook_resid_post", "hook_mlp_out", "attn.hook_z")]
        base, tuned = (cached(model, one, *names, f"blocks.{LAYER}.attn.hook_pattern") for model in pair)
        outs = [weights_of(model).attention(LAYER).W_O[HEAD] for model in pair]
        vectors = {
            "resid": (base[0], tuned[0]),
            "mlp": (base[1], tuned[1]),
            "z": (base[2][:, HEAD], tuned[2][:, HEAD]),
            "result": (base[2][:, HEAD] @ outs[0], tuned[2][:, HEAD] @ outs[1]),
        }
        for kind, sides in vectors.items():
            for token_class in found.token_class.values:
                expected = by_loops(*sides, of_class(one, token_class))
                for name in NAMES:
                    value = got[f"{kind}_{name}"].sel(token_class=token_class)
                    value = value.sel(head=HEAD) if "head" in value.dims else value
                    np.testing.assert_allclose(value, expected[name], atol=1e-10, err_msg=f"{kind} {name}")
        expected_jsd = divergence(base[3][HEAD], tuned[3][HEAD], list(one.positions))
        assert float(got.pattern_jsd.sel(head=HEAD)) == pytest.approx(expected_jsd, abs=1e-10)
        assert got.token_count.sel(token_class="all") == len(one.read)
    assert (found.pattern_jsd > 1e-3).any() and (found.pattern_jsd <= np.log(2)).all()


def test_alignment_is_over_the_tokens_of_all_prompts(pair: tuple[Any, Any], found: xr.Dataset) -> None:
    names = [f"blocks.{LAYER}.{name}" for name in ("hook_resid_post", "attn.hook_z")]
    sides = []
    for model in pair:
        runs = [cached(model, one, *names) for one in forced(pair[0], PROMPTS)]
        out = weights_of(model).attention(LAYER).W_O[HEAD]
        parts = [(resid, z[:, HEAD], z[:, HEAD] @ out) for resid, z, _ in runs]
        everything = [torch.cat(part).numpy() for part in zip(*parts, strict=True)]
        rest = [torch.cat([value[1:] for value in part]).numpy() for part in zip(*parts, strict=True)]
        sides.append({"all": everything, "rest": rest})
    for tokens in ("all", "rest"):
        expected = [direct_cka(x, y) for x, y in zip(sides[0][tokens], sides[1][tokens], strict=True)]
        at = found.sel(layer=LAYER, cka_tokens=tokens)
        got = [float(at.resid_cka), float(at.z_cka.sel(head=HEAD)), float(at.result_cka.sel(head=HEAD))]
        np.testing.assert_allclose(got, expected, atol=1e-8)


def test_identical_models_are_not_apart(pair: tuple[Any, Any]) -> None:
    same = shift((pair[0], load(network(seed=0))))
    for name, value in same.data_vars.items():
        values = value.values[np.isfinite(value.values)]
        if str(name).endswith(("relative_change", "_jsd")):
            assert (values == 0).all(), name
        elif str(name).endswith(("cosine", "norm_ratio")):
            assert (values == 1).all(), name
        elif str(name).endswith("_cka"):
            np.testing.assert_allclose(values, 1.0, atol=1e-10, err_msg=str(name))
        elif "_kl_" in str(name):
            np.testing.assert_allclose(values, 0.0, atol=1e-12, err_msg=str(name))
    np.testing.assert_array_equal(same.commitment.sel(model="base"), same.commitment.sel(model="tuned"))


def columns(head: int) -> slice:
    return slice(head * SIZE, (head + 1) * SIZE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_change_of_one_head_is_seen_there_only(backend: str) -> None:
    """Of its W_O, so that queries, keys, values and patterns of the layer stay."""
    base = network()

    def alter(model: Any) -> None:
        model.model.layers[LAYER].self_attn.o_proj.weight[:, columns(HEAD)] *= -0.5

    ds = shift((load(base, backend), load(altered(base, alter), backend)))
    change = ds.result_relative_change.sel(token_class="all")
    np.testing.assert_allclose(change.sel(layer=LAYER, head=HEAD), 1.5, atol=1e-10)
    others = change.where(~((change.layer == LAYER) & (change["head"] == HEAD)), 0.0)
    assert (others == 0).all() and (ds.z_relative_change.sel(token_class="all") == 0).all()
    assert (ds.pattern_jsd == 0).all()
    resid = ds.resid_relative_change.sel(token_class="all")
    assert (resid.sel(layer=0) == 0).all() and (resid.sel(layer=LAYER) > 0.01).all()
    np.testing.assert_allclose(ds.result_cosine.sel(layer=LAYER, head=HEAD, token_class="all"), -1, atol=1e-10)
    np.testing.assert_allclose(ds.result_cka, 1.0, atol=1e-8, err_msg="scale does not count")
    np.testing.assert_allclose(ds.lens_kl_base_tuned.sel(layer=0), 0.0, atol=1e-12)
    assert (ds.lens_kl_base_tuned.sel(layer=LAYER) > 1e-4).all()


def test_another_basis_of_the_values_is_no_change_of_what_is_written() -> None:
    """W_V R and R' W_O: other coordinates of the same function (one key-value head per query head)."""
    base = network(num_key_value_heads=4)
    rotation = torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64, generator=torch.manual_seed(0)))[0]

    def alter(model: Any) -> None:
        attention = model.model.layers[LAYER].self_attn
        attention.v_proj.weight[columns(HEAD)] = rotation.T @ attention.v_proj.weight[columns(HEAD)]
        attention.o_proj.weight[:, columns(HEAD)] = attention.o_proj.weight[:, columns(HEAD)] @ rotation

    ds = shift((load(base), load(altered(base, alter)))).sel(layer=LAYER)
    z = ds.z_relative_change.sel(token_class="all")
    assert (z.sel(head=HEAD) > 0.3).all() and (z.drop_sel(head=HEAD) == 0).all()
    np.testing.assert_allclose(ds.result_relative_change.sel(token_class="all"), 0.0, atol=1e-10)
    np.testing.assert_allclose(ds.result_cosine.sel(token_class="all"), 1.0, atol=1e-12)
    np.testing.assert_allclose(ds.result_cka, 1.0, atol=1e-10)
    np.testing.assert_allclose(ds.resid_relative_change.sel(token_class="all"), 0.0, atol=1e-10)
    np.testing.assert_allclose(ds.z_norm_ratio.sel(token_class="all"), 1.0, atol=1e-10)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_both_backends_agree(architecture: str) -> None:
    networks = [network(architecture, seed, torch.float32) for seed in (0, 1)]
    options = {"lens_positions": "all"}
    hooked = shift([load(one, "hooked", "float32") for one in networks], **options)
    bridge = shift([load(one, "bridge", "float32") for one in networks], **options)
    assert set(hooked.data_vars) == set(bridge.data_vars)
    for name, value in hooked.drop_vars(["lens_rank", "commitment", "commitment_first"]).data_vars.items():
        np.testing.assert_allclose(value, bridge[name], rtol=2e-3, atol=2e-4, err_msg=str(name))


def test_a_sample_of_positions_gives_the_same_numbers_there(pair: tuple[Any, Any], found: xr.Dataset) -> None:
    part = shift(pair, cache_bytes=CUT)
    assert part.attrs["positions_kept"] < part.attrs["positions_all"] == found.attrs["positions_kept"]
    assert (
        part.attrs["note"]
        == f"{part.attrs['positions_kept']} of {part.attrs['positions_all']} positions were kept (cache_bytes)"
    )
    read = forced(pair[0], PROMPTS)
    counts = part.token_count.sel(token_class="all")
    assert len(set(counts.values.tolist()) - {len(one.read) for one in read}) <= 1, "as many of each prompt"
    np.testing.assert_array_equal(
        part.token_count.sel(token_class="response"), found.token_count.sel(token_class="response")
    )
    for name in ("resid_relative_change", "result_cosine"):  # responses are kept whole
        sides = (ds[name].sel(token_class="response") for ds in (part, found))
        np.testing.assert_allclose(*sides, atol=1e-12, err_msg=name)
    for name in ("pattern_jsd", "lens_logprob", "lens_kl_tuned_base", "commitment"):
        np.testing.assert_allclose(part[name], found[name], atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(part.resid_cosine, shift(pair, cache_bytes=CUT).resid_cosine)
    assert not part.resid_cosine.equals(shift(pair, cache_bytes=CUT, seed=1).resid_cosine)


def test_only_what_is_asked_is_computed(pair: tuple[Any, Any], found: xr.Dataset) -> None:
    few = shift(pair, hooks=("lens", "pattern"))
    assert {str(name).split("_")[0] for name in few.data_vars} == {"lens", "pattern", "commitment", "token"}
    xr.testing.assert_equal(few.lens_kl_base_tuned, found.lens_kl_base_tuned)


def test_responses_are_one_models(pair: tuple[Any, Any]) -> None:
    own = itlens.activation_shift(pair, PROMPTS[0], max_new_tokens=4, hooks="resid")
    other = itlens.activation_shift(pair, PROMPTS[0], responses="base", max_new_tokens=4, hooks="resid")
    read = forced(pair[1], PROMPTS[0].replace(response=None), max_new_tokens=4)
    again = itlens.activation_shift(pair, read, hooks="resid")
    xr.testing.assert_equal(own, again)
    assert not own.equals(other) and again.attrs["responses"] == "forced" and own.attrs["responses"] == "tuned"


def test_result_is_kept_in_a_file(found: xr.Dataset, tmp_path: Any) -> None:
    itlens.save(found, tmp_path / "shift.nc")
    xr.testing.assert_identical(itlens.load(tmp_path / "shift.nc"), found)
