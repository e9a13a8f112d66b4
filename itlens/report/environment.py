"""The jinja2 environment of all templates of this package (`templates/`).

Whatever a template prints is made visible (`itlens.report.text.with_signs`) and then escaped, so that no text of a
model, a prompt or a token becomes markup; only what is marked as safe here (styles, scripts, figures as JSON, other
templates) is printed as it is. A prompt in a notebook keeps its line ends and spaces; its text is cut where a span
begins or ends, and each piece marked as what it belongs to (an instruction and a context may share characters).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from itlens.report import numbers, text
from itlens.results.provenance import version_of

if TYPE_CHECKING:
    from itlens.prompts import Prompt


@cache
def environment() -> Environment:
    """Return the one environment: autoescape on, unknown names refused."""
    made = Environment(
        loader=PackageLoader("itlens.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"anchor": anchor, "fact": fact, "words": in_words}
    made.globals["itlens_version"] = version_of("itlens")
    return made


def render(template: str, **values: object) -> Markup:
    """Render a template of this package; the result is safe to print in another one."""
    return Markup(environment().get_template(template).render(**values))


def anchor(name: object) -> str:
    """Return a name as an anchor: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^\w.-]+", "-", str(name)).strip("-") or "section"


def in_words(name: object) -> str:
    """Return the name of a setting or column in words."""
    return str(name).replace("_", " ")


def fact(value: object) -> str:
    """Return the value of a setting as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(fact, value)) or numbers.NOTHING
    return numbers.NOTHING if value is None or value == "" else str(value)


def _visible(value: object) -> object:
    return value if isinstance(value, Markup) else text.with_signs(value)


Piece = tuple[str, list[str]]


@cache
def _template() -> Template:
    loader = PackageLoader("itlens.report", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("prompt.html")


def prompt_html(prompt: Prompt) -> str:
    """Return the HTML of one prompt: a heading with id, group and legend, then the text."""
    spans = {"instruction": prompt.instruction, "context": prompt.context}
    return _template().render(
        title=prompt.id,
        group=prompt.group,
        legend=[kind for kind in spans if spans[kind]],
        pieces=[(escape(text), kinds) for text, kinds in pieces(prompt)],
    )


def pieces(prompt: Prompt) -> Iterator[Piece]:
    """Yield the text in pieces, each with the kinds of span that it lies in."""
    spans = {"instruction": prompt.instruction, "context": prompt.context}
    ends = {end for of_kind in spans.values() for span in of_kind for end in span}
    for start, stop in pairwise(sorted({0, len(prompt.text), *ends})):
        kinds = [kind for kind, of_kind in spans.items() if any(first <= start < last for first, last in of_kind)]
        yield prompt.text[start:stop], kinds
