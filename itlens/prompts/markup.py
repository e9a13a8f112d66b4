"""How a prompt looks in a notebook: its text, the instruction highlighted, the context underlined; all text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from itlens.prompts.spans import Span

# Translucent colours over inherited text colours read well on light and on dark pages.
_STYLES = {
    "instruction": "background:rgba(255,176,0,.32);border-radius:3px",
    "context": "text-decoration:underline dotted rgba(80,140,255,.9);text-underline-offset:3px",
}


def prompt_html(text: str, instruction: Sequence[Span], context: Sequence[Span], *, title: str, group: str) -> str:
    """The HTML of one prompt: a heading with id, group and legend, then the text."""
    kinds = {"instruction": instruction, "context": context}
    legend = " ".join(_piece(kind, [kind]) for kind, spans in kinds.items() if spans)
    heading = " · ".join(part for part in (f"<b>{escape(title)}</b>" if title else "", escape(group), legend) if part)
    cuts = sorted({0, len(text), *(end for spans in kinds.values() for span in spans for end in span)})
    body = "".join(
        _piece(text[start:stop], [kind for kind, spans in kinds.items() if _inside(start, spans)])
        for start, stop in pairwise(cuts)
    )
    return (
        '<div style="max-width:60em;margin:.3em 0">'
        f'<div style="opacity:.75;font-size:.85em">{heading}</div>'
        f'<div style="white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.5">{body}</div></div>'
    )


def _piece(text: str, kinds: list[str]) -> str:
    if not kinds:
        return escape(text)
    style = ";".join(_STYLES[kind] for kind in kinds)
    return f'<span class="itlens-{" itlens-".join(kinds)}" style="{style}">{escape(text)}</span>'


def _inside(position: int, spans: Sequence[Span]) -> bool:
    return any(start <= position < stop for start, stop in spans)
