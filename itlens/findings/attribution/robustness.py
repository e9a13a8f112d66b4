"""Whether the difference of the instruction score holds: other settings, equal length, length as a control.

Both models can be read on the same responses; then their lengths are equal, and nothing has to be said of them twice.
"""

from __future__ import annotations

import numpy as np

from itlens.findings.attribution.columns import GROUPS, REGRESSION, WELCH
from itlens.findings.attribution.view import sensitivity
from itlens.findings.base import Tables
from itlens.report.blocks import Block, Figure, Table, Text
from itlens.stats.groups import rows_as_said

_PAPER = "unpaired, one-sided (tuned > base); it ignores that both models saw the same prompts"
_CUT = "the longer of the two responses to a prompt is cut to the length of the shorter one, then scored again"
_OWN = "Models differ in how much they write: see the comparisons at equal length and with length as a control."
_SAME = "Both models were read on the same responses, so that the comparison at equal response length is the one above."
_LEVEL = 0.05


def robustness(tables: Tables, settings: tuple[int, int, float]) -> list[Block]:
    """Return the same comparison with other settings, at equal length, and with length as a control.

    settings: levels, threshold and power of the tables.
    """
    _, threshold, p = settings
    own = tables["_responses"] == "own"
    intro = _OWN if own else _SAME
    blocks: list[Block] = [
        Text(" ".join(filter(None, [dependence(tables), intro])), "Does it hold?"),
        Figure(sensitivity(tables["sensitivity"], threshold=threshold, p=p), wide=True),
    ]
    if own:
        blocks.append(
            Table(rows_as_said(tables["equal_length"]), GROUPS, "At equal response length", _CUT, terminal=False)
        )
    return [
        *blocks,
        _regression(tables, own=own),
        Table(tables["groups"], WELCH, "The test of the original paper", _PAPER, folded=True, terminal=False),
    ]


def _regression(tables: Tables, *, own: bool) -> Table:
    """Return the regression on lengths; without the ratio of lengths where both models read the same responses."""
    table, note = tables["regression"], str(tables["regression"].attrs.get("note", ""))
    if not own and table["coefficient"].notna().any():
        table, note = table[table["coefficient"].notna()], ""
    about = "the difference regressed on the response lengths" + (f". Note: {note}" if note else "")
    return Table(table, REGRESSION, "With length as a control", about, terminal=False)


def dependence(tables: Tables) -> str:
    """Return a sentence on whether the difference depends on the score's two settings, cut-off and power."""
    row, grid = tables["groups"].iloc[0], tables["sensitivity"]
    if not row["difference"] or not np.isfinite(row["ci_low"]):  # no change, or no test
        return ""
    places = (grid["p_paired"] < _LEVEL) & (np.sign(grid["difference"]) == np.sign(row["difference"]))
    holds = np.asarray(places.transpose("threshold", "power").values, bool)
    start = "The score has two settings, a cut-off and a power."
    count = f"{int(holds.sum())} of {holds.size} settings"
    if holds.all():
        return f"{start} Here the difference depends on neither: it is significant, in one direction, at {count}."
    if not holds.any():
        return f"{start} Here no setting makes the difference significant in the direction of the score."
    for axis, name, words in ((1, "threshold", "cut-off: b"), (0, "power", "power: p")):
        if (holds.all(axis=axis) == holds.any(axis=axis)).all():
            at = ", ".join(f"{value:g}" for value in grid[name].values[holds.all(axis=axis)])
            return (
                f"{start} Here the difference depends on the {words} = {at} make it significant ({count}), the others "
                "do not."
            )
    return f"{start} Here the difference depends on both: it is significant at {count}."
