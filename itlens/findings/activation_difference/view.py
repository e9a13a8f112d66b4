"""The difference at the beginning of texts: its length by position, how it spreads, and what it does when added."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from itlens.report import theme
from itlens.report.head_grid import faded, panels
from itlens.report.numbers import number, p_value, percent, whole
from itlens.report.theme import require

_CALL = "views.activation_difference"
_SHOWN = 10  # directions of the spectrum
_PANELS = (
    ("logprob", "log-probability of the response", "change (nats a token)"),
    ("kl", "distance to the other model", "change of KL (nats)"),
    ("score", "instruction score", "change of score"),
)
_SIDES = (("base", "added to the base", theme.BASE), ("tuned", "subtracted from the tuned", theme.TUNED))


def difference_figure(places: pd.DataFrame, spectrum: pd.DataFrame) -> go.Figure:
    """Draw the length of the mean difference by position, next to what halves of the texts within the base give, and
    how much of all differences the first directions hold.

    places: of `itlens.diff.difference_places`. spectrum: of `itlens.diff.difference_spectrum`. Raises ResultError for
    other tables.
    """
    require(
        places,
        ("place", "norm", "half_high", "relative", "p_holm"),
        _CALL,
        "what itlens.diff.difference_places returns",
    )
    require(spectrum, ("component", "share", "within"), _CALL, "what itlens.diff.difference_spectrum returns")
    texts = whole(places.attrs.get("texts"))
    fig = theme.figure(
        "What tuning adds where the text has only begun",
        subtitle=f"means over {texts} unrelated texts, before block {places.attrs.get('layer')}",
        height=430,
    )
    panels(fig, [0.5, 0.5], ["length of the mean difference", "is it one direction?"], shared=False)
    own = places[places["place"] != "mean"]
    hover = [
        f"<b>position {row['place']}</b><br>length {number(row['norm'], 2)}, {percent(row['relative'])} % of the "
        f"base's stream<br>between halves of the texts within the base, 97.5 %: {number(row['half_high'], 2)}<br>"
        f"p {p_value(row['p_holm'])} (Holm over positions)"
        for _, row in own.iterrows()
    ]
    fig.add_bar(
        x=own["place"], y=own["norm"], name="tuned − base", customdata=hover, marker={"color": theme.TUNED},
        hovertemplate="%{customdata}<extra></extra>", row=1, col=1,
    )  # fmt: skip
    fig.add_scatter(
        x=own["place"], y=own["half_high"], mode="markers", name="halves of the texts in the base, 97.5 %",
        marker={"symbol": "line-ew", "size": 22, "line": {"width": 3, "color": theme.TEXT}}, hoverinfo="skip",
        row=1, col=1,
    )  # fmt: skip
    fig.update_xaxes(type="category", title={"text": "position in the text"}, row=1, col=1)
    fig.update_yaxes(title={"text": "length"}, rangemode="tozero", row=1, col=1)
    head = spectrum.head(_SHOWN)
    for column, name, color in (("share", "tuned − base", theme.TUNED), ("within", "text − text in the base",
                                                                          theme.NEUTRAL)):  # fmt: skip
        fig.add_scatter(
            x=head["component"], y=100 * head[column], mode="lines+markers", name=name, showlegend=column == "within",
            line={"color": color, "width": 2.2},
            hovertemplate=f"direction %{{x}}: %{{y:.1f}} % of the energy<extra>{name}</extra>", row=1, col=2,
        )  # fmt: skip
    fig.update_xaxes(title={"text": "direction, by energy"}, dtick=1, row=1, col=2)
    fig.update_yaxes(title={"text": "share of energy (%)"}, rangemode="tozero", row=1, col=2)
    return fig


def dial_figure(effects: pd.DataFrame) -> go.Figure:
    """Draw what adding the difference changes, by strength, next to random directions of the same length.

    effects: of `itlens.diff.dial_effects`. Left: log-probability of the response, right: KL of the other model, both as
    changes from the plain model, with 95 % intervals over prompts; of random directions the mean, with their range
    where the pointer is. A third panel: the instruction score, where the dial has read it. Raises ResultError for
    another table.
    """
    require(effects, ("statistic", "model", "strength", "change", "random_change"), "views.difference_dial",
            "what itlens.diff.dial_effects returns")  # fmt: skip
    prompts = whole(effects["n"].iloc[0] if len(effects) else 0)
    fig = theme.figure(
        "The dial: what the difference does", height=430,
        subtitle=f"means over {prompts} prompts, bands: 95 % interval; dotted: random directions, mean",
    )  # fmt: skip
    shown = [each for each in _PANELS if each[0] in set(effects["statistic"])]
    panels(fig, [1 / len(shown)] * len(shown), [_title(effects, *each) for each in shown], shared=False)
    for column, (statistic, _, unit) in enumerate(shown, start=1):
        for model, words, color in _SIDES:
            rows = effects[(effects["statistic"] == statistic) & (effects["model"] == model)]
            _add_curve(fig, rows, "change", words, color, column, dotted=False)
            _add_curve(fig, rows, "random_change", f"{words}, random", color, column, dotted=True)
        fig.add_hline(y=0, line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"}, row=1, col=column)
        fig.update_xaxes(title={"text": "strength"}, rangemode="tozero", row=1, col=column)
        fig.update_yaxes(title={"text": unit}, row=1, col=column)
    return fig


def _title(effects: pd.DataFrame, statistic: str, title: str, unit: str) -> str:
    """Return a panel's title; with the number of prompts where it is not that of the figure."""
    count = int(effects.loc[effects["statistic"] == statistic, "n"].iloc[0])
    return title if count == int(effects["n"].iloc[0]) else f"{title} ({whole(count)} prompts)"


def _add_curve(
    fig: go.Figure, rows: pd.DataFrame, name: str, words: str, color: str, column: int, *, dotted: bool
) -> None:
    at, value, low, high = (rows[each].to_numpy(float) for each in ("strength", name, f"{name}_low", f"{name}_high"))
    there = np.isfinite(low) & np.isfinite(high)
    if there.any() and not dotted:
        fig.add_scatter(
            x=np.concatenate([at[there], at[there][::-1]]), y=np.concatenate([high[there], low[there][::-1]]),
            fill="toself", fillcolor=faded(color), line={"width": 0}, mode="lines", hoverinfo="skip",
            showlegend=False, legendgroup=words, row=1, col=column,
        )  # fmt: skip
    span = "directions from {} to {}" if dotted else "[{}, {}]"
    hover = [
        f"<b>{words}, strength {number(at[i], 1)}</b><br>{number(value[i], 3, sign=True)} "
        + span.format(*(number(end[i], 3, sign=True) for end in (low, high)))
        for i in range(len(rows))
    ]
    fig.add_scatter(
        x=np.concatenate([[0.0], at]), y=np.concatenate([[0.0], value]), mode="lines+markers", name=words,
        legendgroup=words, showlegend=column == 1, customdata=["plain", *hover],
        line={"color": color, "width": 1.6 if dotted else 2.4, "dash": "dot" if dotted else "solid"},
        hovertemplate="%{customdata}<extra></extra>", row=1, col=column,
    )  # fmt: skip
