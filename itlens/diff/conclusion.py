"""What a comparison of attributions says: one honest sentence, and its tables as text and as HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from itlens.diff.statistics import NO_DIFFERENCE, p_text
from itlens.provenance import short_name

if TYPE_CHECKING:
    from itlens.diff.attribution_diff import AttributionDiff


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
    figures = f"{n} prompts, {change}, 95 % interval {row['ci_low']:.2f} to {row['ci_high']:.2f}, {p_text(p)}"
    scores = f"{row['tuned_mean']:.2f} against {row['base_mean']:.2f}"
    if p >= alpha:
        return (
            "It cannot be told whether the tuned model leans more or less on the instruction than the base: importance "
            f"density {scores} ({figures})."
        )
    if (reversal := _reversed_by_length(diff, alpha)) is not None:
        return reversal
    direction = "more" if row["difference"] > 0 else "less"
    return (
        f"The tuned model leans {direction} on the instruction than the base: importance density {scores} ({figures})"
        f"{_reach(diff, alpha)}."
    )


def _reversed_by_length(diff: AttributionDiff, alpha: float) -> str | None:
    """The sentence for a difference that is significant the other way round at equal response length; else None."""
    whole, equal = diff.groups.iloc[0], diff.equal_length.iloc[0]
    if not equal["p_paired"] < alpha or np.sign(equal["difference"]) == np.sign(whole["difference"]):
        return None
    lengths = diff.prompts[["base_targets", "tuned_targets"]].mean()
    return (
        "Whether the tuned model leans more on the instruction depends on how much the models write (base "
        f"{lengths['base_targets']:.1f} tokens, tuned {lengths['tuned_targets']:.1f} on average): over whole responses "
        f"its importance density is {_more(whole)} ({_change(whole)}), over the same number of tokens it is "
        f"{_more(equal)} ({_change(equal)})."
    )


def _more(row: pd.Series) -> str:
    return "higher" if row["difference"] > 0 else "lower"


def _change(row: pd.Series) -> str:
    return (
        f"{row['tuned_mean']:.2f} against {row['base_mean']:.2f}, 95 % interval of the mean difference "
        f"{row['ci_low']:+.2f} to {row['ci_high']:+.2f}, {p_text(row['p_paired'])}, n={int(row['n'])}"
    )


def tables_text(diff: AttributionDiff) -> str:
    """The verdict and the table of groups, for a terminal."""
    columns = ["group", "n", "base_mean", "tuned_mean", "difference", "ci_low", "ci_high", "effect_size", "p_paired"]
    rows = diff.groups[[*columns, "p_holm", "note"]]
    return f"{verdict(diff)}\n\n{rows.to_string(index=False, float_format=lambda x: f'{x:.3g}', na_rep='')}"


def tables_html(diff: AttributionDiff) -> str:
    """The verdict and the tables, for a notebook. Ids and group names are escaped."""
    attrs = diff.groups.attrs
    base, tuned = (
        ", ".join(short_name(name) for name in str(attrs.get(f"{which}_model", "")).split(", "))
        for which in ("base", "tuned")
    )
    tables = [
        ("Instruction importance density", diff.groups),
        ("At equal response length", diff.equal_length),
        ("With response lengths as controls", diff.regression),
        ("Followed against unfollowed instructions", diff.ratings),
        ("Prompts", diff.prompts.head(10)),
    ]
    head = f"<b>{escape(base)} \N{RIGHTWARDS ARROW} {escape(tuned)}</b>"
    parts = [f"<p>{head}</p><p>{escape(verdict(diff))}</p>"]
    for title, table in tables:
        if table is not None:
            note = f"<p>{escape(str(table.attrs['note']))}</p>" if table.attrs.get("note") else ""
            parts.append(f"<h4>{title}</h4>{note}{_html(table)}")
    return f"<div>{''.join(parts)}</div>"


def _html(table: pd.DataFrame) -> str:
    """The table, on lines that are not broken: a long note would make every row as tall as a paragraph."""
    shown = table.to_html(index=False, border=0, na_rep="", escape=True, float_format=lambda x: f"{x:.3g}")
    return f'<div style="overflow-x:auto"><div style="width:max-content;white-space:nowrap">{shown}</div></div>'


def _reach(diff: AttributionDiff, alpha: float) -> str:
    """Where else the difference holds, and where it does not."""
    sign = np.sign(diff.groups.iloc[0]["difference"])
    rank, equal, grid = diff.groups.iloc[0]["p_wilcoxon"], diff.equal_length.iloc[0], diff.sensitivity
    holds = int(((grid.p_paired < alpha) & (np.sign(grid.difference) == sign)).sum())
    equal_p = equal["p_paired"] if np.isfinite(equal["p_paired"]) else equal["p_wilcoxon"]
    doubts, held = [], [f"at {holds} of {grid.p_paired.size} settings of cut-off and power"]
    if rank >= alpha:
        doubts.append(f"not by ranks ({p_text(rank)})")
    if equal_p >= alpha or np.sign(equal["difference"]) == -sign:
        doubts.append(f"not at equal response length ({p_text(equal_p)}, {equal['difference']:+.2f})")
    elif np.isfinite(equal_p):
        held.insert(0, "at equal response length")
    controlled = diff.regression.iloc[0]
    if controlled["p"] >= alpha or np.sign(controlled["coefficient"]) == -sign:
        doubts.append(f"not with lengths as controls ({p_text(controlled['p'])}, {controlled['coefficient']:+.2f})")
    return f"{', but ' if doubts else ''}{' and '.join(doubts)}; it holds {' and '.join(held)}"
