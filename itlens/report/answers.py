"""The paragraph at the top of a page: what tuning changed, in at most four sentences (`answer_paragraph`).

What is significant comes first, with direction and size; then one sentence on what was tested and is not significant,
and one on what could not be tested.
"""

from __future__ import annotations

from collections.abc import Sequence

from itlens.report.page_data import Row

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_MOST_CLAUSES, _MOST_TOPICS = 4, 6


def answer_paragraph(rows: Sequence[Row]) -> str:
    """Return the answer to "What did tuning change?", from the rows of the table below it."""
    if not rows:
        return "Nothing was compared."
    tested = [row for row in rows if row.tested]
    untested = [row for row in rows if not row.tested]
    changed = [row for row in tested if row.direction != "none"]
    unchanged = [row for row in tested if row.direction == "none"]
    sentences = []
    if changed:
        sentences.append(_changed(changed, len(tested), all_tested=not untested))
    if unchanged:
        sentences.append(_unchanged(unchanged, any_changed=bool(changed)))
    if untested:
        sentences.append(_untested(untested, any_tested=bool(tested)))
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
    clauses += [f"{_count(more)} more in the table below"] if more > 0 else []
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
