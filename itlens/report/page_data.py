"""What a page shows, as data: the page of one comparison, or of several (a template, a series of models).

A study hands over a `Page`: one `Row` per finding for the table at the top, one `Section` per finding with its blocks.
All text is plain text; nothing here is computed or drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, TypeAlias
from urllib.parse import quote

from itlens.errors import ResultError
from itlens.report.blocks import Block, Table

Kind: TypeAlias = Literal["report", "overview"]
ICONS = {"higher": "▲", "lower": "▼", "changed": "◆", "none": "=", "not tested": "–"}
ANSWERS = {"none": "no significant change"}


@dataclass(frozen=True)
class Row:
    """One finding in the table at the top.

    name: of the finding, and the anchor of its section. question: of the finding. topic: what it is about, as a noun
    phrase. answer: in a word or two ("" is filled in from `direction` and `tested`). direction: "higher", "lower",
    "changed" or "none". number: its headline number with interval, as text (`itlens.report.numbers.headline`).
    sentence: the verdict. short: the same as a clause without a full stop.
    """

    name: str
    question: str
    topic: str = ""
    answer: str = ""
    tested: bool = True
    direction: str = "none"
    number: str = ""
    sentence: str = ""
    short: str = ""

    @property
    def code(self) -> str:
        """higher, lower, changed, none, or "not tested"."""
        return self.direction if self.tested else "not tested"

    @property
    def icon(self) -> str:
        """The sign beside the answer, so that it is never told by colour alone."""
        return ICONS.get(self.code, "◆")

    @property
    def word(self) -> str:
        """The answer in a word or two."""
        return self.answer or ANSWERS.get(self.code, self.code)


@dataclass(frozen=True)
class Section:
    """The section of one finding, in this order on the page.

    name: the anchor. question: the heading. verdict_sentence: what came out. caveat: the one that matters most, below
    it. blocks: cards, figures, tables, texts and panels. notes: caveats, a sentence each. terms: definitions. facts:
    settings.
    """

    name: str
    question: str
    verdict_sentence: str = ""
    caveat: str = ""
    blocks: Sequence[Block] = ()
    notes: Sequence[str] = ()
    terms: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """A whole page.

    title: the heading. kind: of one comparison ("report") or of several ("overview"). answer: one paragraph
    (`itlens.report.answers.answer_paragraph`). rows: the table below it. notes: caveats of the whole. facts: what was
    compared. parameters: of the run. versions: of the packages. created: when, as it is to be printed. links: to other
    pages, (label, path relative to this page). base, tuned: names of the models. prompts_table: every prompt. source: a
    line on where the methods come from.
    """

    title: str
    kind: Kind = "report"
    answer: str = ""
    rows: Sequence[Row] = ()
    sections: Sequence[Section] = ()
    notes: Sequence[str] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    parameters: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, object] = field(default_factory=dict)
    created: str = ""
    links: Sequence[tuple[str, str]] = ()
    base: str = ""
    tuned: str = ""
    prompts_table: Table | None = None
    source: str = ""


def address(label: str, path: str) -> str:
    """Return the path of a link as a page needs it. Raises ResultError for one that is not relative to the page."""
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ":" in parts[0]:
        raise ResultError(f"The link {label!r} leads to {path!r}: give a path relative to the page's folder.")
    return quote("/".join(parts))
