"""The verbs of finding 2: in how many of the heads where a verb's count changed did it rise?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.attention.view import require_diff
from itlens.report import text, theme
from itlens.report.blocks import Row
from itlens.report.numbers import is_number, p_value, percent, whole

_NEEDED = (
    "raised", "lowered", "share", "instruction_share", "instruction_std", "general_share", "general_std", "null_low",
    "null_high", "p_null",
)  # fmt: skip
_EVEN = 0.5  # as often up as down
_BAND = "rgba(138,144,153,0.20)"


def verbs(ds: xr.Dataset, *, group: str = "all", top: int | None = None) -> go.Figure:
    """Draw a bar per instruction verb: the share of changed heads where its count rose, from 0.5 (no direction).

    ds: of itlens.diff.word_pairs. group: "all", or one of its groups of layers. top: only the verbs with the most
    changed heads; default all that changed anywhere. Above the bars are the means of the instruction verbs and of the
    general verbs, with one standard deviation over verbs to each side. The grey band is where the mean of random verb
    sets lies in 95 % of the draws (the permutation null of the difference, laid around the general verbs' mean).
    Axis: per cent of the heads in which the verb's count changed. Raises ResultError for another Dataset or group.
    """
    require_diff(ds, "views.verbs", _NEEDED, ("group", "verb"))
    row, shown = _group(ds, group), _rows(ds, group, top)
    labels = [*_means(row), *(text.plotly(text.short(verb, 24)) for verb in shown["verb"])]
    where = "all layers" if group == "all" else group
    fig = theme.figure(
        "Which instruction verbs do heads relate more after tuning?",
        subtitle=f"{text.plotly(where)}: of the heads where a verb's count changed, those where it rose; {_test(row)}",
        height=max(300, 170 + 18 * len(labels)),
        xaxis={"title": {"text": "changed heads whose count rose (%)"}, "range": [-1, 101],
               "tickvals": [0, 25, 50, 75, 100]},
        yaxis={"tickvals": list(range(len(labels))), "ticktext": labels, "showgrid": False, "zeroline": False,
               "range": [len(labels) - 0.4, -0.7], "tickfont": {"size": 12}},
    )  # fmt: skip
    fig.update_layout(margin={"r": 80})
    _add_null(fig, row)
    fig.add_vline(x=100 * _EVEN, line={"color": theme.NEUTRAL, "width": 1.5, "dash": "dot"})
    for y, (name, mean) in enumerate(_means(row).items()):
        fig.add_trace(_mean(name, mean, y))
    fig.add_trace(_bars(shown, len(_means(row))))
    fig.add_trace(_counts(shown, len(_means(row))))
    if not len(shown):
        fig.add_annotation(
            text="no instruction verb's count changed in any head", x=0.5, y=0.5, xref="paper", yref="paper",
            showarrow=False, font={"size": 15},
        )  # fmt: skip
    return fig


def _group(ds: xr.Dataset, group: str) -> Row:
    names = [str(name) for name in ds["group"].values]
    if group not in names:
        raise ResultError(f"views.verbs got group={group!r}: the groups of this result are {', '.join(names)}.")
    chosen = ds.isel(group=names.index(group))
    return {str(name): chosen[name].item() for name in chosen.data_vars if chosen[name].ndim == 0}


def _rows(ds: xr.Dataset, group: str, top: int | None) -> pd.DataFrame:
    """The instruction verbs that changed, the highest share first, and among equals the most changed heads."""
    place = [str(name) for name in ds["group"].values].index(group)
    chosen = ds[["raised", "lowered", "share"]].isel(group=place)
    rows = pd.DataFrame(
        {name: chosen[name].values for name in ("raised", "lowered", "share")}
        | {"verb": [str(v) for v in ds["verb"].values], "kind": [str(k) for k in ds["kind"].values]}
    )
    rows = rows[(rows["kind"] == "instruction") & rows["share"].notna()]
    rows = rows.assign(changed=rows["raised"] + rows["lowered"])
    rows = rows.sort_values(["changed", "share"], ascending=False, kind="stable").head(top if top else len(rows))
    return rows.sort_values(["share", "changed"], ascending=False, kind="stable").reset_index(drop=True)


def _means(row: Row) -> dict[str, tuple[float, float, str]]:
    means = {}
    for kind, color in (("instruction", theme.TUNED), ("general", theme.NEUTRAL)):
        if is_number(row[f"{kind}_share"]):
            count = f" ({whole(row[f'{kind}_verbs'])})" if f"{kind}_verbs" in row else ""
            means[f"<b>{kind} verbs</b>{count}"] = (row[f"{kind}_share"], row[f"{kind}_std"], color)
    return means


def _mean(name: str, mean: tuple[float, float, str], y: int) -> go.Scatter:
    middle, std, color = mean
    return go.Scatter(
        x=[100 * middle], y=[y], mode="markers", name=name, showlegend=False,
        marker={"symbol": "diamond", "size": 13, "color": color},
        error_x={"type": "data", "array": [100 * std], "color": color, "thickness": 2, "width": 5},
        hovertemplate=f"{name}<br>mean {percent(middle)} %, standard deviation over verbs {percent(std)} %"
        "<extra></extra>",
    )  # fmt: skip


def _bars(rows: pd.DataFrame, first: int) -> go.Bar:
    share = rows["share"].to_numpy(float)
    colors = np.select([share > _EVEN, share < _EVEN], [theme.TUNED, theme.BASE], theme.NEUTRAL)
    labels = [
        f"<b>{text.plotly(text.short(verb))}</b><br>rose in {whole(up)}, fell in {whole(down)} heads"
        f"<br>rose in {percent(risen)} % of them"
        for verb, up, down, risen in zip(rows["verb"], rows["raised"], rows["lowered"], share, strict=True)
    ]
    return go.Bar(
        x=100 * (share - _EVEN), base=[100 * _EVEN] * len(rows), y=[first + i for i in range(len(rows))],
        orientation="h", width=0.72, name="instruction verbs", showlegend=False,
        marker={"color": list(colors), "line": {"width": 1, "color": list(colors)}},
        customdata=labels, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _counts(rows: pd.DataFrame, first: int) -> go.Scatter:
    """In how many heads of how many: a share of two heads means little."""
    words = [f"{whole(up)} of {whole(all_)}" for up, all_ in zip(rows["raised"], rows["changed"], strict=True)]
    return go.Scatter(
        x=[101] * len(rows), y=[first + i for i in range(len(rows))], mode="text", text=words, hoverinfo="skip",
        textposition="middle right", cliponaxis=False, textfont={"size": 11, "color": theme.TEXT}, showlegend=False,
        name="heads",
    )  # fmt: skip


def _add_null(fig: go.Figure, row: Row) -> None:
    if all(is_number(row[name]) for name in ("general_share", "null_low", "null_high")):
        low, high = (100 * (row["general_share"] + row[name]) for name in ("null_low", "null_high"))
        fig.add_scatter(
            x=[None], y=[None], mode="markers", name="mean of random verb sets, 95 %", hoverinfo="skip",
            marker={"symbol": "square", "size": 12, "color": _BAND},
        )  # fmt: skip
        fig.add_vrect(x0=low, x1=high, fillcolor=_BAND, line_width=0, layer="below", name="null")


def _test(row: Row) -> str:
    if is_number(row["p_null"]):
        p = p_value(row["p_null"])
        return f"permutation p {p}" if p.startswith("<") else f"permutation p = {p}"
    return text.plotly(row.get("note") or "no test was possible")
