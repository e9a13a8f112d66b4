"""A model's activation summaries reduced to a few numbers per prompt."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import itlens


class TestActivationScores:
    def test_means_over_layers_and_heads(self) -> None:
        rng = np.random.default_rng(0)
        mass = rng.random((3, 2, 4, 2))
        ds = xr.Dataset(
            {
                "attention_mass": (("prompt", "layer", "head", "token_class"), mass),
                "lens_commitment_stays": ("prompt", [1.0, 2.0, 3.0]),
            },
            coords={
                "prompt": list("abc"),
                "group": ("prompt", ["x", "x", "y"]),
                "token_class": ["first", "instruction"],
            },
            attrs={"probe": "activations"},
        )
        table = itlens.diff.activation_scores(ds)
        assert table["id"].tolist() == list("abc")
        assert table["group"].tolist() == ["x", "x", "y"]
        np.testing.assert_allclose(table["attention_to_instruction"], mass[..., 1].mean(axis=(1, 2)))
        assert table["commitment_layer"].tolist() == [1.0, 2.0, 3.0]
        assert "active_neurons" not in table

    def test_other_results(self) -> None:
        with pytest.raises(itlens.ResultError, match=r"takes a Dataset of itlens\.activations"):
            itlens.diff.activation_scores(xr.Dataset())
        with pytest.raises(itlens.ResultError, match="has none of"):
            itlens.diff.activation_scores(xr.Dataset(attrs={"probe": "activations"}))
