"""Sentences and mean curves made of results of faithfulness: they say what the numbers say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import itlens
from itlens.findings.faithfulness.diff_verdict import judge_methods
from itlens.stats.paired import t_interval


def deleted(prompt: str, advantage: float, model: str = "m", whole: float = 2.0) -> xr.Dataset:
    """A result of faithfulness whose attribution beats random orders by `advantage` in the middle of both curves.

    whole: what the whole prompt does to the response, in nats.
    """
    fraction, random = np.array([0.0, 0.5, 1.0]), np.array([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])
    own = random + np.array([[0.0, -advantage, 0.0], [0.0, advantage, 0.0]])
    return xr.Dataset(
        {
            "curve": (("order", "direction", "fraction"), whole * np.stack([own, random]) - 3.0),
            "advantage_nats": ("direction", [whole * advantage / 2] * 2),
            "intact": whole - 3.0,
            "removed": -3.0,
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

    def test_a_mean_curve_is_a_share_of_means(self) -> None:
        idle = deleted("idle", 40.0, whole=0.01)  # by itself its curve goes to -3,950 %
        found = itlens.diff.faithfulness_curves({"m": [*self.results([0.2] * 5), idle]})
        middle = found["share"].sel(order="attribution", direction="deletion", fraction=0.5)[0]
        # Five prompts at 0.3 of 2 nats, one at -39.5 of 0.01 nats.
        assert float(middle) == pytest.approx((5 * 0.3 * 2 - 39.5 * 0.01) / (5 * 2 + 0.01))
        assert int(found["prompts"][0]) == 6

    def test_there_is_no_mean_curve_where_the_prompts_do_nothing(self) -> None:
        idle = [deleted(f"p{number}", 0.1, whole=(-1) ** number * 0.5) for number in range(6)]
        found = itlens.diff.faithfulness_curves({"idle": idle, "m": self.results([0.2] * 6)})
        assert np.isnan(found["share"].sel(model="idle")).all()
        assert np.isfinite(found["share"].sel(model="m")).all()

    def table(self, base: list[float], tuned: list[float], **options: str) -> pd.DataFrame:
        return itlens.diff.faithfulness(self.results(base), self.results(tuned), **options)

    def test_both_are_faithful_and_tuning_changed_it(self) -> None:
        table = self.table([0.2, 0.3, 0.1, 0.2, 0.22], [0.4, 0.52, 0.3, 0.4, 0.41])
        verdict = judge_methods(table)["saliency"]
        assert verdict.sentence.startswith(
            "The attributions are faithful to both models: removing the tokens that they rank first has an advantage "
            "over random orders of +10.2 points in the base model (95 % interval +5.8 to +14.6, Holm p = 0.006) and "
            "+20.3 points in the tuned model"
        )
        assert "Tuning changed the advantage of removing the first tokens by +10.1 points (95 % interval" in (
            verdict.sentence
        )
        assert verdict.direction == "higher"
        assert verdict.caveat == ""
        assert verdict.short == (
            "the faithfulness of the attributions rose (+10.1 points when removing the first tokens, "
            "+10.1 points when keeping only the first tokens)"
        )
        lower = judge_methods(self.table([0.4, 0.52, 0.3, 0.4, 0.41], [0.2, 0.3, 0.1, 0.2, 0.22]))["saliency"]
        assert lower.direction == "lower"
        assert "Tuning changed the advantage of removing the first tokens by −10.1 points" in lower.sentence

    def test_numbers_are_those_of_the_table_and_of_the_t_tests(self) -> None:
        base, tuned = [0.2, 0.3, 0.1, 0.2, 0.22], [0.4, 0.52, 0.3, 0.4, 0.41]
        numbers = judge_methods(self.table(base, tuned))["saliency"].numbers
        assert [number.name for number in numbers[:3]] == [
            "difference of the advantage over random orders, deletion",
            "advantage over random orders in the base model, deletion",
            "advantage over random orders in the tuned model, deletion",
        ]
        x = 100 * np.array(base) / 2
        expected = stats.ttest_1samp(x, 0).confidence_interval(0.95)
        assert numbers[1].value == pytest.approx(x.mean())
        assert (numbers[1].low, numbers[1].high) == pytest.approx((expected.low, expected.high))
        assert numbers[1].unit == "points"
        assert numbers[1].n == 5

    def test_no_change(self) -> None:
        verdict = judge_methods(self.table([0.2, 0.3, 0.1, 0.2, 0.22], [0.2, 0.3, 0.1, 0.2, 0.22]))["saliency"]
        assert verdict.sentence.endswith(
            "No significant change by tuning: +0.0 points (95 % interval +0.0 to +0.0, Holm p = 1.00)."
        )
        assert verdict.direction == "none"
        assert verdict.short == "the attributions are faithful to both models (+10.2 points base, +10.2 points tuned)"

    def test_who_cannot_be_relied_on_is_the_caveat(self) -> None:
        worse, mixed = [-0.66, -0.6, -0.7, -0.65, -0.69], [0.3, -0.2, 0.1, -0.3, 0.15]
        verdict = judge_methods(self.table(worse, mixed))["saliency"]
        assert verdict.sentence.startswith("The attributions are not shown to be faithful to either model: ")
        assert verdict.caveat == (
            "Do not rely on attributions without another check: those of the base model are worse than random orders "
            "and those of the tuned model are no better than random orders when tokens are removed."
        )
        good = [0.4, 0.52, 0.3, 0.4, 0.41]
        one = judge_methods(self.table(good, mixed))["saliency"]
        assert one.sentence.startswith("The attributions are faithful to the base model only: ")
        assert one.caveat.endswith(
            ": those of the tuned model are no better than random orders when tokens are removed."
        )

    def test_insertion_that_disagrees_is_the_caveat(self) -> None:
        table = self.table([0.2, 0.3, 0.1, 0.2, 0.22], [0.4, 0.52, 0.3, 0.4, 0.41])
        table.loc[1, ["base_p", "base_p_holm"]] = 0.4
        assert judge_methods(table)["saliency"].caveat.startswith(
            "Keeping only the tokens ranked first gives another answer: +10.2 points in the base model (95 % interval "
        )

    def test_a_change_of_insertion_only_comes_first(self) -> None:
        table = self.table([0.2, 0.3, 0.1, 0.2, 0.22], [0.4, 0.52, 0.3, 0.4, 0.41])
        table.loc[0, ["p_paired", "p_holm"]] = 0.6
        verdict = judge_methods(table)["saliency"]
        assert verdict.direction == "higher"
        assert verdict.numbers[0].name == "difference of the advantage over random orders, insertion"
        assert "Tuning changed the advantage of keeping only the first tokens by +10.1 points" in verdict.sentence
        assert "removing the first tokens by" not in verdict.sentence
        table.loc[0, ["p_paired", "p_holm", "difference"]] = [0.001, 0.002, -0.1]
        assert judge_methods(table)["saliency"].direction == "changed"

    def test_nats_are_called_nats(self) -> None:
        table = self.table([0.2, 0.3, 0.1, 0.2, 0.22], [-0.4, -0.52, -0.3, -0.4, -0.41], unit="nats")
        said = itlens.diff.faithfulness_verdict(table)
        assert "+0.20 nats in the base model (95 % interval +0.1" in said
        assert "−0.41 nats in the tuned model (95 % interval −0.5" in said
        assert "points" not in said

    def test_a_model_whose_prompts_do_nothing_is_not_tested(self) -> None:
        idle = [deleted(f"p{number}", 0.1, whole=(-1) ** number * 0.5) for number in range(5)]
        table = itlens.diff.faithfulness(idle, self.results([0.4, 0.52, 0.3, 0.4, 0.41]))
        verdict = judge_methods(table)["saliency"]
        assert verdict.sentence.startswith(
            "The attributions are faithful to the tuned model only: removing the tokens "
        )
        assert "advantage over random orders of +20.3 points in the tuned model" in verdict.sentence
        assert "The change by tuning was not tested: the prompt does not raise the log-prob" in verdict.sentence
        assert "nan" not in verdict.sentence + verdict.caveat + verdict.short
        assert (verdict.tested, verdict.answer) == (True, "tuned model only")
        assert [number.name for number in verdict.numbers] == [
            f"advantage over random orders in the tuned model, {way}" for way in ("deletion", "insertion")
        ]

    def test_a_test_that_finds_nothing_is_a_test(self) -> None:
        idle = [deleted(f"p{number}", 0.1, whole=(-1) ** number * 0.5) for number in range(5)]
        verdict = judge_methods(itlens.diff.faithfulness(idle, self.results([0.4, -0.52, 0.3, -0.4, 0.2])))["saliency"]
        assert "not shown to be faithful to either model" in verdict.sentence
        assert "The change by tuning was not tested" in verdict.sentence
        assert (verdict.tested, verdict.direction, verdict.answer) == (True, "none", "not shown")
        assert "those of the tuned model are no better than random orders" in verdict.caveat

    def test_faithful_to_both_without_a_change_is_no_significant_change(self) -> None:
        verdict = judge_methods(self.table([0.4, 0.52, 0.3, 0.4, 0.41], [0.41, 0.5, 0.31, 0.42, 0.38]))["saliency"]
        assert "faithful to both models" in verdict.sentence
        assert verdict.answer == "no significant change"

    def test_each_method_gets_its_own_sentences(self) -> None:
        base, tuned = self.results([0.2, 0.3, 0.1, 0.2, 0.22]), self.results([0.4, 0.52, 0.3, 0.4, 0.41])
        both = [[*side, *(result.assign_attrs(method="input_x_gradient") for result in side)] for side in (base, tuned)]
        said = itlens.diff.faithfulness_verdict(itlens.diff.faithfulness(*both))
        assert said.startswith("By saliency: The attributions are faithful to both models")
        assert "By input_x_gradient: The attributions are faithful" in said

    def test_too_few(self) -> None:
        verdict = judge_methods(self.table([0.2, 0.3], [0.2, 0.3]))["saliency"]
        assert verdict.sentence == "Not tested: too few prompts for a test (n=2, at least 5 needed)."
        assert verdict.answer == "not tested"

    def test_unlike_results(self) -> None:
        other = deleted("p9", 0.1).assign_attrs(method="input_x_gradient")
        with pytest.raises(itlens.ResultError, match="differ in method or steps"):
            itlens.diff.faithfulness_curves({"m": [deleted("p0", 0.1), other]})
        with pytest.raises(itlens.ResultError, match="only"):
            itlens.diff.faithfulness_curves({"m": [deleted("p0", 0.1).assign_attrs(probe="attribution")]})
        with pytest.raises(itlens.ResultError, match=r"table of itlens\.diff\.faithfulness"):
            itlens.diff.faithfulness_verdict(pd.DataFrame({"n": [1]}))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_interval_of_a_t_test_follows_from_its_p(seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal(7) + 0.5 * seed
    test = stats.ttest_1samp(x, 0)
    expected = test.confidence_interval(0.95)
    assert t_interval(float(x.mean()), float(test.pvalue), 7) == pytest.approx((expected.low, expected.high))


def test_no_interval_without_a_test() -> None:
    assert np.isnan(t_interval(0.5, np.nan, 7)).all()
    assert t_interval(0.0, 1.0, 7) == (0.0, 0.0)
