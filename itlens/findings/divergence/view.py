"""Which blocks decide where two answers part: effects by boundary, the share upstream, and what each block adds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from itlens.report import theme
from itlens.report.head_grid import LEVEL, layer_height, layer_lines, panels, ticks
from itlens.report.numbers import interval, number, p_value, percent, percent_range, whole
from itlens.report.theme import require

_CALL = "views.divergence"
_LINES = (  # name, words, colour
    ("upstream", "upstream: whose stream enters", theme.TUNED),
    ("late", "late: whose blocks follow", theme.BASE),
    ("interaction", "interaction", theme.NEUTRAL),
)
_STAR_GAP = 0.06  # between an interval and its star, of the panel's width


def divergence_figure(depth: pd.DataFrame, blocks: pd.DataFrame) -> go.Figure:
    """Draw effects (logits) and the upstream share by boundary, and what each block adds, with 95 % intervals.

    depth: of `itlens.diff.divergence_depth`. blocks: of `itlens.diff.divergence_blocks`. Boundaries and blocks go down.
    A star is a significant block (paired t over prompts, Benjamini-Hochberg below 0.05). Raises ResultError for other
    tables.
    """
    require(
        depth,
        ("boundary", "share", "upstream", "late", "half_depth"),
        _CALL,
        "what itlens.diff.divergence_depth returns",
    )
    require(blocks, ("block", "step", "p_bh"), _CALL, "what itlens.diff.divergence_blocks returns")
    count = len(depth)
    prompts = int(depth["n"].iloc[0]) if count else 0
    fig = theme.figure(
        "Which blocks decide where the answers part",
        subtitle=f"means over {whole(prompts)} prompts whose answers part; bands and bars: 95 % interval over prompts",
        height=layer_height(count),
    )
    panels(
        fig, [0.4, 0.27, 0.33], ["effect on the choice", "share made upstream", "what each block adds"], shared=False
    )
    _add_effects(fig, depth)
    _add_share(fig, depth)
    _add_steps(fig, blocks)
    boundaries = depth["boundary"].to_list()
    for column in (1, 2):
        fig.update_yaxes(**ticks(boundaries), range=[count - 0.5, -0.5], row=1, col=column)
    fig.update_yaxes(title={"text": "boundary: before this block"}, row=1, col=1)
    fig.update_yaxes(
        **ticks(blocks["block"].to_list()), title={"text": "block"}, range=[len(blocks) - 0.5, -0.5], row=1, col=3
    )
    return fig


def _add_effects(fig: go.Figure, depth: pd.DataFrame) -> None:
    places = np.arange(len(depth))
    for name, words, color in _LINES:
        value, low, high = (depth[f"{name}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
        hover = [
            f"<b>boundary {boundary}</b><br>{words}: {number(value[i], 2, sign=True)} logits "
            f"{interval(low[i], high[i], 2)}<br>p BH {p_value(depth[f'{name}_p_bh'].iloc[i])}"
            for i, boundary in enumerate(depth["boundary"])
        ]
        for trace in layer_lines(places, value, low, high, words, color, hover):
            fig.add_trace(trace, row=1, col=1)
    fig.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"}, row=1, col=1)
    fig.update_xaxes(title={"text": "logits, tuned's token − base's"}, row=1, col=1)


def _add_share(fig: go.Figure, depth: pd.DataFrame) -> None:
    value, low, high = (depth[f"share{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    hover = [
        f"<b>boundary {boundary}</b><br>{percent(value[i], 0)} % of the decision is made "
        f"{percent_range(low[i], high[i])}"
        for i, boundary in enumerate(depth["boundary"])
    ]
    lines = layer_lines(np.arange(len(depth)), 100 * value, 100 * low, 100 * high, "share upstream", theme.TUNED, hover)
    for trace in lines:
        fig.add_trace(trace.update(showlegend=False), row=1, col=2)
    fig.add_vline(x=50, line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"}, row=1, col=2)
    half = float(depth["half_depth"].iloc[0])
    if np.isfinite(half):
        fig.add_hline(y=half, line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"}, row=1, col=2)
    fig.update_xaxes(title={"text": "% of the decision"}, row=1, col=2)


def _add_steps(fig: go.Figure, blocks: pd.DataFrame) -> None:
    value, low, high = (blocks[f"step{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    places, significant = np.arange(len(blocks)), blocks["p_bh"].to_numpy(float) < LEVEL
    hover = [
        f"<b>block {block}</b><br>{number(value[i], 2, sign=True)} logits {interval(low[i], high[i], 2)}<br>"
        f"p BH {p_value(blocks['p_bh'].iloc[i])}"
        for i, block in enumerate(blocks["block"])
    ]
    fig.add_bar(
        x=value, y=places, orientation="h", name="block", showlegend=False, customdata=hover,
        marker={"color": theme.TUNED}, hovertemplate="%{customdata}<extra></extra>",
        error_x={"symmetric": False, "array": high - value, "arrayminus": value - low, "thickness": 1.2,
                 "color": theme.TEXT},
        row=1, col=3,
    )  # fmt: skip
    if significant.any():
        beyond = _STAR_GAP * (np.maximum(high, 0).max() - np.minimum(low, 0).min())  # the cap stays in sight
        fig.add_scatter(
            x=np.maximum(high, 0)[significant] + beyond, y=places[significant], mode="markers", hoverinfo="skip",
            name=f"p BH < {LEVEL:g}", marker={"symbol": "star", "size": 9, "color": theme.NEUTRAL}, cliponaxis=False,
            row=1, col=3,
        )  # fmt: skip
    fig.update_xaxes(title={"text": "logits"}, row=1, col=3)
