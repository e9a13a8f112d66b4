"""What a comparison leaves in its run folder: tables, findings.json and the report's page.

findings.json, for scripts: {"version": 1, "itlens": ..., "base": label, "tuned": label, "responses": ..., "answer": the
one paragraph, "notes": [...], "findings": {name: {"question", "topic", "answer" ("higher", "lower", "changed", "no
significant change", "not tested"), "verdict": {"sentence", "direction", "tested", "caveat"}, "numbers": [{"name",
"value", "low", "high", "p", "n", "unit"}], "caveats": [...], "tables": {table: [paths in the folder]}}}}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from itlens.errors import ItlensError
from itlens.files import write_json, write_text
from itlens.findings import findings
from itlens.findings.base import SIDES, Finding, Headline, Verdict
from itlens.report.blocks import BLOCKS, Block, Text, leaves
from itlens.report.explorer import Chapter, Explorer
from itlens.report.explorer_places import checked_places
from itlens.report.numbers import headline as format_headline
from itlens.report.page_data import Page, Row, Section, answer_paragraph
from itlens.report.render import render_page
from itlens.results.store import save
from itlens.study.comparison import Comparison, is_asked
from itlens.study.failure import Failure, guarded
from itlens.study.folder import RunFolder
from itlens.study.lock import locked
from itlens.study.prompt_pages import prompts_chapter

VERSION = 1  # of findings.json


def write_outcome(comparison: Comparison) -> None:
    """Write tables, findings.json and the report into the run folder."""
    for name, paths in table_paths(comparison).items():
        for table, files in paths.items():
            for file in files:
                save(comparison.results[name][table], comparison.out / file)
    write_page(comparison)


def rewrite_outcome(comparison: Comparison) -> None:
    """Write them again, while nobody else writes into the folder. Raises StoreError where somebody does."""
    with locked(comparison.out):
        write_outcome(comparison)


def write_page(comparison: Comparison) -> None:
    """Write findings.json and the report into the run folder."""
    folder, page = RunFolder(comparison.out), comparison.page
    write_json(folder.findings_file, findings_json(comparison, page))
    write_text(folder.report, render_page(page))


def table_paths(comparison: Comparison) -> dict[str, dict[str, list[str]]]:
    """Return, by finding and table, its files in the run folder.

    A name that another finding has taken gets the finding's name in front.
    """
    found: dict[str, dict[str, list[str]]] = {}
    taken: set[str] = set()
    for name, tables in comparison.results.items():
        found[name] = {}
        for table, result in tables.items():
            stem = table if table not in taken else f"{name}-{table}"
            endings = [".nc"] if not isinstance(result, pd.DataFrame) else [".parquet", ".csv"]
            if table in findings()[name].large:
                endings = endings[:1]
            found[name][table] = [f"{RunFolder(comparison.out).tables.name}/{stem}{ending}" for ending in endings]
        taken |= {*tables}
    return found


def findings_json(comparison: Comparison, page: Page) -> dict[str, Any]:
    """Return what findings.json holds; see the module."""
    models, known = comparison.study["models"], findings()
    written = table_paths(comparison)
    return {
        "version": VERSION,
        "itlens": comparison.study["versions"].get("itlens", ""),
        "base": models["base"]["label"],
        "tuned": models["tuned"]["label"],
        "responses": comparison.study["reading"].get("settings", {}).get("responses", ""),
        "answer": page.answer,
        "notes": comparison.study_notes,
        "findings": {
            name: {
                "question": known[name].question,
                "topic": topic_of(known[name]),
                "answer": verdict.answer,
                "verdict": {
                    "sentence": str(verdict.sentence),
                    "direction": str(verdict.direction),
                    "tested": bool(verdict.tested),  # of numpy, where a finding compares numbers of tables
                    "caveat": str(verdict.caveat),
                },
                "numbers": [_plain(asdict(each)) for each in verdict.numbers],
                "caveats": comparison.finding_notes[name],
                "tables": written.get(name, {}),
            }
            for name, verdict in comparison.verdicts.items()
        },
    }


def _plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN and no numpy numbers: what does not exist is null."""
    plain: dict[str, Any] = {}
    for name, value in numbers.items():
        if name == "signed":  # how it is written, not what it is
            continue
        if value is None or isinstance(value, str):
            plain[name] = value
        else:
            plain[name] = None if not math.isfinite(float(value)) else int(value) if name == "n" else float(value)
    return plain


