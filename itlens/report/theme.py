"""The colours and the figure style that all views share, and the check that a table has the columns they need.

Base is vermilion and tuned is blue everywhere, two colours that stay apart for every common kind of colour
blindness (after Okabe and Ito) and stand out from white and from near-black alike. Figures have no background and
grey lettering, so that they read in a light and in a dark notebook; a report gives them its own colours. The style
travels inside each figure: no global template is set.
"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from itlens.errors import ResultError

BASE, TUNED, NEUTRAL = "#d55e00", "#2479c2", "#8a9099"
# Things that are told apart and belong to no model: subspace sizes (with a shape each), linguistic levels from form to
# meaning. Their lightness differs too, so that colour-blind readers and grey prints keep them apart.
SIZES = ("#0f9d7a", "#9b59b6", "#b8860b", "#d6457f")
LEVELS = {"phonology": "#5b3fa8", "morphology": "#b77fc9", "syntax": "#0c8468", "semantics": "#e3c44b"}
PALE = "#c6cbd2"  # what is the rest of a whole: no level, the base's own choice
# Weight matrices. Lines are thin: each colour has a contrast of 3 with a white and with a dark card alike.
MATRICES = {
    "W_Q": "#7d63d4", "W_K": "#b678cc", "W_V": "#0c8468", "W_O": "#3fa480", "W_in": "#b9500f", "W_gate": "#c4861a",
    "W_out": "#2479c2",
}  # fmt: skip
# What a dark page draws in place of colours that are glaring on its cards, or hardly seen.
DARK_TONES = {PALE: "#a1a5ab", LEVELS["phonology"]: "#8357db"}
_BETWEEN = ("#0f9d7a", "#9b59b6", "#b8860b", "#d6457f")  # models of a series between the first and the last
TUNED_BAND = "rgba(36,121,194,0.18)"
DIVERGING = [[0.0, "#b34700"], [0.25, "#ee9b62"], [0.5, "#f3f3f1"], [0.75, "#78b0e0"], [1.0, "#155a9a"]]
SIGNED = [[0.0, "#6c3483"], [0.25, "#b98bcc"], [0.5, "#f3f3f1"], [0.75, "#78b0e0"], [1.0, "#155a9a"]]
SEQUENTIAL = [[0.0, "#f3f3f1"], [0.5, "#78b0e0"], [1.0, "#0d3f70"]]
SEQUENTIAL_BASE = [[0.0, "#f3f3f1"], [0.5, "#ee9b62"], [1.0, "#8a3600"]]
SEQUENTIAL_NEUTRAL = [[0.0, "#f3f3f1"], [0.5, "#9aa7ad"], [1.0, "#2f3d45"]]
# On a dark page: zero is near the card's colour and the ends are bright. Only the page knows its theme.
_DARK_ZERO = "#242a32"
RAMPS = (
    (DIVERGING, [[0.0, "#ffb98a"], [0.25, "#b8682f"], [0.5, _DARK_ZERO], [0.75, "#3d7db5"], [1.0, "#a9d6ff"]]),
    (SIGNED, [[0.0, "#e3bdf0"], [0.25, "#8f5ca8"], [0.5, _DARK_ZERO], [0.75, "#3d7db5"], [1.0, "#a9d6ff"]]),
    (SEQUENTIAL, [[0.0, _DARK_ZERO], [0.5, "#3d7db5"], [1.0, "#b5dcff"]]),
    (SEQUENTIAL_BASE, [[0.0, _DARK_ZERO], [0.5, "#b8682f"], [1.0, "#ffc9a3"]]),
    (SEQUENTIAL_NEUTRAL, [[0.0, _DARK_ZERO], [0.5, "#77858d"], [1.0, "#e2e8eb"]]),
)
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
TEXT, GRID = "#7b828c", "rgba(128,134,142,0.25)"

_AXIS = {
    "gridcolor": GRID,
    "zerolinecolor": "rgba(128,134,142,0.55)",
    "linecolor": GRID,
    "ticks": "",
    "automargin": True,
    "title": {"standoff": 10, "font": {"size": 13}},
}


def figure(title: str, *, subtitle: str = "", height: int = 420, **layout: object) -> go.Figure:
    """An empty figure in the style of itlens; `title` and `subtitle` are plotly mark-up (escape before)."""
    heading: dict[str, object] = {"text": title, "x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 17}}
    if subtitle:
        heading["subtitle"] = {"text": subtitle, "font": {"size": 12.5}}
    return go.Figure(layout={"template": _template(), "title": heading, "height": height, **layout})


def model_colors(count: int) -> list[str]:
    """Colours of so many models in order: the first is the base, the last the tuned one."""
    between = [_BETWEEN[place % len(_BETWEEN)] for place in range(count - 2)]
    return [BASE, *between, TUNED][:count]


def _template() -> go.layout.Template:
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": TEXT},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "margin": {"l": 60, "r": 30, "t": 90, "b": 56},
            "hoverlabel": {"font": {"family": FONT, "size": 13}, "align": "left"},
            "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom"},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "rgba(128,134,142,0.6)", "activecolor": TEXT},
            "xaxis": _AXIS,
            "yaxis": _AXIS,
        }
    )


def coloured(words: str, color: str) -> str:
    """Return words in a colour, in plotly's mark-up (escape before)."""
    return f'<span style="color:{color}">{words}</span>'


def require(table: pd.DataFrame, columns: tuple[str, ...], call: str, source: str) -> None:
    """Raise when a column is missing, naming the call, what it got and where such a table comes from."""
    missing = [name for name in columns if name not in getattr(table, "columns", ())]
    if missing:
        raise ResultError(f"{call} needs the columns {', '.join(missing)}: pass {source}, not {_kind(table)}.")


def _kind(value: object) -> str:
    names = ", ".join(map(str, getattr(value, "columns", [])))
    return f"a table with {names}" if names else f"a {type(value).__name__}"
