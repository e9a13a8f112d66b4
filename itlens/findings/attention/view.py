"""What heads relate, at a glance: all heads of a model (`heads`), and the instruction verbs of finding 2 (`verbs`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.report import text, theme
from itlens.report.blocks import Row
from itlens.report.head_grid import cells_of, head_name
from itlens.report.numbers import is_number, number, p_equals, p_value, percent, rounded, rounded_range, whole
from itlens.report.theme import require

CHANGES = ("layer", "head", "change", "query", "key", "rank")
LEVEL = 0.05  # of Benjamini-Hochberg over all heads
_MOST_LABELS = 40
_NEEDED_HEADS = (
    "kept", "gained", "lost", "overlap", "base_instruction_share", "tuned_instruction_share", "instruction_change",
    "instruction_p_bh",
)  # fmt: skip


@dataclass(frozen=True)
class _Quantity:
    """A quantity that the map can show: the words on its button and next to its colours, and how it is coloured."""

    button: str
    words: str
    colors: Sequence[Sequence[object]]
    span: str  # "share", "count": 0 to the largest (of `like` too); "change": as far below zero as above
    like: tuple[str, ...] = ()
    ticks: str = ""


_QUANTITIES = {
    "overlap": _Quantity("overlap", "overlap (kept / all)", theme.SEQUENTIAL_NEUTRAL, "share"),
    # one scale for both, so that their colours can be compared
    "gained": _Quantity("gained", "pairs only in tuned", theme.SEQUENTIAL, "count", ("gained", "lost")),
    "lost": _Quantity("lost", "pairs only in base", theme.SEQUENTIAL_BASE, "count", ("gained", "lost")),
    "kept": _Quantity("kept", "pairs in both", theme.SEQUENTIAL_NEUTRAL, "count", ("kept",)),
    "instruction_change": _Quantity("instruction verbs", "verbs, tuned − base (count)", theme.DIVERGING, "change"),
    "instruction_share_change": _Quantity(
        "their share", "share, tuned − base", theme.DIVERGING, "change", ticks="+.1%"
    ),
}


def heads(ds: xr.Dataset, *, value: str = "overlap", changes: pd.DataFrame | None = None, top: int = 5) -> go.Figure:
    """Draw a map of all heads, layers down and heads across, with buttons for the quantities it can show.

    ds: of itlens.diff.word_pairs. value: what it shows first: "overlap" (of base's and tuned's distinct pairs, 0 to 1),
    "gained", "lost", "kept" (distinct pairs), "instruction_change" (tuned - base count of instruction verbs in repeated
    pairs), "instruction_share_change" (of their share of those pairs' words). Colours of shares and counts go from zero
    to the largest in the map; changes are coloured alike on both sides of zero. Cells stay empty where a number does
    not exist (no pairs). Stars mark heads whose instruction verbs changed (Benjamini-Hochberg over all heads below
    0.05). changes: of itlens.diff.pair_changes; hovering then names a head's `top` gained and lost pairs.
    Raises ResultError for another kind of Dataset or table, and for an unknown value.
    """
    require_diff(ds, "views.heads", _NEEDED_HEADS, ("layer", "head"))
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
        meta=cells_of(layers, numbers),
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
    title = {"text": quantity.words, "side": "right", "font": {"size": 12}}
    bar = {"title": title, "thickness": 12, "outlinewidth": 0, "tickfont": {"size": 11}}
    return {"z": z, "zmin": low, "zmax": high, "colorscale": quantity.colors,
            "colorbar": {**bar, "tickformat": quantity.ticks}}  # fmt: skip


def _values(ds: xr.Dataset, value: str) -> np.ndarray:
    if value == "instruction_share_change":
        return _floats(ds["tuned_instruction_share"]) - _floats(ds["base_instruction_share"])
    return _floats(ds[value])


def _limits(ds: xr.Dataset, quantity: _Quantity, z: np.ndarray) -> tuple[float, float]:
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
            row.append("<br>".join([f"<b>{head_name(layer, head)}</b>", *_cell_lines(cell), *named]))
        rows.append(row)
    return rows


def _cell_lines(cell: Mapping[str, float]) -> list[str]:
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


# ---- verbs

_NEEDED_VERBS = (
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
    require_diff(ds, "views.verbs", _NEEDED_VERBS, ("group", "verb"))
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
        return f"permutation p {p_equals(row['p_null'])}"
    return text.plotly(row.get("note") or "no test was possible")