def page_of(comparison: Comparison, *, blocks: bool = True) -> Page:
    """Return what the page, the terminal and the notebook draw. blocks=False: without the sections' blocks."""
    study, known = comparison.study, findings()
    models = study["models"]
    failed = list(comparison.failures)
    rows, sections = [], []
    for name in _names(comparison):
        verdict = comparison.verdicts.get(name)
        if verdict is None:
            rows.append(_missing(known[name], comparison, failed))
            sections.append(Section(name, known[name].question, rows[-1].sentence, label=known[name].label))
        else:
            rows.append(row_of(known[name], verdict))
            sections.append(_section(comparison, known[name], blocks, failed))
    tools = _tools(comparison, failed) if blocks else []
    shown = [id for tool in tools for id in tool.prompts]
    chapter = prompts_chapter(comparison, failed, shown) if blocks else None
    extra = [each.sentence for each in failed if each not in comparison.failures]
    return Page(
        title=rows[0].question if len(rows) == 1 else "What did instruction tuning change?",
        answer=answer_paragraph(rows),
        rows=rows,
        sections=sections,
        notes=[*comparison.study_notes, *extra],
        facts=_facts(comparison),
        parameters={**study["settings"], **study["reading"].get("settings", {})},
        versions=study["versions"],
        created=study["created"],
        base=models["base"]["label"],
        tuned=models["tuned"]["label"],
        tools=tools,
        prompts=chapter,
    )


def _section(comparison: Comparison, finding: Finding, blocks: bool, failed: list[Failure]) -> Section:
    name, verdict = finding.name, comparison.verdicts[finding.name]
    tables = comparison.tables[name]
    shown: Sequence[Block] = ()
    terms: Mapping[str, str] = {}
    if blocks:
        before = len(failed)
        with guarded(name, "show", failed):
            shown, terms = _checked_blocks(finding.show(tables)), dict(finding.terms(tables))
        shown = [Text(failure.sentence) for failure in failed[before:]] or shown
    return Section(
        name=name,
        question=finding.question,
        label=finding.label,
        verdict_sentence=verdict.sentence,
        caveat=verdict.caveat,
        blocks=shown,
        notes=comparison.finding_notes[name],
        terms=terms,
        facts=comparison.study["findings"][name]["settings"],
    )


def _tools(comparison: Comparison, failed: list[Failure]) -> list[Explorer]:
    """What the page has in its bar: the panels of heads and layers with their search, where a finding knows any."""
    chapters = []
    for name in comparison.verdicts:
        finding = findings()[name]
        with guarded(name, "places", failed):
            places = checked_places(finding.places(comparison.tables[name]))
            chapters.append(Chapter(name, finding.label or name.replace("_", " ").capitalize(), places))
    models = comparison.study["models"]
    known = [chapter for chapter in chapters if chapter.places]
    return [Explorer("Heads and layers", known, models["base"]["label"], models["tuned"]["label"])] if known else []


def _checked_blocks(shown: Any) -> list[Block]:
    """Return what `show` returned, as a list. Raises ItlensError for anything that the page cannot draw."""
    if not isinstance(shown, Sequence) or isinstance(shown, str):
        raise ItlensError(f"show returned a {type(shown).__name__}; expected a list of blocks.")
    for block in leaves(shown):
        if not isinstance(block, BLOCKS):
            known = ", ".join(kind.__name__ for kind in BLOCKS)
            raise ItlensError(f"show returned a {type(block).__name__} as a block; expected one of {known}.")
    return list(shown)


def topic_of(finding: Finding) -> str:
    """Return what a finding is about, as a noun phrase."""
    return finding.topic or finding.name.replace("_", " ")


def row_of(finding: Finding, verdict: Verdict) -> Row:
    """Return a finding's line in the table of findings."""
    return Row(
        name=finding.name,
        question=finding.question,
        topic=topic_of(finding),
        answer=verdict.word,
        tested=verdict.tested,
        direction=verdict.direction,
        number=headline_text(verdict.numbers[0]) if verdict.numbers else "",
        sentence=verdict.sentence,
        short=verdict.short,
    )


def headline_text(headline: Headline) -> str:
    """Return a headline number with its interval, unit and name, as one text."""
    if headline.value is None or not math.isfinite(headline.value):
        return ""
    numbers = format_headline(
        headline.value, headline.low, headline.high, headline.p, headline.unit, sign=headline.signed
    )
    return f"{headline.name}: {numbers}"


def _names(comparison: Comparison) -> list[str]:
    """The findings of the page, in their order: those with a verdict, and those that were asked for and have none."""
    asked = [name for name in comparison.study["findings"] if is_asked(comparison.study, name)]
    return [name for name in findings() if name in comparison.verdicts or name in asked]


def _missing(finding: Finding, comparison: Comparison, failed: Sequence[Failure]) -> Row:
    own = [each for each in failed if each.finding == finding.name]
    reason = own[0].sentence if own else "Not finished; run the same comparison to go on."
    return row_of(finding, Verdict(reason, tested=False))


def _facts(comparison: Comparison) -> dict[str, Any]:
    study = comparison.study
    facts: dict[str, Any] = {}
    for side in SIDES:
        facts |= {f"{side} {name}": value for name, value in study["models"][side].items() if name != "name" and value}
    if comparison.prompts:
        facts |= {"prompts": study["prompts"]}
    return facts
