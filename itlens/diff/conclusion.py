"""What a comparison of attributions says: one honest sentence, and its tables as text and as HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from itlens.diff.statistics import NO_DIFFERENCE

if TYPE_CHECKING:
    from itlens.diff.attribution_diff import AttributionDiff

_INTEGERS = ("n", "followed_n", "unfollowed_n")


def verdict(diff: AttributionDiff, alpha: float = 0.05) -> str:
    """One sentence in plain words: more, less, undecided, no difference, or too few prompts; and how far it holds.

    Decided by the paired t-test over all prompts (Wilcoxon's test where differences have no spread).
    """
    row = diff.groups.iloc[0]
    n, change = int(row["n"]), f"mean difference {row['difference']:+.2f}"
    if str(row["note"]).startswith("too few"):
        return (
            f"Nothing can be concluded: {row['note']}; {change}." if n else f"Nothing can be concluded: {row['note']}."
        )
    if row["note"] == NO_DIFFERENCE:
        return f"Base and tuned model lean on the instruction alike: there is {NO_DIFFERENCE} (n={n})."
    p = row["p_paired"] if np.isfinite(row["p_paired"]) else row["p_wilcoxon"]
    figures = f"{n} prompts, {change}, 95 % interval {row['ci_low']:.2f} to {row['ci_high']:.2f}, {_p_value(p)}"
    scores = f"{row['tuned_mean']:.2f} against {row['base_mean']:.2f}"
    if p >= alpha:
        return (
            "It cannot be told whether the tuned model leans more or less on the instruction than the base: importance "
            f"density {scores} ({figures})."
        )
    direction = "more" if row["difference"] > 0 else "less"
    return (
        f"The tuned model leans {direction} on the instruction than the base: importance density {scores} ({figures})"
        f"{_reach(diff, alpha)}."
    )


def tables_text(diff: AttributionDiff) -> str:
    """The verdict and the table of groups, for a terminal."""
    columns = ["group", "n", "base_mean", "tuned_mean", "difference", "ci_low", "ci_high", "effect_size", "p_paired"]
    rows = diff.groups[[*columns, "p_holm", "note"]]
    return f"{verdict(diff)}\n\n{rows.to_string(index=False, float_format=lambda x: f'{x:.3g}', na_rep='')}"


def tables_html(diff: AttributionDiff) -> str:
    """The verdict and the tables, for a notebook. Ids and group names are escaped."""
    attrs = diff.groups.attrs
    head = f"{attrs.get('base_model', '')} \N{RIGHTWARDS ARROW} {attrs.get('tuned_model', '')}"
    tables = [
        ("Instruction importance density", diff.groups),
        ("At equal response length", diff.equal_length),
        ("With response lengths as controls", diff.regression),
        ("Followed against unfollowed instructions", diff.ratings),
        ("Prompts", diff.prompts.head(10)),
    ]
    parts = [f"<p><b>{escape(head)}</b></p><p>{escape(verdict(diff))}</p>"]
    for title, table in tables:
        if table is not None:
            note = f"<p>{escape(str(table.attrs['note']))}</p>" if table.attrs.get("note") else ""
            parts.append(f"<h4>{title}</h4>{note}{_html(table)}")
    return f"<div>{''.join(parts)}</div>"


def _html(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, na_rep="", escape=True, float_format=lambda x: f"{x:.3g}")


def _p_value(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def _reach(diff: AttributionDiff, alpha: float) -> str:
    """Where else the difference holds, and where it does not."""
    sign = np.sign(diff.groups.iloc[0]["difference"])
    rank, equal, grid = diff.groups.iloc[0]["p_wilcoxon"], diff.equal_length.iloc[0], diff.sensitivity
    holds = int(((grid.p_paired < alpha) & (np.sign(grid.difference) == sign)).sum())
    equal_p = equal["p_paired"] if np.isfinite(equal["p_paired"]) else equal["p_wilcoxon"]
    doubts = []
    if rank >= alpha:
        doubts.append(f"not by ranks ({_p_value(rank)})")
    if np.isfinite(equal_p) and (equal_p >= alpha or np.sign(equal["difference"]) != sign):
        doubts.append(f"not at equal response length ({_p_value(equal_p)}, {equal['difference']:+.2f})")
    controlled = diff.regression.iloc[0]
    if controlled["p"] >= alpha or np.sign(controlled["coefficient"]) == -sign:
        doubts.append(f"not with lengths as controls ({_p_value(controlled['p'])}, {controlled['coefficient']:+.2f})")
    settings = f"at {holds} of {grid.p_paired.size} settings of cut-off and power"
    if doubts:
        return f", but {' and '.join(doubts)}; it holds {settings}"
    return f"; it holds {'at equal response length and ' if np.isfinite(equal_p) else ''}{settings}"
