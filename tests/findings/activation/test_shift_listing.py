"""Summaries of a shift over prompts: by hand, per group, the ranking of heads, and tests that keep their level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import itlens
from itlens.errors import ResultError
from itlens.stats.paired import adjust

LAYERS, HEADS, CLASSES = 3, 4, ["instruction", "rest"]


def made(prompts: int = 12, seed: int = 0, longer: float = 0.0) -> xr.Dataset:
    """A result as `activation_shift` gives it; head (1, 2) moves most, layer 2 is longer by `longer` in log norm."""
    rng = np.random.default_rng(seed)
    change = rng.uniform(0.1, 0.2, (prompts, LAYERS, HEADS, 2))
    change[:, 1, 2] += 0.5
    change[::3, :, :, 0] = np.nan
    ratio = np.exp(0.1 * rng.standard_normal((prompts, LAYERS, 2)))
    ratio[:, 2] *= np.exp(longer)
    logprob = rng.standard_normal((prompts, 2, 2, LAYERS))
    axes = {"prompt": [f"p{n}" for n in range(prompts)], "layer": range(LAYERS), "head": range(HEADS)}
    return xr.Dataset(
        {
            "result_relative_change": (("prompt", "layer", "head", "token_class"), change),
            "result_cosine": (("prompt", "layer", "head", "token_class"), 1 - change),
            "resid_norm_ratio": (("prompt", "layer", "token_class"), ratio),
            "resid_cka": (("cka_tokens", "layer"), np.ones((2, LAYERS))),
            "lens_logprob": (("prompt", "stream", "readout", "layer"), logprob, {"unit": "nats"}),
            "token_count": (("prompt", "token_class"), np.ones((prompts, 2), dtype=int)),
        },
        coords=axes
        | {"group": ("prompt", np.array(["g"] * 3 + ["h"] * (prompts - 3), dtype=object)), "token_class": CLASSES}
        | {"stream": ["base", "tuned"], "readout": ["base", "tuned"], "cka_tokens": ["rest", "all"]},
        attrs={"probe": "activation_shift", "base_model": "b", "tuned_model": "t"},
    )


def test_means_and_intervals_by_group() -> None:
    ds = made()
    found = itlens.diff.shift_summary(ds, resamples=500)
    assert found["group"].values.tolist() == ["all", "g", "h"] and found.attrs["tuned_model"] == "t"
    assert set(found.data_vars) == {"result_relative_change", "result_cosine", "resid_norm_ratio", "lens_logprob"}
    cells = found.result_relative_change.sel(group="h")
    own = ds.result_relative_change[3:]
    np.testing.assert_allclose(cells.sel(summary="mean"), own.mean("prompt"))
    np.testing.assert_array_equal(cells.sel(summary="n"), np.isfinite(own).sum("prompt"))
    inside = (cells.sel(summary="ci_low") < own.mean("prompt")) & (cells.sel(summary="ci_high") > own.mean("prompt"))
    assert inside.all()
    one = own.values[:, 0, 0, 1]
    by_scipy = stats.bootstrap((one,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    np.testing.assert_allclose(cells.sel(summary=["ci_low", "ci_high"])[:, 0, 0, 1], by_scipy, atol=0.004)
    few = found.sel(group="g")
    assert "too few" in str(few.note.values) and np.isnan(few.resid_norm_ratio.sel(summary="ci_low")).all()


def test_heads_are_ranked() -> None:
    table = itlens.diff.shifted_heads(made(), resamples=200)
    assert table.loc[0, ["rank", "layer", "head"]].tolist() == [1, 1, 2] and len(table) == LAYERS * HEADS
    assert table["mean"].is_monotonic_decreasing and (table["ci_low"] <= table["mean"]).all()
    nearest = itlens.diff.shifted_heads(made(), by="result_cosine", token_class="instruction", group="h", resamples=200)
    assert nearest.loc[0, ["layer", "head"]].tolist() == [1, 2] and set(nearest["n"]) == {6}


def test_what_has_a_sign_is_tested() -> None:
    ds = made(longer=0.3)
    found = itlens.diff.shift_tests(ds, resamples=200)
    assert set(found.data_vars) == {"resid_log_norm_ratio", "lens_logprob"}
    cells = found.resid_log_norm_ratio.sel(group="all")
    log = np.log(ds.resid_norm_ratio)
    by_scipy = stats.ttest_1samp(log.values, 0.0, axis=0).pvalue
    np.testing.assert_allclose(cells.sel(measure="p_paired").transpose("layer", "token_class"), by_scipy)
    for token_class in CLASSES:
        expected = adjust(cells.sel(measure="p_paired", token_class=token_class), "fdr_bh")
        np.testing.assert_allclose(cells.sel(measure="p_bh", token_class=token_class), expected)
    assert (cells.sel(measure="p_bh", layer=2) < 0.01).all()
    np.testing.assert_allclose(cells.sel(measure="difference"), log.mean("prompt"))
    own = ds.lens_logprob
    base, tuned = (own.sel(stream=side, readout=side).values for side in ("base", "tuned"))
    expected = stats.ttest_rel(tuned, base, axis=0).pvalue
    lens = found.lens_logprob.sel(group="all")
    np.testing.assert_allclose(lens.sel(measure="p_paired"), expected)
    np.testing.assert_allclose(lens.sel(measure="p_bh"), adjust(expected, "fdr_bh"))


@pytest.mark.long
def test_no_change_is_found_in_noise() -> None:
    hits = 0
    for seed in range(200):
        tests = itlens.diff.shift_tests(made(seed=seed)[["resid_norm_ratio"]], resamples=10)
        cells = tests.resid_log_norm_ratio.sel(group="all", measure="p_bh", token_class="rest")
        hits += bool((cells <= 0.05).any())
    assert hits <= stats.binom.ppf(0.999, 200, 0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "resid_norm_ratio"}, "no statistic on heads of this result; it has result_relative_change"),
        ({"token_class": "verbs"}, "token_class='verbs' is unknown here; expected one of instruction, rest"),
        ({"group": "x"}, "group='x' is unknown here; expected one of all, g, h"),
    ],
)
def test_wrong_questions_are_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ResultError, match=message):
        itlens.diff.shifted_heads(made(), **options)


def test_other_results_are_refused() -> None:
    for function in (itlens.diff.shift_summary, itlens.diff.shift_tests, itlens.diff.shifted_heads):
        with pytest.raises(ResultError, match=r"no Dataset of itlens\.activation_shift"):
            function(xr.Dataset())
    with pytest.raises(ResultError, match="nothing with a sign"):
        itlens.diff.shift_tests(made()[["result_cosine"]].assign_attrs(made().attrs))
