"""The finding "behaviour": what the answers look like from outside, and which inner changes go with that.

Every study that generates has the responses; this reads them (`traits`), compares both models' (`diff`), and relates
the changes to those that the findings before it have by prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from itlens.errors import ProbeError
from itlens.findings.base import SIDES, Finding, Headline, Plan, Saved, Tables, Verdict
from itlens.findings.behaviour.columns import GROUPS, LINKS, NOUNS, OPENINGS, SHARES, TERMS, TESTS, scaled
from itlens.findings.behaviour.diff import LEVEL, behaviour_links, behaviour_openings, behaviour_tests, of_all
from itlens.findings.behaviour.traits import GIVEN, NUMBERS, response_traits
from itlens.findings.behaviour.view import behaviour_cards, link_map
from itlens.report.blocks import Block, Figure, Table, Text
from itlens.report.numbers import interval, number
from itlens.stats.groups import rows_as_said
from itlens.stats.paired import as_said, is_tested, p_text

if TYPE_CHECKING:
    from itlens.models import HookedModel

_SHOWN, _IN_TERMINAL = 20, 8
_INTRO = (
    "Numbers and forms of the greedy answers, read off their tokens and text. They say how the answers differ, not "
    "which is better."
)
_LINKS = "over prompts: does a behaviour change where a number of another finding changes?"


class Behaviour(Finding):
    """Length, ending, repetition and form of both models' own answers, and their links with the other findings."""

    name = "behaviour"
    question = "How do the answers themselves differ, and which changes inside go with that?"
    topic = "the form of the answers"
    reads = "prompts"
    order = 95
    unit = "prompts"
    by_prompt = True

    def units(self, plan: Plan) -> Sequence[str]:
        """Return a unit per prompt."""
        return plan.prompt_units()

    def run(self, source: HookedModel, unit: str, plan: Plan) -> pd.DataFrame:
        """Return the numbers of the response that this side is read on, and who wrote it."""
        if plan.reading is None:
            raise ProbeError("The finding 'behaviour' needs prompts that models answer; plan.reading is None.")
        writer = plan.side if plan.reading.responses == "own" else plan.reading.responses
        return response_traits(plan.reading.response(source, plan.side, plan.number_of(unit)), writer)

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Return behaviour (a row per prompt and model); where both models wrote their own, behaviour_tests,
        behaviour_openings, and behaviour_links where other findings have numbers by prompt."""
        rows = _rows(saved, plan)
        tables: dict[str, Any] = {"behaviour": rows}
        own = rows[rows["own"]]
        if not set(SIDES) <= set(own["model"]):
            return tables
        tables["behaviour_tests"] = behaviour_tests(own, seed=plan.seed)
        tables["behaviour_openings"] = behaviour_openings(own)
        if len(links := behaviour_links(own, plan.changes(), seed=plan.seed)):
            tables["behaviour_links"] = links
        return tables

    def verdict(self, tables: Tables) -> Verdict:
        """Return which behaviours differ, by how much, and with how many inner changes they go."""
        if "behaviour_tests" not in tables:
            return Verdict(f"Not tested: {_why_not(tables['behaviour'])}.", tested=False)
        rows = of_all(tables["behaviour_tests"])
        if not is_tested(rows.iloc[0]):
            return Verdict(f"Not tested: {rows['note'].iloc[0]}.", tested=False)
        ranked = rows.apply(as_said, axis=1).sort_values("p_holm", kind="stable")
        significant = ranked[ranked["p_holm"] < LEVEL]
        if not len(significant):
            nearest = ranked.iloc[0]
            sentence = f"No significant difference between the answers; {_said(nearest)} comes nearest."
            return Verdict(sentence, numbers=(_headline(nearest),), short="no significant difference of the answers")
        # one and the same difference on every prompt has no standardised size: it is larger than any
        first = significant.sort_values("effect_size", key=lambda size: -size.abs(), kind="stable", na_position="first")
        shown = [row for _, row in first.head(2).iterrows()]
        more = "" if len(first) < 3 else f"; {len(first)} of {len(rows)} behaviours differ"
        sentence = f"The answers differ in {' and in '.join(map(_said, shown))}{more}."
        numbers = tuple(_headline(row) for _, row in first.iterrows())
        names = ", ".join(NOUNS[name] for name in first["statistic"])
        return Verdict(sentence + _linked(tables), "changed", numbers=numbers, short=f"answers differ in {names}")

    def show(self, tables: Tables) -> Sequence[Block]:
        """Return cards, the tests, first words, and the map and table of links; groups are folded."""
        if "behaviour_tests" not in tables:
            return [Text(f"Not compared: {_why_not(tables['behaviour'])}.")]
        tests, openings = tables["behaviour_tests"], tables["behaviour_openings"]
        tests = rows_as_said(tests)
        rows = of_all(tests)
        blocks: list[Block] = [
            *behaviour_cards(rows),
            Text(_INTRO),
            Table(rows, TESTS, "Behaviours, paired over prompts"),
        ]
        if len(openings):
            text = "first words of at least five answers, the most different first"
            blocks.append(Table(openings.head(_SHOWN), OPENINGS, "How answers begin", text, terminal_rows=_IN_TERMINAL))
        if "behaviour_links" in tables:
            links = tables["behaviour_links"]
            blocks += [
                Figure(link_map(links), wide=True),
                Table(
                    links, LINKS, "Behaviour beside mechanism", _LINKS, sortable=True, folded=True,
                    terminal_rows=_IN_TERMINAL,
                ),
            ]  # fmt: skip
        if len(tests) > len(rows):
            blocks.append(Table(tests, GROUPS, "Behaviours, group by group", folded=True, terminal=False))
        return blocks

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Return a caveat on prompts whose response was given, and on answers cut at the length limit."""
        rows = tables["behaviour"]
        notes = []
        given = int((rows["writer"] == GIVEN).sum()) // len(SIDES)
        if given and "behaviour_tests" in tables:
            notes.append(f"Behaviour covers the prompts that models answered; {given} came with their response.")
        if "behaviour_tests" in tables:
            ended = of_all(tables["behaviour_tests"]).set_index("statistic").loc["ended"]
            cut = [side for side in SIDES if ended[f"{side}_mean"] < 0.5]
            if cut:
                notes.append(
                    f"More than half of the answers of the {' and of the '.join(cut)} model were cut at the length "
                    "limit, so that their length says little; raise max_new_tokens."
                )
        return notes

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Return definitions of the words of the section."""
        return TERMS

    def per_prompt(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """Return the numbers by model and prompt, where both models wrote their own answers."""
        rows = tables["behaviour"]
        rows = rows[rows["own"]]
        if not set(SIDES) <= set(rows["model"]):
            return None
        return rows[["model", "id", "group", *NUMBERS]].reset_index(drop=True)

    def distances(self, tables: Tables) -> Mapping[str, float]:
        """longer: tokens by which a model's answers are longer than the first model's."""
        if "behaviour_tests" not in tables:
            return {}
        rows = of_all(tables["behaviour_tests"]).set_index("statistic")
        return {"longer": float(rows["difference"]["length"])}


def _rows(saved: Saved, plan: Plan) -> pd.DataFrame:
    """Return a row per prompt and model; own: whether this model wrote the response."""
    parts = []
    for side in SIDES:
        for unit in saved[side]:
            prompt = plan.prompts[plan.number_of(unit)]
            parts.append(saved[side][unit].assign(id=prompt.id, group=prompt.group or "", model=side))
    rows = pd.concat(parts, ignore_index=True)
    rows["own"] = rows["writer"] == rows["model"]
    rows.attrs = {}
    return rows[["id", "group", "model", "own", "writer", "first_words", *NUMBERS]]


def _why_not(rows: pd.DataFrame) -> str:
    writers = set(rows["writer"])
    if writers == {GIVEN}:
        return "the responses came with the prompts"
    whose = " and ".join(sorted(writers - {GIVEN}))
    return f"both models were read on the {whose} model's responses, not each on its own (--responses own)"


def _said(row: pd.Series[Any]) -> str:
    name = str(row["statistic"])
    unit = " points" if name in SHARES else " tokens"
    value, low, high = (scaled(name, float(row[each])) for each in ("difference", "ci_low", "ci_high"))
    p = p_text(float(row["p_holm"]))
    return f"{NOUNS[name]} ({number(value, 1, sign=True)}{unit} {interval(low, high, 1)}, Holm {p})"


def _headline(row: pd.Series[Any]) -> Headline:
    name = str(row["statistic"])
    value, low, high = (scaled(name, float(row[each])) for each in ("difference", "ci_low", "ci_high"))
    unit = "points" if name in SHARES else "tokens"
    return Headline(f"difference in {NOUNS[name]}", value, low, high, float(row["p_holm"]), int(row["n"]), unit)


def _linked(tables: Tables) -> str:
    links = tables.get("behaviour_links")
    if links is None:
        return ""
    significant = int((links["p_bh"] < LEVEL).sum())
    if not significant and len(links) == 1:
        return " The one rank correlation with a change inside is not significant."
    if not significant:
        return f" None of the {len(links)} rank correlations with changes inside is significant."
    first = links.iloc[0]
    words = f"{NOUNS[first['behaviour']]} with {first['number'].replace('_', ' ')}"
    verb = "is" if significant == 1 else "are"
    return (
        f" Of {len(links)} rank correlations with changes inside {significant} {verb} significant, above all of "
        f"{words} ({number(first['spearman'], 2, sign=True)} {interval(first['ci_low'], first['ci_high'], 2)})."
    )


FINDING = Behaviour()
