"""What the report says of other settings of the score, and of response lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from itlens.findings.attribution.robustness import dependence, robustness
from itlens.report.blocks import Table

ALL, NONE = [[0.01] * 3] * 2, [[0.5] * 3] * 2


def tables(p: list[list[float]], sign: Any = 1.0, difference: float = 0.1) -> dict[str, Any]:
    """Tables with these p on (power, threshold)."""
    sizes = np.broadcast_to(sign, (2, 3)) * 0.1
    grid = xr.Dataset(
        {"p_paired": (("power", "threshold"), p), "difference": (("power", "threshold"), sizes)},
        {"power": [1, 4], "threshold": [0, 5, 7]},
    )
    return {
        "groups": pd.DataFrame({"group": ["all"], "difference": [difference], "ci_low": [0.05]}),
        "sensitivity": grid,
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (tables(ALL), "depends on neither: it is significant, in one direction, at 6 of 6 settings."),
        (tables(NONE), "no setting makes the difference significant"),
        (tables(ALL, sign=-1.0), "no setting makes the difference significant"),
        (
            tables([[0.5, 0.01, 0.01]] * 2),
            "the cut-off: b = 5, 7 make it significant (4 of 6 settings), the others do not.",
        ),
        (tables([[0.01] * 3, [0.5] * 3]), "the power: p = 1 make it significant (3 of 6 settings), the others do not."),
        (tables(ALL, sign=[-1.0, 1.0, 1.0]), "the cut-off: b = 5, 7 make it significant"),
        (tables([[0.01, 0.5, 0.5], [0.01] * 3]), "depends on both: it is significant at 4 of 6 settings."),
    ],
)
def test_it_says_on_which_setting_the_difference_depends(given: dict[str, Any], words: str) -> None:
    assert words in dependence(given)


def test_nothing_depends_on_settings_where_nothing_differs() -> None:
    assert dependence(tables(ALL, difference=0.0)) == ""


def test_lengths_that_are_equal_are_no_control() -> None:
    terms = ["intercept", "log_length_ratio", "log_mean_length"]
    regression = pd.DataFrame({"term": terms, "coefficient": [0.07, np.nan, 0.02]})
    regression.attrs["note"] = "log_length_ratio does not vary between prompts and cannot be controlled for"
    found = tables(ALL) | {"regression": regression, "equal_length": pd.DataFrame()}
    shown = {
        writer: {
            block.title: block
            for block in robustness(found | {"_responses": writer}, (10, 7, 4))
            if isinstance(block, Table)
        }
        for writer in ("own", "tuned")
    }
    control = "With length as a control"
    assert shown["own"][control].data["term"].tolist() == terms
    assert shown["own"][control].text.endswith("Note: " + regression.attrs["note"])
    assert shown["tuned"][control].data["term"].tolist() == ["intercept", "log_mean_length"]
    assert "Note" not in shown["tuned"][control].text
    assert "At equal response length" in shown["own"]
    assert "At equal response length" not in shown["tuned"]
