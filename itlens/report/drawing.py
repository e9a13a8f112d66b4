"""Figures as a page holds them: title and lines as plain text, the rest as compact JSON for assets/figures.js.

Numbers are rounded to what a screen can show (five significant digits of the largest in an array), and what is long is
packed (gzip, base 85). A drawing also carries the colour ramps of `theme.RAMPS` in their light and dark form, since
only the page knows its theme.
"""

from __future__ import annotations

import base64
import html
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.utils import PlotlyJSONEncoder

from itlens.report import text, theme
from itlens.report.blocks import Figure
from itlens.report.page import packed

_PLOTLY_HEIGHT = 450
_MARGIN = {"t": 34, "l": 50, "b": 50}
_DIGITS = 5  # of the largest number of an array
_LONG = 4000  # characters from which data are packed


@dataclass(frozen=True)
class Drawing:
    """A figure for its template. title, lines: plain text above it. data: JSON, packed where it is long.

    has_cells: it has a map whose cells are heads (`itlens.report.head_grid.cells_of`).
    """

    title: str
    lines: tuple[str, ...]
    height: int
    data: Markup
    is_packed: bool
    has_cells: bool = False


def draw(block: Figure, *, above: str = "", height: int | None = None) -> Drawing:
    """Return a figure's drawing. above: the heading over it, which it does not repeat. height: of its neighbour."""
    layout = block.figure.layout
    title, lines = plain_lines(layout.title.text), plain_lines(layout.title.subtitle.text)
    bare = go.Figure(block.figure).update_layout(title={"text": "", "subtitle": {"text": ""}})
    tall = height or drawn_height(block)
    bare.update_layout(margin=_MARGIN, height=tall)
    heading = " ".join(title)
    lines += (block.text,) if block.text else ()
    data = figure_json(bare)
    shown = packed(data) if len(data) > _LONG else text.json_in_script(data)
    has_cells = any(isinstance(trace.meta, dict) and "heads" in trace.meta for trace in bare.data)
    return Drawing("" if heading == above else heading, lines, tall, Markup(shown), len(data) > _LONG, has_cells)


def drawn_height(block: Figure) -> int:
    """Return how high a figure is drawn, in pixels."""
    return int(block.height or block.figure.layout.height or _PLOTLY_HEIGHT)


def plain_lines(markup: str | None) -> tuple[str, ...]:
    """Return plotly's mark-up as lines of plain text."""
    lines = (re.sub(r"<[^>]*>", "", line) for line in re.split(r"<br\s*/?>", markup or ""))
    return tuple(html.unescape(line).strip() for line in lines if line.strip())


def figure_json(figure: go.Figure) -> str:
    """Return {"data", "layout", "ramps", "tones"} as JSON.

    ramps: [[light, dark], ...] of those that figures use. tones: what `theme.DARK_TONES` changes in this one, if any.
    """
    drawn = compact(figure.to_plotly_json())
    coloured = any("colorscale" in trace for trace in drawn["data"])
    ramps = [[light, dark] for light, dark in theme.RAMPS] if coloured else []
    shown = {"data": drawn["data"], "layout": drawn["layout"], "ramps": ramps}
    marks = [mark for trace in drawn["data"] for mark in (trace.get("marker", {}), trace.get("line", {}))]
    colors = [each.get("color") for mark in marks for each in (mark, mark.get("line", {}))]
    plain = {color for color in colors if isinstance(color, str)}
    if tones := {light: dark for light, dark in theme.DARK_TONES.items() if light in plain}:
        shown["tones"] = tones
    return json.dumps(shown, cls=PlotlyJSONEncoder, separators=(",", ":"))


def compact(value: Any) -> Any:
    """Return plotly's data with arrays as lists, numbers rounded, and nothing where a number does not exist."""
    if isinstance(value, np.ndarray):
        return _rounded(value).tolist() if value.dtype.kind == "f" else [compact(each) for each in value.tolist()]
    if isinstance(value, dict) and {"dtype", "bdata"} <= set(value):  # how plotly hands arrays over
        return compact(_array(value))
    if isinstance(value, dict):
        return {name: compact(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [compact(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return _short(float(value)) if np.isfinite(value) else None
    return value


def _array(packed_array: dict[str, Any]) -> np.ndarray:
    """The numbers of plotly's {"dtype", "bdata", "shape"}: little-endian bytes in base64."""
    kind = np.dtype(packed_array["dtype"]).newbyteorder("<")
    values = np.frombuffer(base64.b64decode(packed_array["bdata"]), kind)
    shape = packed_array.get("shape")
    return values if shape is None else values.reshape([int(size) for size in str(shape).split(",")])


def _rounded(values: np.ndarray) -> np.ndarray:
    """Numbers, rounded alike; None for those that do not exist."""
    there = np.isfinite(values)
    largest = float(np.abs(values[there]).max(initial=0.0))
    decimals = _DIGITS - 1 - int(np.floor(np.log10(largest))) if largest else 0
    rounded = np.empty(values.shape, dtype=object)
    rounded[...] = None
    rounded[there] = [_short(number) for number in np.round(values[there].astype(float), decimals).tolist()]
    return rounded


def _short(number: float) -> float | int:
    """The number with at most seven significant digits; a whole one without a point."""
    shown = float(f"{number:.7g}")
    return int(shown) if shown.is_integer() and abs(shown) < 1e15 else shown
