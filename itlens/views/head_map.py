"""All heads of a model at a glance: what tuning changed in the word pairs of each (`heads`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.views import text, theme
from itlens.views.numbers import is_number, number, p_value, percent, rounded, rounded_range, whole
from itlens.views.prompt_charts import require

CHANGES = ("layer", "head", "change", "query", "key", "rank")
LEVEL = 0.05  # of Benjamini-Hochberg over all heads
_MOST_LABELS = 40
_NEEDED = (
    "kept", "gained", "lost", "overlap", "base_instruction_share", "tuned_instruction_share", "instruction_change",
    "instruction_p_bh",
)  # fmt: skip


@dataclass(frozen=True)
class _Quantity:
    """A quantity that the map can show: the words on its button and beside its colours, and how it is coloured."""

    button: str
    words: str
    colors: list[list[Any]]
    span: str  # "share": 0 to 1; "count": 0 to the largest of `like`; "change": as far below zero as above
    like: tuple[str, ...] = ()
    ticks: str = ""


_QUANTITIES = {
    "overlap": _Quantity("overlap", "overlap (kept / all pairs)", theme.SEQUENTIAL_NEUTRAL, "share"),
    # one scale for both, so that their colours can be compared
    "gained": _Quantity("gained", "pairs only in tuned", theme.SEQUENTIAL, "count", ("gained", "lost")),
    "lost": _Quantity("lost", "pairs only in base", theme.SEQUENTIAL_BASE, "count", ("gained", "lost")),
    "kept": _Quantity("kept", "pairs in both", theme.SEQUENTIAL_NEUTRAL, "count", ("kept",)),
    "instruction_change": _Quantity(
        "instruction verbs", "instruction verbs, tuned − base (count)", theme.DIVERGING, "change"
    ),
    "instruction_share_change": _Quantity(
        "their share", "share of instruction verbs, tuned − base", theme.DIVERGING, "change", ticks="+.1%"
    ),
}


def head_name(layer: object, head: object) -> str:
    """L5H3: head 3 of layer 5, both counted from 0."""
    return f"L{int(layer)}H{int(head)}"  # type: ignore[call-overload]


def heads(ds: xr.Dataset, *, value: str = "overlap", changes: pd.DataFrame | None = None, top: int = 5) -> go.Figure:
    """A map of all heads, layers down and heads across, with buttons for the quantities it can show.

    ds: of itlens.diff.word_pairs. value: what it shows first: "overlap" (of base's and tuned's distinct pairs, 0 to 1),
    "gained", "lost", "kept" (distinct pairs), "instruction_change" (tuned - base count of instruction verbs in repeated
    pairs), "instruction_share_change" (of their share of those pairs' words). Shares and counts start at zero; changes
    are coloured alike on both sides of zero. Cells stay empty where a number does not exist (no pairs). Stars mark
    heads whose instruction verbs changed (Benjamini-Hochberg over all heads below 0.05). changes: of
    itlens.diff.pair_changes; hovering then names a head's `top` gained and lost pairs.
    Raises ResultError for another kind of Dataset or table, and for an unknown value.
    """
    require_diff(ds, "views.heads", _NEEDED, ("layer", "head"))
    if value not in _QUANTITIES:
        raise ResultError(f"views.heads cannot draw value={value!r}: choose one of {', '.join(_QUANTITIES)}.")
    if changes is not None:
        require(changes, CHANGES, "views.heads", "the table of itlens.diff.pair_changes")
    layers, numbers = _whole_coordinate(ds, "layer"), _whole_coordinate(ds, "head")
    fig = theme.figure(
        "What each head relates, base against tuned",
        subtitle=_significance(ds),
        height=int(np.clip(200 + 17 * len(layers), 330, 1100)),
        xaxis={"title": {"text": "head"}, **_labels(numbers), "range": [-0.5, len(numbers) - 0.5]},
        yaxis={"title": {"text": "layer"}, **_labels(layers), "range": [len(layers) - 0.5, -0.5]},
    )
    fig.add_heatmap(
        **_drawn(ds, value), x=list(range(len(numbers))), y=list(range(len(layers))), xgap=1, ygap=1,
        customdata=_hover(ds, layers, numbers, changes, top), hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    _mark_significant(fig, ds)
    _add_buttons(fig, ds, value)
    return fig


def require_diff(ds: xr.Dataset, call: str, names: tuple[str, ...], dims: tuple[str, ...]) -> None:
    """Raise unless `ds` has what itlens.diff.word_pairs gives."""
    if isinstance(ds, xr.Dataset) and all(name in ds for name in names) and set(dims) <= set(ds.dims):
        return
    got = f"a Dataset of {', '.join(map(str, ds.data_vars)) or 'nothing'}" if isinstance(ds, xr.Dataset) else None
    raise ResultError(
        f"{call} needs {', '.join(names)} on ({', '.join(dims)}), got {got or f'a {type(ds).__name__}'}: pass what "
        "itlens.diff.word_pairs returns."
    )


def _drawn(ds: xr.Dataset, value: str) -> dict[str, Any]:
    quantity, z = _QUANTITIES[value], _values(ds, value)
    low, high = _limits(ds, quantity, z)
    bar = {"title": {"text": quantity.words, "side": "right"}, "thickness": 12, "outlinewidth": 0}
    return {"z": z, "zmin": low, "zmax": high, "colorscale": quantity.colors,
            "colorbar": {**bar, "tickformat": quantity.ticks}}  # fmt: skip


def _values(ds: xr.Dataset, value: str) -> np.ndarray:
    if value == "instruction_share_change":
        return _floats(ds["tuned_instruction_share"]) - _floats(ds["base_instruction_share"])
    return _floats(ds[value])


def _limits(ds: xr.Dataset, quantity: _Quantity, z: np.ndarray) -> tuple[float, float]:
    if quantity.span == "share":
        return 0.0, 1.0
    largest = [np.abs(a[np.isfinite(a)]).max(initial=0.0) for a in (z, *(_floats(ds[name]) for name in quantity.like))]
    limit = float(max(largest)) or 1.0
    return (-limit if quantity.span == "change" else 0.0), limit


def _add_buttons(fig: go.Figure, ds: xr.Dataset, value: str) -> None:
    """One button a quantity; each restyles the map in place, and leaves hover texts and marks as they are."""
    buttons = []
    for name, quantity in _QUANTITIES.items():
        drawn = _drawn(ds, name)
        cells = [[None if np.isnan(x) else x for x in row] for row in drawn["z"].tolist()]
        change = {
            "z": [cells], "zmin": drawn["zmin"], "zmax": drawn["zmax"], "colorscale": [drawn["colorscale"]],
            "colorbar.title.text": quantity.words, "colorbar.tickformat": quantity.ticks,
        }  # fmt: skip
        buttons.append({"label": quantity.button, "method": "restyle", "args": [change, [0]]})
    menu = {
        "type": "buttons", "direction": "right", "buttons": buttons, "active": list(_QUANTITIES).index(value),
        "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 30}, "showactive": True,
        "font": {"size": 12, "color": theme.TEXT}, "bordercolor": theme.GRID,
    }  # fmt: skip
    # plotly would centre the title in the margin, over the buttons
    top = {"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 18}}
    fig.update_layout(updatemenus=[menu], title=top, margin={"t": 160}, height=fig.layout.height + 70)


def _mark_significant(fig: go.Figure, ds: xr.Dataset) -> None:
    rows, columns = np.nonzero(_floats(ds["instruction_p_bh"]) < LEVEL)
    if len(rows):
        fig.add_scatter(
            x=columns, y=rows, mode="markers", hoverinfo="skip", showlegend=True,
            name=f"instruction verbs changed (p BH < {LEVEL:g})",
            marker={"symbol": "star", "size": 10, "color": "#ffffff", "line": {"color": "#1f2328", "width": 1.2}},
        )  # fmt: skip


def _significance(ds: xr.Dataset) -> str:
    p = _floats(ds["instruction_p_bh"])
    found = int((p < LEVEL).sum())
    starred = "no head" if not found else f"{whole(found)} of {whole(p.size)} heads"
    empty = "; empty cells: no pairs" if np.isnan(_floats(ds["overlap"])).any() else ""
    return (
        f"instruction verbs changed in {starred} (Benjamini-Hochberg over all heads, p < {LEVEL:g}"
        f"{'; starred' if found else ''}){empty}"
    )


def _hover(
    ds: xr.Dataset, layers: list[int], numbers: list[int], changes: pd.DataFrame | None, top: int
) -> list[list[str]]:
    pairs = {change: top_pairs(changes, change, top) for change in ("gained", "lost")} if changes is not None else {}
    flat = {str(name): _floats(ds[name]) for name in ds.data_vars if ds[name].dims == ("layer", "head")}
    rows = []
    for i, layer in enumerate(layers):
        row = []
        for j, head in enumerate(numbers):
            one = {name: values[i, j] for name, values in flat.items()}
            named = [_named(change, found.get((layer, head), [])) for change, found in pairs.items()]
            row.append("<br>".join([f"<b>{head_name(layer, head)}</b>", *_counts(one), *named]))
        rows.append(row)
    return rows


def _counts(one: dict[str, Any]) -> list[str]:
    lines = [
        f"overlap {number(one['overlap'], 2)}, {whole(one['kept'])} kept",
        f"{whole(one['gained'])} gained, {whole(one['lost'])} lost",
    ]
    if not is_number(one["base_instruction_share"]) and not is_number(one["tuned_instruction_share"]):
        return [*lines, "instruction verbs: no repeated pairs"]
    shares = [f"{percent(one[f'{model}_instruction_share'])} %" for model in ("base", "tuned")]
    lines += [f"instruction verbs {whole_sign(one['instruction_change'])}", f"{' → '.join(shares)} of the words"]
    if is_number(one.get("instruction_low")) and is_number(one.get("instruction_high")):
        lines.append(
            f"random verbs {rounded(one.get('instruction_expected'), sign=True)},"
            f" 95 % {rounded_range(one['instruction_low'], one['instruction_high'])}"
        )
    p = [p_value(one.get(name)) for name in ("instruction_p", "instruction_p_bh")]
    return [*lines, f"p {p[0]}, Benjamini-Hochberg {p[1]}"]


def _named(change: str, pairs: list[tuple[str, str]]) -> str:
    words = "<br>\u2003".join(f"{_plain(query)} → {_plain(key)}" for query, key in pairs) or "nothing"
    return f"<i>{change}</i><br>\u2003{words}"


def top_pairs(changes: pd.DataFrame, change: str, top: int) -> dict[tuple[int, int], list[tuple[str, str]]]:
    """The first `top` pairs (query, key) of each head that were "kept", "gained" or "lost", in their order."""
    rows = changes.loc[(changes["change"] == change) & (changes["rank"] <= top), list(CHANGES)].sort_values("rank")
    found: dict[tuple[int, int], list[tuple[str, str]]] = {}
    for row in rows.itertuples(index=False):
        found.setdefault((int(row.layer), int(row.head)), []).append((str(row.query), str(row.key)))
    return found


def whole_sign(value: object) -> str:
    """A whole number with its sign: +3, −2, 0."""
    return rounded(value, 0, sign=True)


def _plain(word: str) -> str:
    shown = text.plotly(text.short(text.visible(word), 24))
    # isolates keep a right-to-left word from turning the arrow and its neighbour round
    return shown if shown.isascii() else f"\u2068{shown}\u2069"


def _labels(values: list[int]) -> dict[str, object]:
    every = max(1, -(-len(values) // _MOST_LABELS))
    places = list(range(0, len(values), every))
    return {"tickvals": places, "ticktext": [str(values[i]) for i in places], "tickfont": {"size": 11},
            "showgrid": False, "zeroline": False}  # fmt: skip


def _whole_coordinate(ds: xr.Dataset, name: str) -> list[int]:
    return [int(value) for value in ds[name].values]


def _floats(values: xr.DataArray) -> np.ndarray:
    return np.asarray(values.transpose("layer", "head").values, dtype=float)
