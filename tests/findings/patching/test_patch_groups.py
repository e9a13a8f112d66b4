"""Patching by group of prompts: each group's numbers are those of its prompts alone."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from statsmodels.stats.multitest import multipletests

import itlens
from itlens.errors import ResultError


def patched(prompts: int = 16, few: int = 2, seed: int = 0) -> xr.Dataset:
    """Head (0, 1) carries the gap in group "one", head (1, 0) in group "two"; group "few" has `few` prompts."""
    rng = np.random.default_rng(seed)
    group = np.array([("one", "two")[n % 2] for n in range(prompts)] + ["few"] * few)
    receiver, gap = rng.normal(-4, 1, group.size), rng.uniform(1, 2, group.size)
    effect = 0.02 * rng.normal(size=(group.size, 2, 3))
    effect[group == "one", 0, 1] += 0.8 * gap[group == "one"]
    effect[group == "two", 1, 0] += 0.5 * gap[group == "two"]
    return xr.Dataset(
        {
            "effect": (("prompt", "layer", "head"), effect),
            "donor": ("prompt", receiver + gap),
            "receiver": ("prompt", receiver),
        },
        coords={
            "prompt": [f"p{n}" for n in range(group.size)],
            "group": ("prompt", group),
            "layer": [0, 1],
            "head": [0, 1, 2],
        },
        attrs={"probe": "patch", "direction": "tuned->base", "what": "head"},
    )


def test_each_group_has_its_own_heads_and_its_own_tests() -> None:
    ds = patched()
    found = itlens.diff.patch_groups(ds)
    assert found.group.values.tolist() == ["all", "one", "two", "few"] and found.prompts.values.tolist() == [
        18,
        8,
        8,
        2,
    ]
    assert float(found.recovered.sel(group="one")[0, 1]) == pytest.approx(0.8, abs=0.03)
    assert float(found.recovered.sel(group="two")[1, 0]) == pytest.approx(0.5, abs=0.03)
    assert abs(float(found.recovered.sel(group="one")[1, 0])) < 0.03
    one = ds.isel(prompt=ds.group.values == "one")
    own, gap = one.effect.values, (one.donor - one.receiver).values
    np.testing.assert_allclose(found.recovered.sel(group="one"), own.sum(0) / gap.sum())
    p = stats.ttest_1samp(own, 0).pvalue
    np.testing.assert_allclose(found.p.sel(group="one"), p)
    corrected = multipletests(p.ravel(), method="fdr_bh")[1].reshape(2, 3)
    np.testing.assert_allclose(found.p_bh.sel(group="one"), corrected)
    low, high = (found[f"recovered_{end}"].sel(group="one")[0, 1] for end in ("low", "high"))
    assert low < 0.8 < high and float(found.gap.sel(group="one")) == pytest.approx(gap.mean())


def test_few_prompts_get_no_test_and_no_gap_gets_no_fraction() -> None:
    ds = patched()
    few = itlens.diff.patch_groups(ds).sel(group="few")
    assert np.isfinite(few.recovered).all() and few.p_bh.isnull().all() and few.recovered_low.isnull().all()
    assert "too few prompts" in str(few.note.values)
    ds["donor"] = ds.donor.where(ds.group != "two", ds.receiver)
    none = itlens.diff.patch_groups(ds).sel(group="two")
    assert none.recovered.isnull().all() and "does not differ between the models" in str(none.note.values)
    assert np.isfinite(none.p_bh).all(), "an effect can be tested without a gap"


@pytest.mark.long
def test_the_null_keeps_five_per_cent() -> None:
    found = [itlens.diff.patch_groups(noise(seed)).p_bh.sel(group="all").min().item() for seed in range(200)]
    assert np.mean(np.array(found) < 0.05) < 0.1, "a family of six in which anything is found"


def noise(seed: int) -> xr.Dataset:
    ds = patched(12, 0, seed)
    return ds.assign(effect=(ds.effect.dims, np.random.default_rng(seed).normal(size=ds.effect.shape)))


def test_other_results_are_one_sentence() -> None:
    for wrong in (None, xr.Dataset(), patched().drop_vars("effect")):
        with pytest.raises(ResultError, match=r"patch_groups takes a Dataset of .* with exact effects"):
            itlens.diff.patch_groups(wrong)
