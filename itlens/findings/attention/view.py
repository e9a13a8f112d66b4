"""All heads of a model at a glance: what tuning changed in the word pairs of each (`heads`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.report import text, theme
from itlens.report.head_grid import head_name
from itlens.report.numbers import is_number, number, p_value, percent, rounded, rounded_range, whole
from itlens.report.theme import require

CHANGES = ("layer", "head", "change", "query", "key", "rank")
LEVEL = 0.05  # of Benjamini-Hochberg over all heads
_MOST_LABELS = 40
_NEEDED = (
    "kept", "gained", "lost", "overlap", "base_instruction_share", "tuned_instruction_share", "instruction_change",
    "instruction_p_bh",
)  # fmt: skip


@dataclass(frozen=True)
class _Quantity:
    """A quantity that the map can show: the words on its button and next to its colours, and how it is coloured."""

    button: str
    words: str
    colors: Sequence[Sequence[object]]
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


def heads(ds: xr.Dataset, *, value: str = "overlap", changes: pd.DataFrame | None = None, top: int = 5) -> go.Figure:
    """Draw a map of all heads, layers down and heads across, with buttons for the quantities it can show.

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
        "What each head relates, base and tuned",
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


def _drawn(ds: xr.Dataset, value: str) -> dict[str, object]:
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
        cells = [[None if np.isnan(x) else x for x in row] for row in _values(ds, name).tolist()]
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
    significant = int((p < LEVEL).sum())
    starred = "no head" if not significant else f"{whole(significant)} of {whole(p.size)} heads"
    empty = "; empty cells: no pairs" if np.isnan(_floats(ds["overlap"])).any() else ""
    return (
        f"instruction verbs changed in {starred} (Benjamini-Hochberg over all heads, p < {LEVEL:g}"
        f"{'; starred' if significant else ''}){empty}"
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
            cell = {name: values[i, j] for name, values in flat.items()}
            named = [_named(change, of_heads.get((layer, head), [])) for change, of_heads in pairs.items()]
            row.append("<br>".join([f"<b>{head_name(layer, head)}</b>", *_counts(cell), *named]))
        rows.append(row)
    return rows


def _counts(cell: Mapping[str, float]) -> list[str]:
    lines = [
        f"overlap {number(cell['overlap'], 2)}, {whole(cell['kept'])} kept",
        f"{whole(cell['gained'])} gained, {whole(cell['lost'])} lost",
    ]
    if not is_number(cell["base_instruction_share"]) and not is_number(cell["tuned_instruction_share"]):
        return [*lines, "instruction verbs: no repeated pairs"]
    shares = [f"{percent(cell[f'{model}_instruction_share'])} %" for model in ("base", "tuned")]
    lines += [f"instruction verbs {whole_sign(cell['instruction_change'])}", f"{' → '.join(shares)} of the words"]
    if is_number(cell.get("instruction_low")) and is_number(cell.get("instruction_high")):
        lines.append(
            f"random verbs {rounded(cell.get('instruction_expected'), sign=True)},"
            f" 95 % {rounded_range(cell['instruction_low'], cell['instruction_high'])}"
        )
    p = [p_value(cell.get(name)) for name in ("instruction_p", "instruction_p_bh")]
    return [*lines, f"p {p[0]}, Benjamini-Hochberg {p[1]}"]


def _named(change: str, pairs: list[tuple[str, str]]) -> str:
    words = "<br>\u2003".join(f"{_plain(query)} → {_plain(key)}" for query, key in pairs) or "nothing"
    return f"<i>{change}</i><br>\u2003{words}"


def top_pairs(changes: pd.DataFrame, change: str, top: int) -> dict[tuple[int, int], list[tuple[str, str]]]:
    """Return the first `top` pairs (query, key) of each head that were "kept", "gained" or "lost", in their order."""
    rows = changes.loc[(changes["change"] == change) & (changes["rank"] <= top), list(CHANGES)].sort_values("rank")
    pairs: dict[tuple[int, int], list[tuple[str, str]]] = {}
    listed = zip(*(rows[name] for name in ("layer", "head", "query", "key")), strict=True)
    for layer, head, query, key in listed:
        pairs.setdefault((int(layer), int(head)), []).append((str(query), str(key)))
    return pairs


def whole_sign(value: object) -> str:
    """Write a whole number with its sign: +3, −2, 0."""
    return rounded(value, 0, sign=True)


def _plain(word: str) -> str:
    shown = text.plotly(text.short(text.with_signs(word), 24))
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
