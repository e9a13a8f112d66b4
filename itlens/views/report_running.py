"""The section of a report on what runs through both models while they read the same tokens."""

from __future__ import annotations

import plotly.graph_objects as go

from itlens.views.activation_map import activations
from itlens.views.activation_shift_map import shift
from itlens.views.report_content import ReportContent
from itlens.views.report_layout import answer, card, figure, nothing, scroll, section
from itlens.views.report_tables import table
from itlens.views.running_columns import SHIFTED, STATISTICS, statistic_rows
from itlens.views.running_content import ActivationContent

_HEADS = 15
_MAPS = (("attention_mass", "instruction"), ("resid_rms", ""), ("lens_logprob", ""))


def activation_section(content: ReportContent) -> str:
    """Maps of heads, lines over layers, and the heads that moved most; empty when nothing of it was measured."""
    part = content.activation
    if part is None:
        return ""
    intro = (
        "Both models read the same prompts with the same responses, token by token, so that nothing here comes from "
        "different words. A cell is a head (layers down, heads across), a line goes down the layers. What moved most "
        "need not be what matters: a head can write something else without any effect on the response."
    )
    return (
        section("activations", intro)
        + answer(part.verdict, content.verdict)
        + "".join(figure(fig, wide=True) for fig in _figures(part))
        + _statistics(part)
        + _moved(part)
    )


def _figures(part: ActivationContent) -> list[go.Figure]:
    drawn = [
        activations(part.diff, statistic=name, **({"token_class": tokens} if tokens else {}))
        for name, tokens in _MAPS
        if name in part.diff and (not tokens or tokens in part.diff["token_class"].values)
    ]
    moved = [shift(part.shift)] if "result_relative_change" in part.shift else []
    return moved + drawn


def _statistics(part: ActivationContent) -> str:
    rows = statistic_rows(part.diff)
    if not len(rows):
        return nothing("Nothing to show: no statistic has a number in any prompt.")
    sub = (
        "of each statistic the place where the models differ most for its spread over prompts (largest |d_z|); the "
        "strongest of many is always strong, so read it with its corrected p"
    )
    return card("What differs, statistic by statistic", sub, scroll(table(rows, STATISTICS)))


def _moved(part: ActivationContent) -> str:
    rows = part.heads.head(_HEADS)
    if not len(rows):
        return ""
    sub = "how far what a head writes moved, on all tokens but the first; click a heading to sort"
    heading = f"The heads that moved most: {len(rows)} of {len(part.heads)}"
    return card(heading, sub, f'<div class="scroll">{table(rows, SHIFTED, sortable=True)}</div>')
