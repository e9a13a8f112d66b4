"""A comparison of two models on disk: its results, tables, report, and what to tell the reader beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from itlens.diff import AttributionDiff, attributions, verdict
from itlens.errors import StoreError
from itlens.files import write_text
from itlens.prompts import Prompt
from itlens.store import save
from itlens.study.folder import WHICH, RunFolder
from itlens.study.ranges import refuse_numbers
from itlens.views import Example, Report, ReportContent, report

EXAMPLES = 4
_SCORING = ("levels", "threshold", "p", "seed")


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; everything is read from the run folder.

    out: the folder. study: what was asked (models, settings, versions). prompts: as the models read them. base, tuned:
    attributions by prompt id. diff: the tables of `itlens.diff.attributions`.
    """

    out: Path
    study: Mapping[str, Any]
    prompts: Sequence[Prompt]
    base: Mapping[str, xr.Dataset]
    tuned: Mapping[str, xr.Dataset]
    diff: AttributionDiff

    @property
    def report_path(self) -> Path:
        """The report's page."""
        return RunFolder(self.out).report

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        return verdict(self.diff)

    @cached_property
    def notes(self) -> list[str]:
        """What a reader must know before believing the figures."""
        return [*self.study.get("notices", []), *_unfinished(self), *_coarse(self), *_empty(self), *_cut(self)]

    def report(self) -> Report:
        """The report as an object that Jupyter shows; `.html` is the page."""
        return report(_content(self))

    def __repr__(self) -> str:
        return f"{self.diff!r}\n\n{''.join(f'Note: {note}{chr(10)}' for note in self.notes)}Report: {self.report_path}"

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return f"{self.diff._repr_html_()}<ul>{notes}</ul><p>Report: <code>{escape(str(self.report_path))}</code></p>"


def open_comparison(path: str | Path) -> Comparison:
    """Read a run folder and compare what is finished in it. Nothing is written.

    Raises StoreError for a folder without a study or without a prompt that both models have finished.
    """
    folder = RunFolder(path)
    study, prompts = folder.read_study(), folder.read_prompts()
    base, tuned = (folder.finished(which, prompts) for which in WHICH)
    return compared(folder, study, prompts, base, tuned)


def compared(
    folder: RunFolder,
    study: Mapping[str, Any],
    prompts: Sequence[Prompt],
    base: Mapping[str, xr.Dataset],
    tuned: Mapping[str, xr.Dataset],
) -> Comparison:
    """The comparison of what both models have finished. Raises StoreError where that is nothing."""
    both = [prompt for prompt in prompts if prompt.id in base and prompt.id in tuned]
    if not both:
        raise StoreError(
            f"{folder.path} has no prompt that both models have finished (base {len(base)}, tuned {len(tuned)} of "
            f"{len(prompts)}); run the same `itlens compare` again to go on."
        )
    ids = {prompt.id for prompt in both}
    base, tuned = ({id: side[id] for id in side if id in ids} for side in (base, tuned))
    scoring = {name: study["settings"][name] for name in _SCORING}
    refuse_numbers(**scoring)
    diff = attributions(base, tuned, both, **scoring)
    return Comparison(folder.path, study, prompts, base, tuned, diff)


def write_outcome(comparison: Comparison) -> None:
    """Write the tables and the report into the run folder."""
    folder = RunFolder(comparison.out)
    for name, result in comparison.diff._asdict().items():
        if isinstance(result, pd.DataFrame):
            save(result, folder.tables / f"{name}.parquet")
            save(result, folder.tables / f"{name}.csv")
        elif result is not None:
            save(result, folder.tables / f"{name}.nc")
    write_text(folder.report, comparison.report().html)


def _content(comparison: Comparison) -> ReportContent:
    study = comparison.study
    models, settings = study["models"], study["settings"]
    both = [prompt for prompt in comparison.prompts if prompt.id in comparison.base]
    examples = [
        Example(prompt, comparison.base[prompt.id], comparison.tuned[prompt.id])
        for prompt in both
        if comparison.base[prompt.id].sizes["target"] and comparison.tuned[prompt.id].sizes["target"]
    ]
    compared: dict[str, Any] = {}
    for which in WHICH:
        compared |= {f"{which} {name}": value for name, value in models[which].items() if name != "name" and value}
    compared |= {"prompts": f"{len(both)} of {study['prompts']}", "prompt format": settings["format"]}
    return ReportContent(
        title="Does tuning make the model lean on the instruction?",
        base=models["base"]["label"],
        tuned=models["tuned"]["label"],
        verdict=comparison.verdict,
        diff=comparison.diff,
        compared=compared,
        examples=examples[:EXAMPLES],
        parameters=settings,
        versions=study["versions"],
        notes=comparison.notes,
        created=study["created"],
    )


def _unfinished(comparison: Comparison) -> list[str]:
    done, wanted = len(comparison.base), len(comparison.prompts)
    missing = f"Only {done} of {wanted} prompts are finished; run the same comparison to go on."
    return [] if done == wanted else [missing]


def _coarse(comparison: Comparison) -> list[str]:
    dtype = comparison.study["settings"].get("dtype", "float32")
    if dtype not in ("float16", "bfloat16"):
        return []
    return [f"Computed in {dtype}, whose rounding moves the importance levels; quote figures of a float32 run."]


def _empty(comparison: Comparison) -> list[str]:
    notes = []
    for which, side in (("base", comparison.base), ("tuned", comparison.tuned)):
        empty = [id for id, result in side.items() if not result.sizes["target"]]
        if empty:
            shown = ", ".join(empty[:5]) + (" ..." if len(empty) > 5 else "")
            count = f"{len(empty)} of {len(side)} prompts"
            notes.append(f"The {which} model gave an empty response to {count} (scored 0): {shown}.")
    return notes


def _cut(comparison: Comparison) -> list[str]:
    notes = []
    for which, side in (("base", comparison.base), ("tuned", comparison.tuned)):
        cut = sum(result.attrs.get("finish") == "length" for result in side.values())
        if cut:
            length = comparison.study["settings"]["max_new_tokens"]
            notes.append(
                f"{cut} of {len(side)} responses of the {which} model did not end by themselves and were cut at "
                f"{length} tokens (or at the model's context)."
            )
    return notes
