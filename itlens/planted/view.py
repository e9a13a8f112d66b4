"""The chart of a selftest: recall and false discoveries against the strength of the plant (`itlens.views.selftest`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.report import text, theme
from itlens.report.numbers import is_number

_NEEDED = (
    *("recall", "recall_low", "recall_high", "false_discoveries", "trials", "meant", "rank", "auroc"),
    *("overall_recall", "overall_recall_low", "overall_recall_high", "overall_false"),
)
_COLORS = ("#0f9d7a", "#9b59b6", "#b8860b", "#d6457f", "#2479c2", "#d55e00", "#5c6773", "#4b8b3b")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "circle-open", "square-open", "diamond-open", "star")
_DODGE = 1.13  # lines of one panel are shifted apart by this factor, since many agree
_COLUMNS = 3
_TICKS = (0, 25, 50, 75, 100)


def selftest_figure(ds: xr.Dataset) -> go.Figure:
    """Return a panel per kind of plant: recall (lines, with 95 % intervals) of the probes that are meant to see it.

    ds: of itlens.selftest. The subtitle gives all probes together at the strongest plants. Dashed lines are the false
    discoveries of the same pairs; a dotted line marks their intended level. Axes: strength of the plant, in units of
    the noise on the same weights (logarithmic; the lines of a panel are shifted slightly apart); per cent. Raises
    ResultError for another Dataset.
    """
    _require(ds)
    plants = [str(name) for name in ds["plant"].values]
    rows = -(-len(plants) // _COLUMNS)
    columns = min(_COLUMNS, len(plants))
    fig = theme.figure("Are known changes found?", subtitle=_subtitle(ds), height=150 + 290 * rows)
    fig.set_subplots(
        rows, columns, subplot_titles=[_title(ds, name) for name in plants], vertical_spacing=0.36 / max(2, rows),
        horizontal_spacing=0.07,
    )  # fmt: skip
    for number, plant in enumerate(plants):
        where = {"row": number // columns + 1, "col": number % columns + 1}
        for trace in _traces(ds.sel(plant=plant)):
            fig.add_trace(trace, **where)
        fig.add_hline(y=100 * _level(ds), line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"}, **where)
    fig.add_traces(list(_legend(ds)))
    fig.update_xaxes(type="log", tickvals=ds["strength"].values, ticktext=[f"{s:g}" for s in ds["strength"].values])
    fig.update_yaxes(range=[-3, 103], tickvals=_TICKS)
    fig.update_annotations(font={"size": 13, "color": theme.TEXT})
    for column in range(1, columns + 1):
        fig.update_xaxes(title={"text": "strength (noise = 1)"}, row=rows, col=column)
    for row in range(1, rows + 1):
        fig.update_yaxes(title={"text": "share (%)"}, row=row, col=1)
    fig.update_layout(legend={"y": -0.3 / rows, "yanchor": "top"}, margin={"t": 130})
    return fig


def _traces(plant: xr.Dataset) -> Iterator[go.Scatter]:
    """Yield recall with its interval, and false discoveries, of the probes that are meant to see this plant."""
    meant = np.flatnonzero(plant["meant"].values)
    for line, number in enumerate(meant):
        probe = plant["probe"].values[number]
        scores = plant.sel(probe=probe)
        recall, low, high, false = (
            100 * scores[name].values for name in ("recall", "recall_low", "recall_high", "false_discoveries")
        )
        color, symbol = _COLORS[number % len(_COLORS)], _SYMBOLS[number % len(_SYMBOLS)]
        x = scores["strength"].values * _DODGE ** (line - (len(meant) - 1) / 2)
        group = {"legendgroup": str(probe), "showlegend": False, "x": x}
        yield go.Scatter(
            **group, y=recall, mode="lines+markers", name=f"recall, {text.plotly(probe)}",
            line={"color": color, "width": 2.2}, marker={"size": 8, "color": color, "symbol": symbol},
            error_y={"type": "data", "symmetric": False, "array": high - recall, "arrayminus": recall - low,
                     "thickness": 1.1, "width": 3},
            customdata=_hover(scores), hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
        yield go.Scatter(
            **group, y=false, mode="lines", name=f"false, {text.plotly(probe)}", hoverinfo="skip",
            line={"color": color, "width": 1.4, "dash": "dash"},
        )  # fmt: skip


def _hover(scores: xr.Dataset) -> list[str]:
    texts = []
    for number, strength in enumerate(scores["strength"].values):
        at = scores.isel(strength=number)
        low, high = (f"{100 * float(at[name]):.0f}" for name in ("recall_low", "recall_high"))
        texts.append(
            f"<b>{text.plotly(at['probe'].item())}, strength {strength:g}</b><br>"
            f"recall {_percent(at['recall'])} [{low}, {high}] of {int(at['trials'])} pairs<br>"
            f"false discoveries {_percent(at['false_discoveries'])}<br>"
            f"median rank {float(at['rank']):g}, AUROC {float(at['auroc']):.3f}"
        )
    return texts


def _legend(ds: xr.Dataset) -> Iterator[go.Scatter]:
    """Yield an entry per probe (not bound to the first panel that shows it), then what the lines are."""
    empty = {"x": [None], "y": [None], "hoverinfo": "skip"}
    for number, probe in enumerate(ds["probe"].values):
        if bool(ds["meant"].sel(probe=probe).any()):
            line = {"color": _COLORS[number % len(_COLORS)], "width": 2.2}
            named = {"name": text.plotly(probe), "legendgroup": str(probe)}
            marker = {"size": 8, "color": line["color"], "symbol": _SYMBOLS[number % len(_SYMBOLS)]}
            yield go.Scatter(**empty, **named, mode="lines+markers", line=line, marker=marker)
    yield go.Scatter(**empty, mode="lines", name="false discoveries", line={"color": theme.TEXT, "dash": "dash"})
    dotted = {"color": theme.NEUTRAL, "dash": "dot"}
    yield go.Scatter(**empty, mode="lines", name=f"{100 * _level(ds):g} %", line=dotted)


def _title(ds: xr.Dataset, plant: str) -> str:
    about = str(ds["plant_about"].sel(plant=plant).item()) if "plant_about" in ds.coords else plant
    return text.plotly(about)


def _subtitle(ds: xr.Dataset) -> str:
    model = text.short(str(ds.attrs.get("model", "")).rstrip("/").rsplit("/", 1)[-1], 40)
    overall = ds.sel(scope="all")
    recall, low, high = (100 * float(overall[f"overall_recall{end}"]) for end in ("", "_low", "_high"))
    summary = (
        f"at strength {float(ds['strength'][-1]):g}, all together: {recall:.0f} % [{low:.0f}, {high:.0f}] found, "
        f"{_percent(overall['overall_false'])} of what is found is false"
        if is_number(recall)
        else "no probe here is meant to see these plants"
    )
    return (
        f"{text.plotly(model)}: share of planted units that are found on top of noise everywhere, with 95 % intervals "
        f"(dashed: false discoveries)<br>{summary}"
    )


def _level(ds: xr.Dataset) -> float:
    return float(ds.attrs.get("level", 0.05))


def _percent(value: xr.DataArray) -> str:
    return f"{100 * float(value):.1f} %" if is_number(float(value)) else "none to count"


def _require(ds: object) -> None:
    source = "pass what itlens.selftest returns."
    if not isinstance(ds, xr.Dataset):
        raise ResultError(f"views.selftest needs a Dataset, got a {type(ds).__name__}: {source}")
    if missing := [name for name in _NEEDED if name not in ds]:
        raise ResultError(f"views.selftest needs {', '.join(missing)}: {source}")
    if not all(np.size(ds[axis]) for axis in ("plant", "probe", "strength")):
        raise ResultError(f"views.selftest needs at least one plant, probe and strength: {source}")
