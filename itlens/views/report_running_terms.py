"""The terms of a report's sections on running models, in plain words, and what these were run with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itlens.views.report_content import ReportContent
from itlens.views.report_tables import facts, table
from itlens.views.running_columns import FAITHFUL, PATCHED, SHIFTED, patched_rows

_FACTS = {
    "activation": ("hooks", "format", "same_tokens", "prompt_count", "resamples", "seed"),
    "patching": (
        "what", "unit", "direction", "metric", "responses", "positions", "format", "controls", "seed", "note",
    ),
    "faithfulness": ("method", "by", "baseline", "steps", "draws", "unit", "seed"),
}  # fmt: skip
_ROWS = 5
_NAMES = {"activation": "Activations", "patching": "Patching", "faithfulness": "Faithfulness"}


def running_terms(content: ReportContent) -> dict[str, str]:
    """Definitions for the parts that the report has."""
    found: dict[str, str] = {}
    found |= _activation() if content.activation is not None else {}
    found |= _patching() if content.patching is not None else {}
    return found | (_faithfulness() if content.faithfulness is not None else {})


def running_facts(content: ReportContent) -> str:
    """The settings of each part, closed at first."""
    parts = (
        ("activation", content.activation and content.activation.diff.attrs),
        ("patching", content.patching and content.patching.patched.attrs),
        ("faithfulness", content.faithfulness and content.faithfulness.table.attrs),
    )
    return "".join(_details(name, attrs) for name, attrs in parts if attrs)


def _details(name: str, attrs: Mapping[Any, Any]) -> str:
    known = {key: attrs[key] for key in _FACTS[name] if attrs.get(key, "") != ""}
    return f'<details class="card"><summary>{_NAMES[name]}</summary>{facts(known)}</details>' if known else ""


def running_summary(content: ReportContent) -> str:
    """The first rows of each part's table, for a notebook's output."""
    shown = ""
    if content.activation is not None:
        shown += table(content.activation.heads.head(_ROWS), SHIFTED)
    if content.patching is not None and len(rows := patched_rows(content.patching.patched, _ROWS)):
        shown += table(rows, PATCHED)
    return shown + (table(content.faithfulness.table, FAITHFUL) if content.faithfulness is not None else "")


def _activation() -> dict[str, str]:
    return {
        "Attention mass": "How much of a head's attention, from the places where the response is predicted, falls on "
        "a class of tokens: the instruction, its context, the template, the first token. The classes of a head add up "
        "to 1.",
        "Relative change": "The length of the difference of the two models' activations over the length of the base's, "
        "on the same token: 0 for nothing, 1 for as much as there was. First tokens are left out, since heads rest on "
        "them.",
        "Logit lens": "What a model's last step would say of the residual stream after an earlier layer. Each model "
        "can read its own stream, or one of them both: then only the streams differ.",
        "p BH": "Paired t tests over prompts, corrected (Benjamini-Hochberg) for the number of heads or layers: of "
        "those that are marked, at most about one in twenty should be chance.",
    }


def _patching() -> dict[str, str]:
    return {
        "Recovered": "How far the response's log-probability (or the measure named among the settings) moves from the "
        "one model's value to the other's when a part is exchanged, as a share of the gap over all prompts. Below 0 it "
        "moves away.",
        "Best parts, random parts": "The parts ranked on one half of the prompts are exchanged together and judged on "
        "the other half. Random parts are as many, drawn again and again: where the best are no better, no part is "
        "special.",
        "Estimate": "What a first-order expansion (gradient times difference) says of every part from one backward "
        "pass. Its rank correlation with the exact effects says how far it may be used in their place.",
    }


def _faithfulness() -> dict[str, str]:
    return {
        "Deletion, insertion": "Embeddings of prompt tokens are replaced by a baseline, in the order of importance, "
        "or put back into a prompt that is all baseline. The response stays, and its log-probability is read.",
        "Advantage": "The area between the curve and that of random orders of the same tokens, in the good direction: "
        "0 is no better than random, above 0 is better. Shares count from everything removed (0) to the prompt as it "
        "is (1).",
    }
