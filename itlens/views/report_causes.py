"""The sections of a report on causes: which parts carry what tuning did, and whether attributions can be believed."""

from __future__ import annotations

import numpy as np
import xarray as xr

from itlens.views import text
from itlens.views.estimate_chart import estimates
from itlens.views.faithfulness_chart import faithfulness
from itlens.views.numbers import whole
from itlens.views.patch_map import patching
from itlens.views.report_content import ReportContent
from itlens.views.report_layout import answer, card, figure, nothing, scroll, section
from itlens.views.report_tables import table
from itlens.views.running_columns import AGREEMENT, FAITHFUL, PATCHED, agreement_rows, patched_rows, top_rows
from itlens.views.running_content import PatchContent

_HEADS = 15


def patch_section(content: ReportContent) -> str:
    """What each part recovers, jointly and beside random parts, and whether other rankings agree."""
    part = content.patching
    if part is None:
        return ""
    top = section("patching", _intro(part.patched)) + answer(part.verdict, content.verdict)
    if not _known(part.patched):
        return top + nothing(
            f"Nothing to show: {text.html(part.patched.attrs.get('note') or 'no effect is a number')}."
        )
    return (
        top
        + _note(part)
        + figure(patching(part.patched), wide=True)
        + _estimates(part)
        + _heads(part)
        + _agreement(part)
    )


def _intro(ds: xr.Dataset) -> str:
    donor, _, receiver = (text.html(name) for name in str(ds.attrs.get("direction", "tuned->base")).partition("->"))
    put = "The weights of a part" if ds.attrs.get("what") == "weights" else "What a part computes in"
    of = f"of the {donor} model are" if ds.attrs.get("what") == "weights" else f"the {donor} model is"
    return (
        f"{put} {of} put into the {receiver} model, while both read the same tokens. Recovered is the share of the gap "
        f"between them that this closes: 0 is the {receiver} model as it is, 1 is as if all of it were the {donor} "
        "model. This is cause, but of these responses to these prompts; parts can stand in for one another, so single "
        "shares need not add up to 1."
    )


def _known(ds: xr.Dataset) -> bool:
    """Whether any part has a recovered fraction, exact or estimated."""
    return any(bool(np.isfinite(ds[name]).any()) for name in ("recovered", "estimated") if name in ds)


def _note(part: PatchContent) -> str:
    said = str(part.patched.attrs.get("note", ""))
    return f'<p class="sub">Note: {text.html(said)}.</p>' if said else ""


def _estimates(part: PatchContent) -> str:
    both = {"recovered", "estimated"} <= set(map(str, part.patched.data_vars))
    return figure(estimates(part.patched)) if both else ""


def _heads(part: PatchContent) -> str:
    rows = patched_rows(part.patched, _HEADS)
    if not len(rows):
        return ""
    heading = f"The heads that carry most: {len(rows)} of {part.patched.sizes['layer'] * part.patched.sizes['head']}"
    sub = "each patched by itself; click a heading to sort"
    carried = card(heading, sub, f'<div class="scroll">{table(rows, PATCHED, sortable=True)}</div>')
    every = patched_rows(part.patched, part.patched.sizes["layer"] * part.patched.sizes["head"], against=True)
    against = every.head(_HEADS)
    if not len(against):
        return carried
    sub = "patched by themselves they widen the gap, by more than chance (p BH below 0.05); the most first"
    return carried + card(
        f"Heads that work against it: {len(against)} of {len(every)}", sub,
        f'<div class="scroll">{table(against, PATCHED, sortable=True)}</div>',
    )  # fmt: skip


def _agreement(part: PatchContent) -> str:
    if part.agreement is None:
        return ""
    rows = agreement_rows(part.agreement)
    sub = (
        f"each ranks all heads by how much they changed, or carry; top heads are the first "
        f"{whole(part.agreement.attrs.get('top'))} of each"
    )
    heads, columns = top_rows(part.agreement)
    below = "the heads that each puts first; ● stands in more than one of these lists"
    return card("Do other ways of asking point at the same heads?", sub, scroll(table(rows, AGREEMENT))) + card(
        "The first heads of each, side by side", below, scroll(table(heads, columns))
    )


def faithful_section(content: ReportContent) -> str:
    """Deletion and insertion against random orders, per model and method."""
    part = content.faithfulness
    if part is None:
        return ""
    intro = (
        "The prompt's tokens are taken away, the most important first (deletion), or put back into an emptied prompt "
        "(insertion), and the response's log-probability is read each time. If an attribution is right, the response "
        "falls faster, and rises faster, than in a random order. A prompt with tokens replaced is nothing that a model "
        "was trained on; that is why only the distance from random orders counts."
    )
    curves = "" if part.curves is None else figure(faithfulness(part.curves), wide=True)
    listed = card("Advantage over random orders", "", scroll(table(part.table, FAITHFUL)))
    return (
        section("faithfulness", intro)
        + answer(part.verdict, content.verdict)
        + figure(faithfulness(part.table), wide=True)
        + curves
        + listed
    )
