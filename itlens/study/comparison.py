"""A comparison of two models on disk: every finding's tables and verdict, read from the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from itlens.errors import ItlensError, StoreError
from itlens.files import minus
from itlens.findings import findings
from itlens.findings.base import SIDES, Finding, Plan, Tables, Verdict
from itlens.prompts import Prompt
from itlens.report.page_data import Page
from itlens.study.failure import Failure, guarded
from itlens.study.folder import RunFolder
from itlens.study.record import KnownModel, Study
from itlens.study.request import read_options
from itlens.study.results import SavedResults

if TYPE_CHECKING:
    from itlens.study.shown import PageFrame, Report


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; everything is read from the run folder.

    out: the folder. study: what was asked (models, options, versions). prompts: as the models read them. results: by
    finding, its tables by name (xarray or pandas). verdicts: by finding. failures: findings without an answer. A
    finding's shortcuts are attributes as well (`comparison.diff`, `comparison.words` ...; `dir` lists them).
    """

    out: Path
    study: Mapping[str, Any]
    prompts: Sequence[Prompt]
    verdicts: Mapping[str, Verdict]
    failures: Sequence[Failure] = ()
    tables: Mapping[str, Tables] = field(default_factory=dict, repr=False)
    unfinished: Sequence[str] = ()

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """By finding, the tables that are in the run folder's tables/ too."""
        return {
            name: {key: table for key, table in tables.items() if not key.startswith("_")}
            for name, tables in self.tables.items()
        }

    @property
    def report_path(self) -> Path:
        """The report's page."""
        return RunFolder(self.out).report

    @property
    def answers(self) -> list[str]:
        """What came out: each finding's verdict."""
        return [verdict.sentence for verdict in self.verdicts.values()]

    @property
    def verdict(self) -> str:
        """The verdicts in one text."""
        return " ".join(self.answers)

    @cached_property
    def finding_notes(self) -> dict[str, list[str]]:
        """By finding, its caveats."""
        return {name: _notes(self, findings()[name]) for name in self.tables}

    @cached_property
    def study_notes(self) -> list[str]:
        """Caveats of the whole study: of the pair, of what is not finished or failed, of the precision."""
        return [*self.study["notices"], *self.unfinished, *(each.sentence for each in self.failures), *_coarse(self)]

    @property
    def notes(self) -> list[str]:
        """All caveats, those of the whole study first."""
        own = [note for notes in self.finding_notes.values() for note in notes]
        return list(dict.fromkeys([*self.study_notes, *own]))

    @cached_property
    def page(self) -> Page:
        """What the page and the terminal draw."""
        from itlens.study.outcome import page_of

        return page_of(self)

    def noted(self, study: Mapping[str, Any]) -> Comparison:
        """The same comparison with further notices in `study`; what was drawn of its page is kept."""
        again, before = replace(self, study=study), len(self.study_notes)
        vars(again)["page"] = replace(self.page, notes=[*again.study_notes, *self.page.notes[before:]])
        return again

    def report(self) -> Report:
        """The report as an object that Jupyter shows; `.html` is the page."""
        from itlens.study.shown import Report

        return Report(self.page)

    def explore(self, *, height: int = 720) -> PageFrame:
        """The whole page inline in a notebook (`itlens.explore`). height: of the frame, in pixels."""
        from itlens.study.shown import explore

        return explore(self, height=height)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("tables", "verdicts"):
            raise AttributeError(name)
        shortcuts = self._shortcuts
        if name in shortcuts:
            return shortcuts[name]
        if any(name in finding.shortcut_names for finding in findings().values()):
            return None  # of a finding that was not compared
        raise AttributeError(
            f"A Comparison has no {name!r}; there are {', '.join(sorted(shortcuts)) or 'no shortcuts'}."
        )

    @cached_property
    def _shortcuts(self) -> dict[str, Any]:
        return {
            name: value
            for finding, tables in self.tables.items()
            for name, value in findings()[finding].shortcuts(tables).items()
        }

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._shortcuts})

    def __repr__(self) -> str:
        from itlens.report.terminal import page_text
        from itlens.study.outcome import page_of

        return f"{page_text(page_of(self, blocks=False))}\nReport: {self.report_path}"

    def _repr_html_(self) -> str:
        from itlens.report.render import comparison_in_notebook
        from itlens.study.outcome import page_of

        return comparison_in_notebook(page_of(self, blocks=False))


def open_comparison(path: str | Path) -> Comparison:
    """Read a run folder and compare what is finished in it. Nothing is written.

    Raises StoreError for a folder without a study or without anything that both models have finished.
    """
    folder = RunFolder(path)
    return compared(folder, folder.read_study())


