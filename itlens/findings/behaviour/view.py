"""Behaviours as cards, and which changes go together: behaviours x numbers of the other findings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from itlens.errors import ResultError
from itlens.findings.behaviour.columns import NAMES, PLAIN, scaled
from itlens.report import theme
from itlens.report.blocks import Card
from itlens.report.head_grid import head_map, panels, star_marks, ticks
from itlens.report.numbers import interval, number, p_value
from itlens.stats.paired import p_text

_CALL = "views.behaviour_links"
_NEEDED = ("behaviour", "finding", "number", "spearman", "ci_low", "ci_high", "p_bh", "n")
_SIGNIFICANT = 0.05
_CARDS = 3


def link_map(links: pd.DataFrame) -> go.Figure:
    """Draw the rank correlations of `itlens.diff.behaviour_links`: behaviours down, numbers of findings across.

    A star: p below 0.05 after Benjamini-Hochberg over all cells. Raises ResultError for another table, or an empty one.
    """
    theme.require(links, _NEEDED, _CALL, "itlens.diff.behaviour_links")
    if links.empty:
        raise ResultError(f"{_CALL} got no rows: no finding has numbers by prompt that changed.")
    down = [name for name in NAMES if name in set(links["behaviour"])]
    across = list(dict.fromkeys(zip(links["finding"], links["number"], strict=True)))
    across.sort()
    shape = (len(down), len(across))
    rho, stars = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    hover = [["not defined: no spread"] * shape[1] for _ in down]
    for row in links.to_dict("records"):
        i, j = down.index(row["behaviour"]), across.index((row["finding"], row["number"]))
        rho[i, j], stars[i, j] = row["spearman"], row["p_bh"] < _SIGNIFICANT
        hover[i][j] = (
            f"{PLAIN[down[i]]} and {row['number'].replace('_', ' ')} ({row['finding'].replace('_', ' ')})<br>rank "
            f"correlation {number(rho[i, j], 2, sign=True)} {interval(row['ci_low'], row['ci_high'], 2)}<br>p BH "
            f"{p_value(row['p_bh'])}, {row['n']} prompts"
        )
    subtitle = "rank correlation over prompts of what changed; ★ p < 0.05 after Benjamini-Hochberg"
    fig = theme.figure("Behaviour and mechanism", subtitle=subtitle, height=330 + 28 * len(down))
    panels(fig, [1.0], [""], shared=False)
    fig.add_trace(head_map(fig, rho, hover, "rank correlation", signed=True), row=1, col=1)
    if (marks := star_marks(stars, "p < 0.05")) is not None:
        fig.add_trace(marks, row=1, col=1)
    names = [name.replace("_", " ") for _, name in across]
    fig.update_xaxes(**{**ticks(names, len(names)), "tickangle": 40}, range=[-0.5, len(names) - 0.5])
    fig.update_yaxes(**ticks([PLAIN[name] for name in down], len(down)), range=[len(down) - 0.5, -0.5])
    return fig


def behaviour_cards(rows: pd.DataFrame) -> list[Card]:
    """Return a card for each of the first behaviours of all prompts: both models' means. rows: of `behaviour_tests`."""
    cards = []
    for row in rows.head(_CARDS).to_dict("records"):
        name = str(row["statistic"])
        base, tuned = (number(scaled(name, row[f"{side}_mean"]), 1) for side in ("base", "tuned"))
        p = p_text(row["p_holm"]) if np.isfinite(row["p_holm"]) else "no test"
        cards.append(Card(NAMES[name], f"{base} → {tuned}", f"base → tuned · Holm {p} · n = {row['n']} prompts"))
    return cards
