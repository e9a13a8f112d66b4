"""Figures of the paired comparison: every prompt, every group, along the response, and over the method's settings."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.report import text, theme
from itlens.report.blocks import Row, rows_of
from itlens.report.head_grid import faded, floats
from itlens.report.numbers import interval, is_number, number, p_equals, p_value, stars, whole
from itlens.report.theme import require

Quantity: TypeAlias = Literal["difference", "t_paired", "effect_size", "t_welch"]

_SCORES = ("id", "group", "base", "tuned", "difference")
_HOVERED = 96  # characters of a prompt in a label
_GROUPS = ("group", "n", "difference", "ci_low", "ci_high")
_PAIR = {"base": theme.BASE, "tuned": theme.TUNED}
_QUANTITIES: dict[Quantity, str] = {
    "difference": "difference (tuned − base)",
    "t_paired": "paired t",
    "effect_size": "effect size d_z",
    "t_welch": "Welch t",
}


def scores(prompts: pd.DataFrame, texts: Mapping[str, str] | None = None) -> go.Figure:
    """Draw a point per prompt: the base model's instruction score across, the tuned model's up, and the diagonal.

    Points above the diagonal are prompts on which the tuned model leans more on the instruction. `prompts` is
    `AttributionDiff.prompts`; texts: of the prompts, by id, whose beginnings are shown when a point is pointed at. On a
    report's page a point leads to its prompt. Axes: instruction score (no unit; the sum of scaled densities over
    log2(2 + tokens)).
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
            fig.add_trace(_points(rows, name, color, texts or {}))
    fig.update_xaxes(range=[-0.03 * limit, limit])
    fig.update_yaxes(range=[-0.03 * limit, limit])
    return fig


def _points(rows: pd.DataFrame, name: str, color: str, texts: Mapping[str, str]) -> go.Scatter:
    labels = [
        f"<b>{text.plotly(text.short(row.id))}</b><br>{text.plotly(text.short(row.group))}"
        f"<br>base {number(row.base)} · tuned {number(row.tuned)} · difference {number(row.difference, sign=True)}"
        + _beginning(texts.get(str(row.id), ""))
        for row in rows.itertuples()
    ]
    return go.Scatter(
        ids=rows["id"].astype(str).tolist(), meta={"link": "prompt"},
        x=rows["base"].to_numpy(float), y=rows["tuned"].to_numpy(float), mode="markers", name=name,
        marker={"color": color, "size": 8, "opacity": 0.75, "line": {"width": 0.5, "color": "rgba(255,255,255,.6)"}},
        customdata=labels, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _beginning(words: str) -> str:
    """Return the beginning of a text as lines of a label, each short enough for a small screen."""
    lines = wrap(text.short(" ".join(words.split()), _HOVERED), _HOVERED // 2)
    return "".join(f"<br><i>{text.plotly(line)}</i>" for line in lines)


def groups(groups: pd.DataFrame) -> go.Figure:
    """Draw a forest plot: per group the paired difference (tuned minus base) of the score with its 95 % interval.

    `groups` is `AttributionDiff.groups` (or `.equal_length`). The p-values at the right are paired, two-sided,
    and corrected by Holm over the groups; the row of all prompts shows its own paired p. A group that was too small
    for a test says so.
    """
    require(groups, _GROUPS, "views.groups", "AttributionDiff.groups")
    table = groups.reset_index(drop=True)
    rows = np.arange(len(table))
    records = rows_of(table)
    is_all = (table["group"] == "all").to_numpy(bool)
    fig = theme.figure(
        "Difference per group",
        subtitle="tuned − base, mean over prompts, with 95 % interval",
        height=max(260, 150 + 30 * len(table)),
        xaxis={"title": {"text": "difference of the instruction score (tuned − base)"}, "zeroline": True},
        yaxis={"tickvals": rows, "ticktext": [_group_label(row) for row in records], "showgrid": False},
        showlegend=False,
    )
    fig.update_layout(margin={"r": 110})
    fig.update_yaxes(range=[len(table) - 0.4, -0.6])
    fig.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.5, "dash": "dot"})
    for mask, size, symbol in ((~is_all, 9, "circle"), (is_all, 14, "diamond")):
        if mask.any():
            fig.add_trace(_intervals(table[mask], rows[mask], size, symbol))
    for y, row in zip(rows, records, strict=True):
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


