"""Figures of the paired comparison: every prompt (`scores`) and every group (`groups`)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from itlens.errors import ResultError
from itlens.views import text, theme
from itlens.views.numbers import interval, is_number, number, p_value, whole

_SCORES = ("id", "group", "base", "tuned", "difference")
_GROUPS = ("group", "n", "difference", "ci_low", "ci_high")


def scores(prompts: pd.DataFrame) -> go.Figure:
    """One point per prompt: the base model's instruction score across, the tuned model's up, and the diagonal.

    Points above the diagonal are prompts on which the tuned model leans more on the instruction. `prompts` is
    `AttributionDiff.prompts`. Axes: instruction score (no unit; the sum of scaled densities over log2(2 + tokens)).
    """
    require(prompts, _SCORES, "views.scores", "AttributionDiff.prompts")
    table = prompts.loc[prompts["base"].notna() & prompts["tuned"].notna(), list(_SCORES)]
    higher, lower = table["difference"] > 0, table["difference"] < 0
    fig = theme.figure(
        "Instruction score of every prompt",
        subtitle=f"tuned higher on {whole(higher.sum())} of {whole(len(table))} prompts, base on {whole(lower.sum())}",
        height=460,
        xaxis={"title": {"text": "base: instruction score"}},
        yaxis={"title": {"text": "tuned: instruction score"}},
    )
    limit = 1.06 * float(max(table["base"].max(), table["tuned"].max(), 0.1)) if len(table) else 1.0
    fig.add_scatter(
        x=[0, limit], y=[0, limit], mode="lines", line={"color": theme.NEUTRAL, "dash": "dot", "width": 1.5},
        name="equal", hoverinfo="skip",
    )  # fmt: skip
    for rows, name, color in (
        (table[higher], "tuned higher", theme.TUNED),
        (table[lower], "base higher", theme.BASE),
        (table[~higher & ~lower], "no difference", theme.NEUTRAL),
    ):
        if len(rows):
            fig.add_trace(_points(rows, name, color))
    fig.update_xaxes(range=[-0.03 * limit, limit])
    fig.update_yaxes(range=[-0.03 * limit, limit])
    return fig


def _points(rows: pd.DataFrame, name: str, color: str) -> go.Scatter:
    labels = [
        f"<b>{text.plotly(text.short(row.id))}</b><br>{text.plotly(text.short(row.group))}"
        f"<br>base {number(row.base)} · tuned {number(row.tuned)} · difference {number(row.difference, sign=True)}"
        for row in rows.itertuples()
    ]
    return go.Scatter(
        x=rows["base"].to_numpy(float), y=rows["tuned"].to_numpy(float), mode="markers", name=name,
        marker={"color": color, "size": 8, "opacity": 0.75, "line": {"width": 0.5, "color": "rgba(255,255,255,.6)"}},
        customdata=labels, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def groups(groups: pd.DataFrame) -> go.Figure:
    """A forest plot: per group the paired difference (tuned minus base) of the score with its 95 % interval.

    `groups` is `AttributionDiff.groups` (or `.equal_length`). The p-values at the right are paired, two-sided,
    and corrected by Holm over the groups; the row of all prompts shows its own paired p. A group that was too small
    for a test says so.
    """
    require(groups, _GROUPS, "views.groups", "AttributionDiff.groups")
    table = groups.reset_index(drop=True)
    rows = np.arange(len(table))
    is_all = (table["group"] == "all").to_numpy(bool)
    fig = theme.figure(
        "Difference per group",
        subtitle="tuned − base, mean over prompts, with 95 % bootstrap interval",
        height=max(260, 150 + 30 * len(table)),
        xaxis={"title": {"text": "difference of the instruction score (tuned − base)"}, "zeroline": True},
        yaxis={"tickvals": rows, "ticktext": [_group_label(row) for row in table.itertuples()], "showgrid": False},
        showlegend=False,
    )
    fig.update_layout(margin={"r": 110})
    fig.update_yaxes(range=[len(table) - 0.4, -0.6])
    fig.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.5, "dash": "dot"})
    for mask, size, symbol in ((~is_all, 9, "circle"), (is_all, 14, "diamond")):
        if mask.any():
            fig.add_trace(_intervals(table[mask], rows[mask], size, symbol))
    for y, row in zip(rows, table.itertuples(), strict=True):
        fig.add_annotation(
            x=1.01, xref="paper", xanchor="left", y=y, yref="y", showarrow=False, text=_test_words(row), align="left",
            font={"size": 12},
        )  # fmt: skip
    return fig


def _intervals(table: pd.DataFrame, rows: np.ndarray, size: int, symbol: str) -> go.Scatter:
    middle = table["difference"].to_numpy(float)
    colors = np.select([middle > 0, middle < 0], [theme.TUNED, theme.BASE], theme.NEUTRAL)
    labels = [
        f"<b>{text.plotly(text.short(row.group))}</b> (n = {whole(row.n)})<br>difference"
        f" {number(row.difference, sign=True)}, 95 % interval {interval(row.ci_low, row.ci_high)}"
        for row in table.itertuples()
    ]
    return go.Scatter(
        x=middle, y=rows, mode="markers", name="difference", customdata=labels,
        marker={"color": list(colors), "size": size, "symbol": symbol},
        error_x={
            "type": "data", "symmetric": False, "array": table["ci_high"].to_numpy(float) - middle,
            "arrayminus": middle - table["ci_low"].to_numpy(float), "color": theme.NEUTRAL, "thickness": 2, "width": 5,
        },
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _group_label(row: object) -> str:
    name = text.plotly(text.short(row.group, 32))  # type: ignore[attr-defined]
    name = "<b>all prompts</b>" if name == "all" else name
    return f"{name} (n={whole(row.n)})"  # type: ignore[attr-defined]


def _test_words(row: object) -> str:
    p = getattr(row, "p_paired" if row.group == "all" else "p_holm", None)  # type: ignore[attr-defined]
    if not is_number(p):
        return "too few to test" if "too few" in str(getattr(row, "note", "")) else "no test"
    words = p_value(p)
    return f"p {words}" if words.startswith("<") else f"p = {words}"


def require(table: pd.DataFrame, columns: tuple[str, ...], call: str, source: str) -> None:
    """Raise when a column is missing, naming the call, what it got and where such a table comes from."""
    missing = [name for name in columns if name not in getattr(table, "columns", ())]
    if missing:
        raise ResultError(f"{call} needs the columns {', '.join(missing)}: pass {source}, not {_kind(table)}.")


def _kind(value: object) -> str:
    names = ", ".join(map(str, getattr(value, "columns", [])))
    return f"a table with {names}" if names else f"a {type(value).__name__}"
