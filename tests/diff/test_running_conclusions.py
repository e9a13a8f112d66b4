"""Sentences and tables made of patching, faithfulness, activations and series: they say what the numbers say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens.diff.series_conclusion import series_verdict


def patched(recovered: list[float], p_bh: list[float], **attrs: object) -> xr.Dataset:
    """A result of patching four heads: two layers of two, with its curve."""
    heads = (("layer", "head"), np.reshape(recovered, (2, 2)))
    return xr.Dataset(
        {
            "recovered": heads,
            "p_bh": (("layer", "head"), np.reshape(p_bh, (2, 2))),
            "joint": ("count", [0.5, 0.75, 0.9]),
            "joint_random": ("count", [0.1, 0.2, 0.9]),
            "joint_random_low": ("count", [0.0, 0.05, 0.9]),
            "joint_random_high": ("count", [0.3, 0.4, 0.9]),
            "needed_80_of_all": 2.0,
            "judged": ("prompt", [True, False] * 3),
        },
        coords={"layer": [0, 1], "head": [0, 1], "count": [1, 2, 4], "prompt": list("abcdef")},
        attrs={"probe": "patch", "direction": "tuned->base", "metric": "logprob", "gap": 1.5, "note": "", **attrs},
    )


class TestPatching:
    def test_everything_is_said(self) -> None:
        said = itlens.diff.patching_verdict(patched([0.6, 0.1, -0.4, 0.02], [0.001, 0.01, 0.02, 0.5]))
        assert said == (
            "The tuned model gives these responses 1.50 nats more per token than the base model does (6 prompts). "
            "The 4 heads of the tuned model, put into the base model together, recover 90 % of that on the prompts "
            "that the order of heads was not chosen on; the best 2 alone recover 75 %, as many random heads 20 % on "
            "average (95 % of the draws: 5 % to 40 %). By themselves, beyond chance (corrected p < 0.05), 2 close it "
            "(first L0H0 60 %, L0H1 10 %) and 1 widen it (first L1H0 -40 %); such shares need not add up."
        )

    def test_random_heads_that_do_as_well_are_named(self) -> None:
        ds = patched([0.6, 0.1, -0.4, 0.02], [0.3] * 4).assign(joint_random_high=("count", [0.3, 0.8, 0.9]))
        assert "5 % to 80 %), so that the choice is no better than chance." in itlens.diff.patching_verdict(ds)

    def test_a_curve_that_cannot_be_had(self) -> None:
        ds = patched([0.6, 0.1, -0.4, 0.02], [0.3] * 4).assign(joint=("count", [np.nan] * 3))
        said = itlens.diff.patching_verdict(ds)
        assert "What heads do together cannot be told" in said and "nan" not in said
        same = patched([0.6, 0.1, -0.4, 0.02], [0.3] * 4).assign(judged=("prompt", [True] * 6))
        assert "recover 90 % of that on the same prompts" in itlens.diff.patching_verdict(same)

    def test_nothing_holds(self) -> None:
        said = itlens.diff.patching_verdict(patched([0.6, 0.1, -0.4, 0.02], [0.3, 0.4, 0.5, 0.6]))
        assert said.endswith("No single head's effect holds once corrected for their number (p = 0.3).")
        untested = itlens.diff.patching_verdict(patched([0.6, 0.1, -0.4, 0.02], [np.nan] * 4))
        assert untested.endswith("Single heads were not tested: there are too few prompts.")

    def test_the_other_way_and_another_metric(self) -> None:
        back = patched([0.6] * 4, [0.3] * 4, direction="base->tuned", gap=-1.5)
        assert "The tuned model gives these responses 1.50 nats more" in itlens.diff.patching_verdict(back)
        own = patched([0.6] * 4, [0.3] * 4, metric="given", unit_of_effect="points")
        assert "The tuned model's metric is +1.5 points from the base" in itlens.diff.patching_verdict(own)

    def test_no_gap(self) -> None:
        said = itlens.diff.patching_verdict(patched([np.nan] * 4, [0.5] * 4, note="the metric does not differ"))
        assert said == "What heads carry cannot be told from 6 prompts: the metric does not differ."

    def test_another_result(self) -> None:
        with pytest.raises(itlens.ResultError, match="over heads"):
            itlens.diff.patching_verdict(xr.Dataset(attrs={"probe": "activations"}))


def deleted(prompt: str, advantage: float, model: str = "m") -> xr.Dataset:
    """A result of faithfulness whose attribution beats random orders by `advantage` in both directions."""
    fraction, random = np.array([0.0, 0.5, 1.0]), np.array([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])
    own = random + np.array([[0.0, -advantage, 0.0], [0.0, advantage, 0.0]])
    return xr.Dataset(
        {
            "share": (("order", "direction", "fraction"), np.stack([own, random])),
            "advantage": ("direction", [advantage / 2] * 2),
            "advantage_nats": ("direction", [advantage] * 2),
        },
        coords={
            "order": ["attribution", "random"], "direction": ["deletion", "insertion"], "fraction": fraction,
        },
        attrs={
            "probe": "faithfulness", "prompt_id": prompt, "method": "saliency", "by": "density", "model": model,
            "steps": 2, "draws": 4, "baseline": "mean",
        },
    )  # fmt: skip


class TestFaithfulness:
    def results(self, advantages: list[float]) -> list[xr.Dataset]:
        return [deleted(f"p{number}", advantage) for number, advantage in enumerate(advantages)]

    def test_mean_curves(self) -> None:
        base, tuned = [0.2, 0.3, 0.1, 0.2, 0.2], [0.4, 0.5, 0.3, 0.4, 0.4]
        found = itlens.diff.faithfulness_curves({"base": self.results(base), "tuned": self.results(tuned)})
        middle = found["share"].sel(fraction=0.5, order="attribution")
        assert middle.sel(model="base", direction="deletion") == pytest.approx(0.5 - np.mean(base))
        assert middle.sel(model="tuned", direction="insertion") == pytest.approx(0.5 + np.mean(tuned))
        random = found["share"].sel(order="random", model="base", direction="deletion")
        assert random.values.tolist() == [1.0, 0.5, 0.0] and found["prompts"].values.tolist() == [5, 5]
        where = {"model": "base", "order": "attribution", "direction": "deletion", "fraction": 0.5}
        low, high = (float(found[f"share_{end}"].sel(where)) for end in ("low", "high"))
        assert low < 0.5 - np.mean(base) < high and 0.5 - max(base) <= low and high <= 0.5 - min(base)

    def test_prompts_without_a_share_do_not_count(self) -> None:
        empty = deleted("none", 0.5)
        empty["share"] = empty["share"] * np.nan
        found = itlens.diff.faithfulness_curves({"m": [*self.results([0.2] * 5), empty]})
        assert int(found["prompts"][0]) == 5
        assert float(found["share"].sel(order="attribution", direction="deletion", fraction=0.5)[0]) == pytest.approx(
            0.3
        )

    def test_the_verdict(self) -> None:
        base, tuned = self.results([0.2, 0.3, 0.1, 0.2, 0.22]), self.results([0.4, 0.52, 0.3, 0.4, 0.41])
        said = itlens.diff.faithfulness_verdict(itlens.diff.faithfulness(base, tuned))
        assert (
            "Removing the tokens that attribution calls important: better than random orders by +10 points (base; +7"
            in said
        )
        assert "better than random orders by +20 points (tuned; +1" in said
        assert said.count("tuning changed it") == 2 and "not told" not in said and "worse" not in said
        same = itlens.diff.faithfulness_verdict(itlens.diff.faithfulness(base, base))
        assert same.count("no change by tuning can be told") == 2

    def test_worse_than_chance_and_not_told_from_it(self) -> None:
        worse, mixed = self.results([-0.66, -0.6, -0.7, -0.65, -0.69]), self.results([0.3, -0.2, 0.1, -0.3, 0.15])
        said = itlens.diff.faithfulness_verdict(itlens.diff.faithfulness(worse, mixed))
        assert "important: worse than random orders by 33 points (base; -3" in said and "better" not in said
        assert said.count("not told from chance (tuned; +0 points, ") == 2

    def test_nats_are_called_nats(self) -> None:
        base, tuned = self.results([0.2, 0.3, 0.1, 0.2, 0.22]), self.results([-0.4, -0.52, -0.3, -0.4, -0.41])
        said = itlens.diff.faithfulness_verdict(itlens.diff.faithfulness(base, tuned, unit="nats"))
        assert "better than random orders by +0.20 nats (base; +0.1" in said and "points" not in said
        assert "worse than random orders by 0.41 nats (tuned; -0." in said

    def test_too_few(self) -> None:
        few = self.results([0.2, 0.3])
        said = itlens.diff.faithfulness_verdict(itlens.diff.faithfulness(few, few))
        assert said.count("was not tested: too few prompts") == 2

    def test_unlike_results(self) -> None:
        other = deleted("p9", 0.1).assign_attrs(method="input_x_gradient")
        with pytest.raises(itlens.ResultError, match="differ in method or steps"):
            itlens.diff.faithfulness_curves({"m": [deleted("p0", 0.1), other]})
        with pytest.raises(itlens.ResultError, match="only"):
            itlens.diff.faithfulness_curves({"m": [deleted("p0", 0.1).assign_attrs(probe="attribution")]})
        with pytest.raises(itlens.ResultError, match=r"table of itlens\.diff\.faithfulness"):
            itlens.diff.faithfulness_verdict(pd.DataFrame({"n": [1]}))


class TestSeries:
    def table(self, shift: float, count: int = 8) -> pd.DataFrame:
        values = np.linspace(0.0, 1.0, count) * (1 + 0.1 * shift) + shift
        return pd.DataFrame({"id": [f"p{n}" for n in range(count)], "instruction_score": values})

    def test_a_trend(self) -> None:
        found = itlens.diff.series({"base": self.table(0), "sft": self.table(1), "dpo": self.table(2)})
        said = series_verdict(found, statistic="instruction_score")
        assert said.startswith("The importance of the instruction rises along the series (base 0.5, sft 1.55, dpo 2.6;")
        assert "slope +1.05 a step" in said and said.endswith("Pairs that differ: base to sft, base to dpo.")

    def test_no_trend_and_too_few(self) -> None:
        same = itlens.diff.series({"a": self.table(0), "b": self.table(0)})
        said = series_verdict(same, statistic="instruction_score")
        assert said.startswith("No trend of the importance of the instruction") and said.endswith("differ: none.")
        few = itlens.diff.series({"a": self.table(0, 3), "b": self.table(1, 3)})
        assert "No trend was tested: too few prompts" in series_verdict(few, statistic="instruction_score")

    def test_unknown_names(self) -> None:
        found = itlens.diff.series({"a": self.table(0), "b": self.table(1)})
        with pytest.raises(itlens.ResultError, match="'length'"):
            series_verdict(found, statistic="length")


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
        assert table["id"].tolist() == list("abc") and table["group"].tolist() == ["x", "x", "y"]
        np.testing.assert_allclose(table["attention_to_instruction"], mass[..., 1].mean(axis=(1, 2)))
        assert table["commitment_layer"].tolist() == [1.0, 2.0, 3.0] and "active_neurons" not in table

    def test_other_results(self) -> None:
        with pytest.raises(itlens.ResultError, match=r"takes a Dataset of itlens\.activations"):
            itlens.diff.activation_scores(xr.Dataset())
        with pytest.raises(itlens.ResultError, match="has none of"):
            itlens.diff.activation_scores(xr.Dataset(attrs={"probe": "activations"}))
