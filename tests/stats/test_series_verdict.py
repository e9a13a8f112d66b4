"""What a series of models says in a sentence: it says what the numbers say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import itlens
from itlens.stats.series import series_verdict


class TestSeries:
    def table(self, shift: float, count: int = 8) -> pd.DataFrame:
        values = np.linspace(0.0, 1.0, count) * (1 + 0.1 * shift) + shift
        return pd.DataFrame({"id": [f"p{n}" for n in range(count)], "instruction_score": values})

    def test_a_trend(self) -> None:
        found = itlens.diff.series({"base": self.table(0), "sft": self.table(1), "dpo": self.table(2)})
        said = series_verdict(found, statistic="instruction_score")
        assert said.startswith("The instruction score rises along the series (base: 0.5, sft: 1.55, dpo: 2.6;")
        assert "slope +1.05 a step" in said
        assert said.endswith("Significant differences: base to sft, base to dpo.")

    def test_no_trend_and_too_few(self) -> None:
        up_and_down = self.table(0).assign(instruction_score=[0.3, 0.0, 0.5, 0.2, 0.8, 0.6, 1.0, 0.9])
        same = itlens.diff.series({"a": self.table(0), "b": up_and_down})
        said = series_verdict(same, statistic="instruction_score")
        assert said.startswith("No significant trend of the instruction score")
        assert said.endswith("Significant differences: none.")
        few = itlens.diff.series({"a": self.table(0, 3), "b": self.table(1, 3)})
        assert "No trend was tested: too few prompts" in series_verdict(few, statistic="instruction_score")

    def test_what_is_the_same_in_every_model_is_called_constant(self) -> None:
        same = itlens.diff.series({"a": self.table(0), "b": self.table(0), "c": self.table(0)})
        assert series_verdict(same, statistic="instruction_score") == (
            "The instruction score is constant along the series: 0.5 in every model, on each of 8 prompts alike."
        )
        back = itlens.diff.series({"a": self.table(0), "b": self.table(1), "c": self.table(0)})  # slope 0, not constant
        assert series_verdict(back, statistic="instruction_score").startswith("No significant trend of the")

    def test_it_writes_a_true_minus(self) -> None:
        said = series_verdict(
            itlens.diff.series({"a": self.table(1), "b": self.table(0)}), statistic="instruction_score"
        )
        assert "slope −1.05 a step, 95 % interval −1.0" in said
        assert "-" not in said

    def test_unknown_names(self) -> None:
        found = itlens.diff.series({"a": self.table(0), "b": self.table(1)})
        with pytest.raises(itlens.ResultError, match="'length'"):
            series_verdict(found, statistic="length")
