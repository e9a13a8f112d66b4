"""Means of activation summaries of several models: hand-computable numbers, alignment, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from itlens import ResultError
from itlens.diff import activation_means, activations


def result(values: Any, *, prompts: list[str] | None = None, hooks: str = "norms") -> xr.Dataset:
    """One statistic on (prompt, layer)."""
    table = np.asarray(values, float)
    ids = prompts or [f"p{n}" for n in range(len(table))]
    return xr.Dataset(
        {"resid_rms": (("prompt", "layer"), table, {"long_name": "rms"})},
        coords={"prompt": ids, "group": ("prompt", ["a" if n % 2 else "b" for n in range(len(ids))]),
                "layer": np.arange(table.shape[1]), "tokens_digest": ("prompt", ["x"] * len(ids))},
        attrs={"probe": "activations", "hooks": hooks, "format": "raw"},
    )  # fmt: skip


def test_means_by_hand_with_missing_numbers_left_out() -> None:
    one = result([[1, 10], [2, 20], [3, np.nan], [4, 40], [5, 50], [6, 60]])
    more = one.assign(resid_rms=(one.resid_rms.dims, one.resid_rms.values + 1))
    ds = activation_means({"base": one, "sft": more})
    part = ds.resid_rms.sel(group="all")
    np.testing.assert_allclose(part.sel(model="base", summary="mean"), [3.5, 36])
    np.testing.assert_allclose(part.sel(model="sft", summary="mean"), [4.5, 37])
    np.testing.assert_allclose(part.sel(model="base", summary="n"), [6, 5])
    np.testing.assert_allclose(ds.resid_rms.sel(group="a", model="base", summary="mean"), [4, 40])
    assert np.isnan(ds.resid_rms.sel(group="a", summary="ci_low")).all() and "too few" in ds.note.sel(group="a").item()
    low, high = (part.sel(model="base", summary=name, layer=0).item() for name in ("ci_low", "ci_high"))
    assert 1 < low < 3.5 < high < 6
    assert ds.resid_rms.attrs["long_name"] == "rms" and ds.prompts.sel(group="b") == 3


def test_of_a_pair_they_are_the_means_of_the_paired_comparison() -> None:
    rng = np.random.default_rng(0)
    base, tuned = (result(rng.standard_normal((12, 3))) for _ in range(2))
    pair, both = activations(base, tuned, resamples=50), activation_means({"base": base, "tuned": tuned}, resamples=50)
    for name in ("base", "tuned"):
        np.testing.assert_allclose(
            both.resid_rms.sel(model=name, summary="mean"), pair.resid_rms.sel(measure=f"{name}_mean")
        )


def test_the_order_of_prompts_does_not_matter() -> None:
    one = result([[1.0], [2.0], [3.0], [4.0], [9.0]])
    ds = activation_means({"base": one, "sft": one.isel(prompt=[4, 2, 0, 1, 3])})
    values = ds.resid_rms.sel(group="a")
    np.testing.assert_allclose(values.sel(model="base"), values.sel(model="sft"))


ONE = result([[1.0], [2.0]])


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({}, "takes results by model"),
        (ONE, "takes results by model"),
        ({"base": ONE, "sft": None}, "'sft' is not a Dataset of itlens.activations"),
        ({"base": ONE, "sft": result([[1.0], [2.0]], hooks="lens")}, "'base' and 'sft' differ in hooks"),
        ({"base": ONE, "sft": result([[1.0, 2.0], [2.0, 3.0]])}, r"other labels on 'layer' \(1 and 2\)"),
        ({"base": ONE, "sft": result([[1.0], [2.0]], prompts=["p0", "q"])}, r"other labels on 'prompt' \(2 and 2\)"),
        ({"base": ONE, "sft": ONE.assign(more=ONE.resid_rms)}, "have different statistics"),
    ],
)
def test_what_cannot_be_compared_gets_one_sentence(results: Any, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        activation_means(results)