def compared(folder: RunFolder, study: Study, failures: Sequence[Failure] = ()) -> Comparison:
    """Compare what both models have finished, finding by finding; a finding that fails costs the others nothing.

    failures: of computing. Raises StoreError where nothing is finished, and the first failure where nothing else is.
    """
    prompts = folder.read_prompts(study) if study["prompts"] else []
    known, tables, unfinished = findings(), dict[str, Tables](), list[str]()
    failed = list(failures)
    for name in study["findings"]:
        if name not in known:
            unfinished.append(f"The finding {name!r} is not installed here, so its results are left out.")
    for finding in (known[name] for name in known if name in study["findings"]):
        plan = plan_of(finding, study, prompts, tables, find_changes=partial(_changes, study, prompts, tables, failed))
        with guarded(finding.name, "compare", failed):
            saved, note = saved_results(folder, study, finding, plan)
            unfinished += [note] if note and (all(saved.values()) or is_asked(study, finding.name)) else []
            if all(saved.values()):
                tables[finding.name] = _checked(finding, finding.compare(saved, plan))
    verdicts = _verdicts({name: known[name] for name in tables}, tables, failed)
    if not tables:
        if failed:
            raise failed[0].raised() from failed[0].error
        raise StoreError(
            f"{folder.path} has nothing that both models have finished ({' '.join(unfinished) or 'no results'}); run "
            "the same `itlens compare` again."
        )
    return Comparison(folder.path, study, prompts, verdicts, failed, tables, unfinished)


def _changes(
    study: Study, prompts: Sequence[Prompt], tables: Mapping[str, Tables], failed: list[Failure]
) -> dict[str, pd.DataFrame]:
    """Return by finding how much each prompt changed, of the findings that have been compared."""
    found = {}
    for name, compared_tables in tables.items():
        finding = findings()[name]
        with guarded(name, "compare", failed):
            table = finding.changes(compared_tables, plan_of(finding, study, prompts, tables))
            if table is not None:
                found[name] = table
    return found


def is_asked(study: Mapping[str, Any], name: str) -> bool:
    """Whether the last run asked for a finding; one that an earlier run began, and this one did not, need not be
    finished."""
    return name in study.get("asked", study["findings"])


def plan_of(
    finding: Finding, study: Study, prompts: Sequence[Prompt], tables: Mapping[str, Tables], **more: Any
) -> Plan:
    """Return the plan of a finding as study.json has it. more: further fields of the plan. Raises ProbeError."""
    models = {
        side: KnownModel(facts["name"], facts["label"], facts, str(facts.get("revision", "")))
        for side, facts in study["models"].items()
    }
    base = study["models"]["base"]
    reading = study["reading"].get("settings", {})
    return Plan(
        options=read_options(finding, study["findings"][finding.name]["options"]),
        models=models,  # type: ignore[arg-type]  # stands for what is known of a model
        prompts=tuple(prompts),
        layers=tuple(range(int(base.get("layers") or 0))),
        heads=int(base.get("heads") or 0),
        seed=int(study["settings"]["seed"]),
        settings={**study["settings"], **reading},
        find_tables=tables.get,
        **more,
    )


def saved_results(folder: RunFolder, study: Study, finding: Finding, plan: Plan) -> tuple[dict[str, SavedResults], str]:
    """Return the units that all sides have finished, by side, and a sentence where these are not all."""
    sides = ("pair",) if finding.reads_both else SIDES
    units = list(finding.units(plan))
    done = {side: set(folder.finished(study, finding.name, side, units)) for side in sides}
    both = [unit for unit in units if all(unit in finished for finished in done.values())]
    saved = {side: SavedResults(folder, study, finding.name, side, both) for side in sides}
    if len(both) == len(units):
        return saved, ""
    damaged = [path.relative_to(folder.path).as_posix() for path in folder.damaged(finding.name, units)]
    lost = f" Damaged, so that its content is not what was written: {', '.join(damaged)}." if damaged else ""
    return saved, (
        f"Only {len(both)} of {len(units)} {finding.unit} of the finding {finding.name!r} are finished; run the same "
        f"comparison to go on.{lost}"
    )


def _checked(finding: Finding, tables: Any) -> Tables:
    if not isinstance(tables, Mapping):
        raise ItlensError(f"compare returned a {type(tables).__name__}; expected tables by name.")
    for name, table in tables.items():
        if not str(name).startswith("_") and not isinstance(table, (xr.Dataset, xr.DataArray, pd.DataFrame)):
            raise ItlensError(
                f"compare returned a {type(table).__name__} as the table {name!r}; expected an xarray Dataset or a "
                "pandas DataFrame."
            )
    return dict(tables)


def _verdicts(
    compared_findings: Mapping[str, Finding], tables: Mapping[str, Tables], failed: list[Failure]
) -> dict[str, Verdict]:
    verdicts: dict[str, Verdict] = {}
    for name, finding in compared_findings.items():
        verdicts[name] = Verdict("Not tested: see the caveats.", tested=False)
        with guarded(name, "verdict", failed):
            verdict = finding.verdict(tables[name])
            if not isinstance(verdict, Verdict):
                raise ItlensError(f"verdict returned a {type(verdict).__name__}; expected an itlens.Verdict.")
            verdicts[name] = verdict
    return {name: compared_findings[name].reconsider(verdict, verdicts) for name, verdict in verdicts.items()}


def _notes(comparison: Comparison, finding: Finding) -> list[str]:
    plan = plan_of(finding, dict(comparison.study), comparison.prompts, comparison.tables)
    failed: list[Failure] = []
    with guarded(finding.name, "notes", failed):
        return [minus(str(note)) for note in finding.notes(comparison.tables[finding.name], plan)]
    return [failed[0].sentence]


def _coarse(comparison: Comparison) -> list[str]:
    dtype = comparison.study["settings"].get("dtype", "float32")
    if dtype not in ("float16", "bfloat16"):
        return []
    return [f"Computed in {dtype}, whose rounding moves ranks and levels; quote figures of a float32 run."]
