"""What a page shows, as data: the page of one comparison, or of several (a template, a series of models).

A study hands over a `Page`: one `Row` per finding for the table at the top, one `Section` per finding with its blocks.
All text is plain text; nothing here is drawn. The paragraph at the top (`answer_paragraph`) says in at most four
sentences what tuning changed: what is significant first, with direction and size; then one sentence on what was tested
and is not significant, one on findings whose answer is of another kind, and one on what could not be tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, TypeAlias
from urllib.parse import quote

from itlens.errors import ResultError
from itlens.report.blocks import Block, Panel, Table
from itlens.report.prompts import PromptsChapter

Kind: TypeAlias = Literal["report", "overview"]
ICONS = {"higher": "▲", "lower": "▼", "changed": "◆", "none": "=", "own": "○", "not tested": "–"}
ANSWERS = {"none": "no significant change"}


@dataclass(frozen=True)
class Row:
    """One finding in the table at the top.

    name: of the finding, and the anchor of its section. question: of the finding. topic: what it is about, as a noun
    phrase. answer: in a word or two, where `direction` and `tested` do not say it (else ""). direction: "higher",
    "lower", "changed" or "none". number: its headline number with interval, as text (`itlens.report.numbers.headline`).
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
        """higher, lower, changed, none, "own" (an answer of its own, and no change), or "not tested"."""
        if not self.tested:
            return "not tested"
        return "own" if self.answer and self.direction == "none" else self.direction

    @property
    def icon(self) -> str:
        """The sign beside the answer, so that it is never told by colour alone."""
        return ICONS.get(self.code, "◆")

    @property
    def word(self) -> str:
        """The answer in a word or two."""
        return (self.tested and self.answer) or ANSWERS.get(self.code, self.code)


@dataclass(frozen=True)
class Section:
    """The section of one finding, a chapter of the page, in this order.

    name: the anchor. question: the heading. verdict_sentence: what came out. caveat: the one that matters most, below
    it. blocks: cards, figures, tables, texts and panels. notes: caveats, a sentence each. terms: definitions. facts:
    settings. label: its name in the menu ("": the name in words).
    """

    name: str
    question: str
    verdict_sentence: str = ""
    caveat: str = ""
    blocks: Sequence[Block] = ()
    notes: Sequence[str] = ()
    terms: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True)
class Page:
    """A whole page.

    title: the heading. kind: of one comparison ("report") or of several ("overview"). answer: one paragraph
    (`answer_paragraph`). rows: the table below it. notes: caveats of the whole. facts: what was compared. parameters:
    of the run. versions: of the packages. created: when, as it is to be printed. links: to other pages, (label, path
    relative to this page). base, tuned: names of the models. prompts_table: every prompt, as a table. prompts: to
    search and read. source: a line on where the methods come from. tools: panels in the bar at the top, such as a
    search box.
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
    prompts: PromptsChapter | None = None
    source: str = ""
    tools: Sequence[Panel] = ()


def address(label: str, path: str) -> str:
    """Return the path of a link as a page needs it. Raises ResultError for one that is not relative to the page."""
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ":" in parts[0]:
        raise ResultError(f"The link {label!r} leads to {path!r}: give a path relative to the page's folder.")
    return quote("/".join(parts))


# ---- the paragraph at the top

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_MOST_CLAUSES, _MOST_TOPICS = 4, 6


def answer_paragraph(rows: Sequence[Row]) -> str:
    """Return the answer to "What did tuning change?", from the rows of the table below it."""
    if not rows:
        return "Nothing was compared."
    untested = [row for row in rows if not row.tested]
    own = [row for row in rows if row.code == "own"]
    unchanged = [row for row in rows if row.code == "none"]
    changed = [row for row in rows if row.tested and row.direction != "none"]
    sentences = []
    if changed:
        sentences.append(_changed(changed, len(changed) + len(unchanged), all_tested=not untested))
    if unchanged:
        sentences.append(_unchanged(unchanged, any_changed=bool(changed)))
    if own:
        said = _joined([_clause(row) for row in own], "; ")
        sentences.append(f"{said[:1].upper()}{said[1:]}.")
    if untested:
        sentences.append(_untested(untested, any_tested=len(untested) < len(rows)))
    return " ".join(sentences)


def _changed(rows: Sequence[Row], tested: int, *, all_tested: bool) -> str:
    measured = "measured" if all_tested else "tested"
    things = f"{'thing' if tested == 1 else 'things'} that {'was' if tested == 1 else 'were'} {measured}"
    if tested == 1:
        of = f"the one {things}"
    elif len(rows) == tested:
        of = f"{'both' if tested == 2 else 'all ' + _count(tested)} {things}"
    else:
        of = f"{_count(len(rows))} of {_count(tested)} {things}"
    clauses = [_clause(row) for row in rows[:_MOST_CLAUSES]]
    more = len(rows) - len(clauses)
    clauses += [f"{_count(more)} more in the table"] if more > 0 else []
    return f"Tuning changed {of}: {_joined(clauses, '; ')}."


def _unchanged(rows: Sequence[Row], *, any_changed: bool) -> str:
    if any_changed or len(rows) == 1:
        return f"No significant change was found in {_topics(rows, 'or')}."
    which = "either of the two" if len(rows) == 2 else f"any of the {_count(len(rows))}"
    return f"No significant change was found in {which} things that were tested: {_topics(rows, 'and')}."


def _untested(rows: Sequence[Row], *, any_tested: bool) -> str:
    topics = _topics(rows, "and")
    if not any_tested:
        return f"Nothing could be tested: {topics}."
    return f"{topics[:1].upper()}{topics[1:]} could not be tested."


def _clause(row: Row) -> str:
    if said := row.short.strip().rstrip("."):
        return said
    if row.code == "own":
        return f"{_topic(row)}: {row.answer}"
    if row.direction == "changed":
        return f"{_topic(row)} changed"
    return f"{_topic(row)} is {row.direction} in the tuned model"


def _topic(row: Row) -> str:
    return row.topic or row.name.replace("_", " ")


def _topics(rows: Sequence[Row], last: str) -> str:
    named = [_topic(row) for row in rows[:_MOST_TOPICS]]
    more = len(rows) - len(named)
    return _joined([*named, *([f"{_count(more)} more"] if more > 0 else [])], ", ", last)


def _joined(parts: Sequence[str], between: str, last: str = "and") -> str:
    """a; a and b; a, b and c; with ";" between clauses: a; b; and c."""
    if len(parts) < 2:
        return "".join(parts)
    head = between.join(parts[:-1])
    return f"{head}{'; ' if between == '; ' else ' '}{last} {parts[-1]}"


def _count(number: int) -> str:
    return _WORDS[number] if number < len(_WORDS) else str(number)
