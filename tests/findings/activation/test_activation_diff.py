"""Differences of activation summaries: against the one-cell statistics, by label, under the null, in words."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import itlens
from itlens.errors import ResultError
from itlens.findings.activation.columns import effect_text
from itlens.stats.paired import MEASURES, adjust, cell_interval, paired_cells, paired_row
from tests.findings.activation.activation_results import moved, result


def test_every_cell_is_what_the_one_cell_statistics_say() -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(size=(15, 5))
    tuned = base + rng.normal(0.4, 1.0, size=(15, 5))
    tuned[:, 3], tuned[:, 4] = base[:, 3], base[:, 4] + 0.5
    found = paired_cells(base, tuned, resamples=500)
    for cell in range(5):
        row = paired_row(base[:, cell], tuned[:, cell], resamples=200)
        for name in ("n", "base_mean", "tuned_mean", "difference", "effect_size", "p_paired"):
            np.testing.assert_allclose(found[name][cell], row[name], rtol=1e-9, err_msg=name)
    assert found["p_paired"][3] == 1 and found["ci_low"][3] == found["ci_high"][3] == 0
    assert np.isnan(found["p_paired"][4]) and found["ci_low"][4] == pytest.approx(0.5)


def test_prompts_that_are_missing_in_a_cell_do_not_count_there() -> None:
    rng = np.random.default_rng(4)
    base, tuned = rng.normal(size=(9, 3)), rng.normal(size=(9, 3))
    base[:2, 1], tuned[:7, 2] = np.nan, np.nan
    found = paired_cells(base, tuned)
    few = paired_cells(base[2:, 1:2], tuned[2:, 1:2])
    assert found["n"].tolist() == [9, 7, 2]
    for name in ("base_mean", "tuned_mean", "difference", "effect_size", "p_paired"):
        np.testing.assert_allclose(found[name][1], few[name][0])
    assert np.isfinite(found["difference"][2]) and np.isnan(found["p_paired"][2]) and np.isnan(found["ci_low"][2])


def test_the_interval_is_the_percentile_bootstraps() -> None:
    d = np.random.default_rng(5).gamma(2.0, size=(30, 700))  # more cells than are taken at a time
    low, high = cell_interval(d, resamples=4000)
    for cell in (0, 699):
        own = stats.bootstrap((d[:, cell],), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
        assert low[cell] == pytest.approx(own.low, abs=0.05) and high[cell] == pytest.approx(own.high, abs=0.05)
    again = cell_interval(d, resamples=4000)
    assert (again[0] == low).all() and (again[1] == high).all()
    covered = (low < 2.0) & (high > 2.0)
    assert 0.89 < covered.mean() < 0.97, "30 values: somewhat under 95 %"


@pytest.mark.long
def test_the_null_keeps_five_per_cent() -> None:
    """200 draws of paired noise: single p-values reject 5 %, corrected ones find anything at all in 5 % of families."""
    single, families = [], []
    for draw in range(200):
        base = result(prompts=12, seed=2 * draw)[["attention_mass"]]
        base["group"] = ("prompt", [""] * 12)
        ds = itlens.diff.activations(base, moved(base, seed=2 * draw + 1), resamples=2)
        mass = ds.attention_mass.sel(group="all")
        single.append((mass.sel(measure="p_paired") < 0.05).mean().item())
        families.append((mass.sel(measure="p_bh") < 0.05).any(["layer", "head"]).mean().item())
    assert 0.04 < np.mean(single) < 0.06, np.mean(single)
    assert 0.02 < np.mean(families) < 0.08, np.mean(families)


def test_groups_measures_and_families() -> None:
    base = result()
    tuned = moved(base)
    ds = itlens.diff.activations(base, tuned)
    assert ds.group.values.tolist() == ["all", "one", "two"] and tuple(ds.measure.values) == MEASURES
    assert ds.prompts.values.tolist() == [12, 6, 6] == ds.same_tokens.values.tolist()
    assert ds.attention_mass.dims == ("group", "measure", "layer", "head", "token_class")
    assert ds.lens_commitment.dims == ("group", "measure")
    mass = ds.attention_mass.sel(group="two", token_class="first")
    odd = (tuned - base).attention_mass[1::2].sel(token_class="first")
    np.testing.assert_allclose(mass.sel(measure="difference"), odd.mean("prompt"))
    p = stats.ttest_1samp(odd.values.reshape(6, -1), 0).pvalue
    np.testing.assert_allclose(mass.sel(measure="p_paired").values.ravel(), p)
    np.testing.assert_allclose(mass.sel(measure="p_bh").values.ravel(), adjust(p, "fdr_bh"))
    one = ds.lens_commitment.sel(group="all")
    assert one.sel(measure="p_bh") == one.sel(measure="p_paired"), "a family of one"
    assert ds.attrs["base_model"] == "m0" and ds.attrs["same_tokens"] == 12


def test_small_groups_have_a_note_and_no_test() -> None:
    base = result(prompts=9)
    ds = itlens.diff.activations(base, moved(base))
    assert ds.note.values.tolist() == ["", "", "too few prompts for a test (n=4, at least 5 needed)"]
    two = ds.sel(group="two")
    assert np.isnan(two.resid_rms.sel(measure=["ci_low", "ci_high", "effect_size", "p_paired", "p_bh"])).all()
    assert np.isfinite(two.resid_rms.sel(measure=["base_mean", "difference"])).all()


def test_prompts_are_matched_by_name_and_identical_models_do_not_differ() -> None:
    base = result()
    tuned = moved(base)
    shuffled = tuned.isel(prompt=np.random.default_rng(0).permutation(12))
    assert itlens.diff.activations(base, tuned).identical(itlens.diff.activations(base, shuffled))
    same = itlens.diff.activations(base, base)
    for name in same.data_vars:
        assert (same[name].sel(measure=["difference", "ci_low", "ci_high", "effect_size"]) == 0).all()
        assert (same[name].sel(measure=["p_paired", "p_bh"]) == 1).all()


def test_what_does_not_match_is_named() -> None:
    base = result()
    with pytest.raises(ResultError, match=r"tuned side is not a Dataset of itlens.activations"):
        itlens.diff.activations(base, xr.Dataset())
    with pytest.raises(ResultError, match="base side"):
        itlens.diff.activations({"a": base}, base)  # type: ignore[arg-type]
    with pytest.raises(ResultError, match=r"different labels on 'head' .3 and 4.; .* same shape"):
        itlens.diff.activations(base, result(heads=4))
    with pytest.raises(ResultError, match=r"2 prompts have base results but no tuned ones: p0, p1\."):
        itlens.diff.activations(base, base.isel(prompt=slice(2, None)))
    with pytest.raises(ResultError, match="1 prompts have tuned results but no base ones: p11"):
        itlens.diff.activations(base.isel(prompt=slice(0, 11)), base)
    with pytest.raises(ResultError, match=r"differ in format .'raw' and 'chat'"):
        itlens.diff.activations(base, result(format="chat"))
    with pytest.raises(ResultError, match="differ in hooks"):
        itlens.diff.activations(base, result(hooks="norms"))


def test_the_verdict_names_what_changed_most() -> None:
    base = result(prompts=20)
    tuned = moved(base)
    tuned["attention_mass"].loc[{"layer": 1, "head": 2, "token_class": "instruction"}] += 6.0
    said = itlens.diff.activations_verdict(itlens.diff.activations(base, tuned))
    assert said.startswith("1 of 24 activation statistics differs significantly (n = 20 prompts), most")
    tuned["lens_commitment"] = tuned["lens_commitment"] + 50.0  # of its own words: not what the verdict is about
    assert itlens.diff.activations_verdict(itlens.diff.activations(base, tuned)) == said
    assert "most consistently attention mass on instruction tokens in head L1H2: " in said
    assert "p < 0.001 after correction" in said
    assert "difference +5" in said or "difference +6" in said
    tuned["tokens_digest"] = ("prompt", ["other", *base.prompt.values[1:]])
    assert "different responses on 1 of 20 prompts" in itlens.diff.activations_verdict(
        itlens.diff.activations(base, tuned.set_coords("tokens_digest"))
    )


def test_what_is_the_same_on_every_prompt_is_not_named_first() -> None:
    """What a first layer does with the tokens of a template hardly depends on the prompt: its d_z has no bound."""
    base = result(prompts=20)
    tuned = moved(base)
    tuned["attention_mass"].loc[{"layer": 1, "head": 2, "token_class": "instruction"}] += 6.0
    place = {"layer": 0, "head": 0, "token_class": "first"}
    tuned["attention_mass"].loc[place] = base["attention_mass"].loc[place] + 0.5 + 1e-4 * np.arange(20) / 20
    said = itlens.diff.activations_verdict(itlens.diff.activations(base, tuned))
    assert "of 24 activation statistics differ significantly" in said
    assert "most consistently attention mass on instruction tokens in head L1H2: " in said


def test_a_small_change_is_not_named_first_however_consistent_it_is() -> None:
    base = result(prompts=20)
    tuned = moved(base)
    small = {"layer": 0, "head": 0, "token_class": "first"}
    large = {"layer": 1, "head": 2, "token_class": "instruction"}
    noise = np.random.default_rng(1).standard_normal(20)
    base["attention_mass"].loc[small] = base["attention_mass"].loc[small] * 0 + 10.0
    tuned["attention_mass"].loc[small] = 10.5 + 0.01 * noise  # by a twentieth, d_z about 50
    tuned["attention_mass"].loc[large] = base["attention_mass"].loc[large] + 6.0 + noise  # d_z about 6
    said = itlens.diff.activations_verdict(itlens.diff.activations(base, tuned))
    assert "most consistently attention mass on instruction tokens in head L1H2: " in said
    tuned["attention_mass"].loc[large] = base["attention_mass"].loc[large]
    said = itlens.diff.activations_verdict(itlens.diff.activations(base, tuned))
    assert "most consistently attention mass on first tokens in head L0H0: 10.5 in the tuned model, 10 in" in said


@pytest.mark.parametrize(
    ("effect", "words"),
    [(-3.794, "−3.79"), (99.999, "+100.00"), (4785.7, "> 100"), (-1969.6, "< −100"), (np.nan, "–")],
)
def test_a_d_z_beyond_a_hundred_says_no_more_than_that(effect: float, words: str) -> None:
    assert effect_text(effect) == words


def test_the_verdict_says_when_nothing_can_be_told() -> None:
    base = result()
    verdict = itlens.diff.activations_verdict
    assert verdict(itlens.diff.activations(base, moved(base))).startswith(
        "No significant change: none of 24 activation"
    )
    same = itlens.diff.activations(base, base)
    assert verdict(same) == "No change: no activation statistic differs in any prompt (n = 12)."
    few = itlens.diff.activations(base.isel(prompt=[0, 1]), moved(base).isel(prompt=[0, 1]))
    assert verdict(few) == "Not tested: too few prompts for a test (n=2, at least 5 needed)."
    with pytest.raises(ResultError, match=r"takes the Dataset of itlens.diff.activations"):
        verdict(base)
    with pytest.raises(ResultError, match="no group 'three'; there are all, one, two"):
        verdict(same, group="three")


def test_two_runs_of_one_model_and_a_kept_result(tmp_path: object) -> None:
    from tests.findings.activation.activation_models import PROMPTS, shared

    found = itlens.activations(shared("llama"), PROMPTS)
    ds = itlens.diff.activations(found, itlens.activations(shared("llama"), PROMPTS))
    assert all((abs(ds[name].sel(measure="difference")).fillna(0) == 0).all() for name in ds.data_vars)
    kept = itlens.load(itlens.save(ds, f"{tmp_path}/diff.nc"))
    assert kept.identical(ds)
