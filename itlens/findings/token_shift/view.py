"""Where responses leave the base's choices: by place in the response (`token_shift_figure`)."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.report import theme
from itlens.report.head_grid import faded, floats, panels, require_result
from itlens.report.numbers import interval, number, percent, percent_range, whole

_CALL = "views.token_shift"
_TENTHS = 10
_LEVELS = (  # name, words, colour
    ("unshifted", "the base's first choice", theme.PALE),
    ("marginal", "its second or third", "#78b0e0"),
    ("shifted", "beyond its third", theme.TUNED),
)


def token_shift_figure(places: xr.Dataset) -> go.Figure:
    """Draw by place in the response how the base ranks the tokens, and the divergence, with 95 % intervals.

    places: of `itlens.diff.shift_places`. Left: shares (%) by token; in the middle: mean KL(tuned || base) of each
    token, nats; right: shares by tenth of each response. Where responses have fewer than ten tokens on average a tenth
    is less than a token: on the right is then on how many prompts each token rests. Raises ResultError for another kind
    of result.
    """
    require_result(places, "diff.shift_places", _CALL, "itlens.diff.shift_places")
    if not places.sizes["place"]:
        raise ResultError(f"{_CALL} got a result without places; give responses of at least one token.")
    prompts, tokens = (whole(places.attrs.get(name)) for name in ("prompts", "tokens"))
    fig = theme.figure(
        "Where the response leaves the base's choices",
        subtitle=f"{tokens} response tokens of {prompts} prompts; means over prompts, band: 95 % interval",
        height=460,
    )
    short = float(places.attrs["tokens"]) < _TENTHS * float(places.attrs["prompts"])
    last = "responses of at least so many tokens" if short else "along the response"
    panels(fig, [0.4, 0.3, 0.3], ["rank under the base", "divergence", last], shared=False)
    _add_shares(fig, places, "", "place", 1)
    _add_divergence(fig, places)
    if short:
        _add_counts(fig, places)
    else:
        _add_shares(fig, places, "relative_", "tenth", 3)
    fig.update_layout(barmode="stack", bargap=0.12)
    along = "token of the response" if short else "tenth of the response"
    for column, title in ((1, "token of the response"), (2, "token of the response"), (3, along)):
        fig.update_xaxes(title={"text": title}, row=1, col=column)
    for column in (1,) if short else (1, 3):
        fig.update_yaxes(title={"text": "share of tokens (%)"}, range=[0, 100], row=1, col=column)
    if short:
        fig.update_yaxes(title={"text": "prompts"}, rangemode="tozero", row=1, col=3)
    fig.update_yaxes(title={"text": "KL(tuned || base), nats"}, rangemode="tozero", row=1, col=2)
    return fig


def _add_shares(fig: go.Figure, places: xr.Dataset, prefix: str, axis: str, column: int) -> None:
    at = places[axis].values
    for name, words, color in _LEVELS:
        cells = places[f"{prefix}{name}"]
        mean, low, high, n = (floats(cells.sel(summary=each)) for each in ("mean", "ci_low", "ci_high", "n"))
        hover = [
            f"<b>{axis} {place}</b><br>{words}: {percent(mean[i])} % {percent_range(low[i], high[i])}<br>"
            f"over {whole(n[i])} prompts"
            for i, place in enumerate(at)
        ]
        fig.add_bar(
            x=at, y=100 * mean, name=words, legendgroup=name, showlegend=column == 1, customdata=hover,
            marker={"color": color, "line": {"width": 1, "color": theme.NEUTRAL}},
            hovertemplate="%{customdata}<extra></extra>", row=1, col=column,
        )  # fmt: skip


def _add_counts(fig: go.Figure, places: xr.Dataset) -> None:
    n = floats(places["unshifted"].sel(summary="n"))
    hover = [f"<b>token {place}</b><br>{whole(n[i])} prompts" for i, place in enumerate(places["place"].values)]
    fig.add_bar(
        x=places["place"].values, y=n, name="prompts", showlegend=False, customdata=hover,
        marker={"color": theme.NEUTRAL}, hovertemplate="%{customdata}<extra></extra>", row=1, col=3,
    )  # fmt: skip


def _add_divergence(fig: go.Figure, places: xr.Dataset) -> None:
    at = floats(places["place"])
    mean, low, high, n = (floats(places["kl"].sel(summary=each)) for each in ("mean", "ci_low", "ci_high", "n"))
    there = np.isfinite(low) & np.isfinite(high)
    if there.any():
        fig.add_scatter(
            x=np.concatenate([at[there], at[there][::-1]]), y=np.concatenate([high[there], low[there][::-1]]),
            fill="toself", fillcolor=faded(theme.TUNED), line={"width": 0}, mode="lines", hoverinfo="skip",
            showlegend=False, name="KL, 95 %", row=1, col=2,
        )  # fmt: skip
    hover = [
        f"<b>token {int(place)}</b><br>KL {number(mean[i], 2)} nats {interval(low[i], high[i], 2, sign=False)}<br>over "
        f"{whole(n[i])} prompts"
        for i, place in enumerate(at)
    ]
    fig.add_scatter(
        x=at, y=mean, mode="lines+markers", name="KL", showlegend=False, customdata=hover,
        line={"color": theme.TUNED, "width": 2.2}, marker={"size": 6}, hovertemplate="%{customdata}<extra></extra>",
        row=1, col=2,
    )  # fmt: skip
