"""Whether attributions are faithful: curves, or the advantage over random orders by method (`faithfulness`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.views import text, theme
from itlens.views.deletion_curves import many_prompts, one_prompt
from itlens.views.head_grid import require_result
from itlens.views.numbers import interval, number, p_value, whole

_CALL = "views.faithfulness"
_NEEDED = ("method", "by", "direction", "n", "base_advantage", "tuned_advantage", "base_low", "tuned_low")
_OFFSET = {"base": -0.13, "tuned": 0.13}


def faithfulness(result: Any) -> go.Figure:
    """Whether the tokens that an attribution calls important are those that the response hangs on.

    result: a Dataset of `itlens.faithfulness`: the mean log-probability of the response (nats) when the most important
    share of the prompt's tokens is removed, or when only it is kept; grey: random orders, mean and 95 %. Faithful
    orders fall fast and rise fast. Or of `itlens.diff.faithfulness_curves`: the same as shares, means over prompts with
    95 % intervals, of any number of models. Or the table of `itlens.diff.faithfulness`: the advantage over random
    orders, per method and direction, base and tuned, with 95 % intervals over prompts. Raises ResultError for anything
    else.
    """
    if isinstance(result, pd.DataFrame):
        return _table(result)
    if isinstance(result, xr.Dataset) and result.attrs.get("probe") == "diff.faithfulness_curves":
        return many_prompts(result)
    source = "itlens.faithfulness, itlens.diff.faithfulness or itlens.diff.faithfulness_curves"
    require_result(result, "faithfulness", _CALL, source)
    return one_prompt(result)


def _table(table: pd.DataFrame) -> go.Figure:
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise ResultError(
            f"{_CALL} needs the columns {', '.join(missing)}: pass what itlens.diff.faithfulness returns."
        )
    rows = np.arange(len(table))
    unit = "nats" if table.attrs.get("unit") == "nats" else "share of what the whole prompt does"
    fig = theme.figure(
        "Are attributions better than random orders?",
        subtitle="mean over prompts with 95 % interval; right of zero: better",
        height=max(280, 170 + 46 * len(table)),
        xaxis={"title": {"text": f"advantage over random orders ({unit})"}},
        yaxis={"tickvals": rows, "ticktext": [_label(row) for row in table.itertuples()], "showgrid": False},
    )
    fig.update_yaxes(range=[len(table) - 0.5, -0.5], zeroline=False)
    top = {"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 18}}
    fig.update_layout(title=top, legend={"y": -0.1 - 0.5 / len(table), "yanchor": "top"})
    fig.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.5, "dash": "dot"})
    for name, color in (("base", theme.BASE), ("tuned", theme.TUNED)):
        fig.add_trace(_dots(table, name, color, rows + _OFFSET[name]))
    return fig


def _dots(table: pd.DataFrame, name: str, color: str, y: np.ndarray) -> go.Scatter:
    middle, low, high = (table[f"{name}_{end}"].to_numpy(float) for end in ("advantage", "low", "high"))
    labels = [
        f"<b>{name}</b>, {_label(row)}<br>advantage {number(getattr(row, f'{name}_advantage'), sign=True)}"
        f" {interval(getattr(row, f'{name}_low'), getattr(row, f'{name}_high'))}"
        f"<br>p {p_value(getattr(row, f'{name}_p'))}"
        f"<br>tuned − base {number(row.difference, sign=True)}, p {p_value(row.p_paired)}"
        for row in table.itertuples()
    ]
    return go.Scatter(
        x=middle, y=y, mode="markers", name=name, marker={"color": color, "size": 10}, customdata=labels,
        error_x={"type": "data", "symmetric": False, "array": high - middle, "arrayminus": middle - low,
                 "thickness": 1.8, "width": 4, "color": color},
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _label(row: Any) -> str:
    by = f" by {row.by}" if row.by else ""
    return f"{text.plotly(str(row.method).replace('_', ' '))}{text.plotly(by)}, {row.direction} (n={whole(row.n)})"