def _group_label(row: Row) -> str:
    name = text.plotly(text.short(row["group"], 32))
    name = "<b>all prompts</b>" if name == "all" else name
    return f"{name} (n={whole(row['n'])})"


def _test_words(row: Row) -> str:
    p = row.get("p_paired" if row["group"] == "all" else "p_holm")
    if not is_number(p):  # where all prompts differ alike, only Wilcoxon's test is possible
        return "no test" if is_number(row.get("p_wilcoxon")) else "too few to test"
    return f"p {p_equals(p)}" if row["group"] == "all" else f"Holm p {p_equals(p)}"


def profile(profile: xr.Dataset) -> go.Figure:
    """Draw the share of the levelled importance on the instruction, along the response, with 95 % bands.

    `profile` is `AttributionDiff.profile`: share, ci_low, ci_high on (model, position), position from 0 (first
    response token) to 1 (last). Both axes are drawn in per cent. Any number of models, in order: profiles of several
    comparisons joined on their axis model.
    """
    _require(profile, ("share",), ("model", "position"), "views.profile", "AttributionDiff.profile")
    fig = theme.figure(
        "Does the response stay on the instruction?",
        subtitle="share of importance on the instruction at each part of the response; bands: 95 % interval",
        xaxis={"title": {"text": "position in the response (% of its length)"}, "range": [0, 100]},
        yaxis={"title": {"text": "importance on the instruction (%)"}, "rangemode": "tozero"},
        hovermode="x unified",
    )
    labels = [str(name) for name in profile["model"].values]
    of_pair = set(labels) <= set(_PAIR)
    colors = [_PAIR[name] for name in labels] if of_pair else theme.model_colors(len(labels))
    for name, color in zip(labels, colors, strict=True):
        fig.add_traces(_curve(profile.sel(model=name), text.plotly(name), color, faded(color)))
    return fig


def _curve(curve: xr.Dataset, name: str, color: str, band: str) -> list[go.Scatter]:
    x, y = 100 * floats(curve["position"]), 100 * floats(curve["share"])
    traces = []
    if "ci_low" in curve and "ci_high" in curve:
        low, high = 100 * floats(curve["ci_low"]), 100 * floats(curve["ci_high"])
        ok = np.isfinite(low) & np.isfinite(high)
        traces.append(
            go.Scatter(
                x=np.concatenate([x[ok], x[ok][::-1]]), y=np.concatenate([high[ok], low[ok][::-1]]), fill="toself",
                fillcolor=band, line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False,
                name=f"{name} band",
            )
        )  # fmt: skip
    traces.append(
        go.Scatter(
            x=x, y=y, mode="lines+markers", name=name, line={"color": color, "width": 2.5}, marker={"size": 5},
            hovertemplate="%{y:.1f} %",
        )
    )  # fmt: skip
    return traces


