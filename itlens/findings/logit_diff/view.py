"""Tokens that tuning raises and lowers, strongest first, with their intervals over texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from itlens.report import theme
from itlens.report.head_grid import panels
from itlens.report.numbers import interval, number, p_value, percent, whole
from itlens.report.text import plotly, short
from itlens.report.theme import require

_CALL = "views.logit_diff"
_SHOWN = 20  # tokens of each panel
_LEVEL = 0.05
_PANELS = (("risen", "most often risen", theme.TUNED), ("fallen", "most often fallen", theme.BASE))


def logit_figure(changes: pd.DataFrame, *, most: int = _SHOWN) -> go.Figure:
    """Draw the mean logit difference of the tokens that rose and fell most often, with 95 % intervals over texts.

    changes: of `itlens.diff.token_changes`. most: tokens of each. Bars that are faded are not significant (sign test
    over texts, Benjamini-Hochberg below 0.05). Raises ResultError for another table.
    """
    require(
        changes, ("change", "word", "text_mean", "text_low", "p_bh"), _CALL, "what itlens.diff.token_changes returns"
    )
    texts, positions = (whole(changes.attrs.get(name)) for name in ("texts", "positions"))
    shown = {name: changes[changes["change"] == name].head(most) for name, _, _ in _PANELS}
    rows = max(1, *(len(table) for table in shown.values()))
    fig = theme.figure(
        "What tuning makes more and less likely, whatever comes before",
        subtitle=f"mean over {texts} texts ({positions} positions), 95 % intervals; faded: not significant; the token "
        f"that is most often among the {whole(changes.attrs.get('top', 100))} that moved most is first",
        height=240 + 22 * rows,
    )
    panels(fig, [0.5, 0.5], [words for _, words, _ in _PANELS], shared=False)
    for column, (name, _, color) in enumerate(_PANELS, start=1):
        _add_tokens(fig, shown[name], name, color, column)
        fig.update_xaxes(title={"text": "logit, tuned − base"}, row=1, col=column)
    return fig


def _add_tokens(fig: go.Figure, rows: pd.DataFrame, name: str, color: str, column: int) -> None:
    value, low, high, p = (rows[each].to_numpy(float) for each in ("text_mean", "text_low", "text_high", "p_bh"))
    words = rows["word"].tolist()
    hover = [
        f"<b>“{plotly(short(word, 40))}”</b><br>{number(value[i], 2, sign=True)} logits {interval(low[i], high[i], 2)}"
        f"<br>among the most {name} at {percent(rows[name].iloc[i])} % of positions<br>p BH {p_value(p[i])}"
        for i, word in enumerate(words)
    ]
    places = np.arange(len(rows))
    fig.add_bar(
        x=value, y=places, orientation="h", name=name, showlegend=False, customdata=hover,
        marker={"color": color, "opacity": np.where(p < _LEVEL, 1.0, 0.35)},
        hovertemplate="%{customdata}<extra></extra>",
        error_x={"symmetric": False, "array": high - value, "arrayminus": value - low, "thickness": 1.2,
                 "color": theme.TEXT},
        row=1, col=column,
    )  # fmt: skip
    fig.update_yaxes(
        tickvals=places, ticktext=[f"“{plotly(short(word, 16))}”" for word in words], range=[len(rows) - 0.5, -0.5],
        showgrid=False, zeroline=False, tickfont={"size": 11}, row=1, col=column,
    )  # fmt: skip