def sensitivity(sens: xr.Dataset, *, value: Quantity = "difference", threshold: int = 7, p: float = 4) -> go.Figure:
    """Draw `value` over the cut-off b and the power p as a heat map, with marks of significance.

    `sens` is `AttributionDiff.sensitivity` on (threshold, power). `value`: "difference", "t_paired", "effect_size"
    or "t_welch". Marks belong to the paired test, or to Welch's when `value` is "t_welch" (not corrected for the
    number of cells): * p < 0.05, ** p < 0.01, *** p < 0.001. `threshold` and `p`: the setting of the tables, outlined.
    """
    if value not in _QUANTITIES:
        raise ResultError(f"views.sensitivity cannot draw {value!r}: choose one of {', '.join(_QUANTITIES)}.")
    _require(sens, (value,), ("threshold", "power"), "views.sensitivity", "AttributionDiff.sensitivity")
    z = floats(sens[value], "power", "threshold")
    p_name = "p_welch" if value == "t_welch" else "p_paired"
    tests = floats(sens[p_name], "power", "threshold") if p_name in sens else np.full_like(z, np.nan)
    thresholds, powers = floats(sens["threshold"]), floats(sens["power"])
    limit = float(np.nanmax(np.abs(z))) if np.isfinite(z).any() else 1.0
    fig = theme.figure(
        "Does it depend on the method's two settings?",
        subtitle="blue: tuned higher, orange: base higher; * p < 0.05, ** p < 0.01, *** p < 0.001; outlined: used here",
        height=300,
        xaxis={"title": {"text": "cut-off b (levels ≤ b count as 0)"}, "tickvals": _places(thresholds),
               "ticktext": [f"{t:g}" for t in thresholds], "showgrid": False, "zeroline": False},
        yaxis={"title": {"text": "power p"}, "tickvals": _places(powers), "ticktext": [f"{q:g}" for q in powers],
               "showgrid": False, "zeroline": False},
    )  # fmt: skip
    fig.add_heatmap(
        z=z, x=_places(thresholds), y=_places(powers), zmin=-(limit or 1.0), zmax=limit or 1.0, xgap=2, ygap=2,
        colorscale=theme.DIVERGING, customdata=_hover(z, tests, thresholds, powers, _QUANTITIES[value]),
        hovertemplate="%{customdata}<extra></extra>", colorbar={"thickness": 12, "outlinewidth": 0},
    )  # fmt: skip
    # one by one, plotly would copy all annotations for each that is added
    marks = [_mark(i, j, float(z[i, j]), float(tests[i, j]), limit) for i, j in np.ndindex(z.shape)]
    fig.update_layout(annotations=[*fig.layout.annotations, *filter(None, marks)])
    _outline(fig, np.flatnonzero(thresholds == threshold), np.flatnonzero(powers == p))
    return fig


def _mark(row: int, column: int, z: float, p: float, limit: float) -> dict[str, Any] | None:
    """Return the annotation of a cell: its value and stars; None for a cell without a value."""
    if not np.isfinite(z):
        return None
    color = "#ffffff" if abs(z) > 0.6 * limit else "#1f2328"
    text = f"{number(round(z, 2) + 0.0, 2)}<br>{stars(p) or ' '}"
    return {"x": column, "y": row, "text": text, "showarrow": False, "font": {"size": 11, "color": color}, "yshift": -3}


def _outline(fig: go.Figure, columns: np.ndarray, rows: np.ndarray) -> None:
    if len(columns) and len(rows):
        x, y = float(columns[0]), float(rows[0])
        fig.add_shape(
            type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line={"color": theme.TEXT, "width": 3},
            name="default",
        )  # fmt: skip


def _hover(z: np.ndarray, tests: np.ndarray, thresholds: np.ndarray, powers: np.ndarray, words: str) -> list[list[str]]:
    return [
        [
            f"b = {thresholds[j]:g}, p = {powers[i]:g}<br>{words}: {number(z[i, j], sign=True)}"
            f"<br>p-value: {p_value(tests[i, j])}"
            for j in range(z.shape[1])
        ]
        for i in range(z.shape[0])
    ]


def _places(values: np.ndarray) -> list[int]:
    return list(range(len(values)))


def _require(ds: xr.Dataset, names: tuple[str, ...], dims: tuple[str, ...], call: str, source: str) -> None:
    if not isinstance(ds, xr.Dataset) or any(n not in ds for n in names) or any(d not in ds.dims for d in dims):
        got = f"variables {', '.join(map(str, ds.data_vars))}" if isinstance(ds, xr.Dataset) else type(ds).__name__
        raise ResultError(f"{call} needs {', '.join(names)} on ({', '.join(dims)}), got {got}: pass {source}.")
