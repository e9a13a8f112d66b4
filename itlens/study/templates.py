"""`compare_templates`: the same comparison without and with the chat template, and the 2 x 2 of both.

Numbers per prompt come from the findings (`per_prompt`), on the prompt's own text only: what the template wrote is set
apart. A number that exists in all four cells gets main effects and an interaction; one that exists only with the
template on is compared between base and tuned there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from itlens.errors import ProbeError, StoreError
from itlens.findings.base import SIDES
from itlens.prompts import Prompt
from itlens.prompts.formats import Framed, TemplateClock, frame_prompts
from itlens.report.page_data import Page
from itlens.results.provenance import provenance
from itlens.stats.groups import groups_of
from itlens.stats.paired import paired_row
from itlens.stats.two_by_two import TemplateEffects, template_verdict, two_by_two
from itlens.study.comparison import Comparison, open_comparison
from itlens.study.folder import RunFolder
from itlens.study.numbers import numbers_of
from itlens.study.record import rendering_of
from itlens.study.request import LOAD, chosen_findings
from itlens.study.several import SeveralFolder, notices

STATES = ("off", "on")  # of the template, and the names of the two run folders
Cell = tuple[str, str]


@dataclass(frozen=True)
class TemplateComparison:
    """out: the folder. off, on: the comparisons without and with the template. effects: the 2 x 2 of both. notices:
    what happened to the folder's own files."""

    out: Path
    off: Comparison
    on: Comparison
    effects: TemplateEffects
    notices: tuple[str, ...] = ()

    @property
    def report_path(self) -> Path:
        """The page of both together; each comparison has its own next to it."""
        return SeveralFolder(self.out, "template").page

    @property
    def page(self) -> Page:
        """What the page and the terminal draw."""
        from itlens.study.several_outcome import template_page

        return template_page(self)

    @cached_property
    def answers(self) -> list[str]:
        """What came out on each number of the first finding that has numbers per prompt."""
        return [template_verdict(self.effects.effects, statistic=name) for name in self._leading]

    @property
    def verdict(self) -> str:
        """The first answer."""
        return self.answers[0]

    @property
    def _leading(self) -> list[str]:
        leading = self.effects.effects.attrs.get("leading", [])
        return [leading] if isinstance(leading, str) else list(leading)

    @cached_property
    def notes(self) -> list[str]:
        """Caveats of both comparisons."""
        return list(dict.fromkeys([*self.notices, *self.off.notes, *self.on.notes]))

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """By name, as they are written."""
        made = self.effects
        return {"effects": made.effects, "template_share": made.template_share, "cells": made.prompts}

    def __repr__(self) -> str:
        return "\n".join([repr(self.effects), *(f"Note: {note}" for note in self.notes), f"Report: {self.report_path}"])


def compare_templates(
    base: Any,
    tuned: Any = None,
    prompts: str | Path | Iterable[Prompt] = "builtin",
    probes: str | Sequence[str] = "all",
    out: str | Path = "runs/template",
    resume: bool = True,
    *,
    adapter: str | Path | None = None,
    limit: int | None = None,
    rendered_at: datetime | None = None,
    **options: Any,
) -> TemplateComparison:
    """Separate effects of the weights from effects of the chat template (the tuned tokenizer's, for both models).

    Two comparisons, in `out`/off (the prompts as they are) and `out`/on (in the template), and over both the main
    effects of weights and template and their interaction, per statistic (`itlens.diff.template_effects`). What needs no
    prompts runs in off only. Everything else is as in `itlens.compare`, whose options these are, without format.

    Raises PromptError where the tuned tokenizer has no chat template, ProbeError for a format and for probes that no
    number per prompt comes from, and what `compare` raises.
    """
    from itlens.models import load_pair
    from itlens.study.pair import compare
    from itlens.study.prompts import listed_prompts, refuse_unshared
    from itlens.study.several_outcome import write_several

    if "format" in options:
        raise ProbeError("Both formats are compared, without and with the chat template; leave format out.")
    chosen = chosen_findings(probes)
    reading = [finding.name for finding in chosen if finding.reads_prompts]
    if not reading:
        raise ProbeError(
            "Template x weights compares numbers per prompt; add a finding that reads prompts to the probes."
        )
    load = {name: options[name] for name in LOAD if name in options}
    pair = load_pair(base, tuned, adapter=adapter, **load)
    models = {side: pair.side(side) for side in SIDES}
    tokenizer = models["tuned"].tokenizer
    given = listed_prompts(prompts, limit)
    folder = SeveralFolder(out, "template")
    held = RunFolder(folder.path / STATES[-1]).held_study()
    clock = TemplateClock(rendered_at or rendering_of(held))
    framed = frame_prompts(given, "chat", tokenizer, clock)
    framed_prompts = [each.prompt for each in framed]
    front, responses = options.get("prepend_bos"), options.get("responses", "own")
    if any(finding.reads == "pair" for finding in chosen):  # before hours are spent without the template
        refuse_unshared(framed_prompts, models, responses, front)
    frames = {each.prompt.id: [*each.body, each.cut] for each in framed}
    options |= {"adapter": adapter, "rendered_at": clock.moment}
    off = folder.path / STATES[0]

    def read(run: Path) -> Comparison:
        if run == off:
            return open_comparison(run)
        return compare(base, tuned, given, reading, run, resume, format="chat", **options)

    with folder.opened({"frames": frames}, list(STATES), grows="frames"):
        every = [finding.name for finding in chosen]
        compare(base, tuned, given, every, off, resume, format="raw", **options)  # let go of while the models run again
        comparison = open_templates(folder.path, read)
        write_several(folder, comparison)
    return comparison


def open_templates(path: str | Path, read: Callable[[Path], Comparison] = open_comparison) -> TemplateComparison:
    """Read the folder of a comparison without and with the template. Raises StoreError where it is none.

    read: how a run folder becomes a comparison; the one with the template is read first.
    """
    folder = SeveralFolder(path, "template")
    asked = folder.read()
    on, off = (read(folder.run_folder(state)) for state in STATES[::-1])
    framed = _framed(on, asked.get("frames"), folder.file)
    return TemplateComparison(folder.path, off, on, _effects(off, on, framed), tuple(notices(asked)))


def _framed(on: Comparison, frames: Any, file: Path) -> list[Framed]:
    if not isinstance(frames, dict) or not all(_is_frame(frames.get(prompt.id)) for prompt in on.prompts):
        raise StoreError(
            f"{file} does not say where each prompt is in its template; run the same command into a new folder."
        )
    return [Framed(prompt, (frames[prompt.id][0], frames[prompt.id][1]), frames[prompt.id][2]) for prompt in on.prompts]


def _is_frame(frame: Any) -> bool:
    return isinstance(frame, list) and len(frame) == 3 and all(type(place) is int for place in frame)


def _effects(off: Comparison, on: Comparison, framed: list[Framed]) -> TemplateEffects:
    """The 2 x 2 over the prompts that are finished in all four cells, for every number that the findings have."""
    numbers = {"off": numbers_of(off), "on": numbers_of(on, framed)}
    both = [name for name in numbers["off"] if name in numbers["on"]]
    if not both:
        raise StoreError("No prompt has numbers both without and with the template; run it again.")
    cells = {(side, state): _rows(numbers[state][both[0]], side) for side in SIDES for state in STATES}
    shared = set.intersection(*(set(table.index) for table in cells.values()))
    if not shared:
        raise StoreError("No prompt is finished by both models both without and with the template; run it again.")
    order = [prompt.id for prompt in off.prompts if prompt.id in shared]
    cells = {cell: table.reindex(order) for cell, table in cells.items()}
    values = _in_all_cells(cells)
    leading = list(values)
    for name in both[1:]:  # numbers of further findings, over the sorted prompts: resampling draws by position
        more = {(side, state): _rows(numbers[state][name], side) for side in SIDES for state in STATES}
        values |= _in_all_cells({cell: table.reindex(sorted(shared)) for cell, table in more.items()})
    options: dict[str, Any] = {"seed": int(off.study["settings"]["seed"]), "resamples": 10_000, "minimum": 5}
    groups = cells["base", "off"]["group"]
    effects = pd.concat(
        [two_by_two(given, groups, **options).assign(statistic=name) for name, given in values.items()],
        ignore_index=True,
    )
    effects.insert(0, "statistic", effects.pop("statistic"))
    only_on = [name for name in _number_names(cells["base", "on"]) if name not in values]
    shares = [_share_table(cells, name, **options) for name in only_on]
    share = pd.concat(shares, ignore_index=True) if shares else pd.DataFrame()
    made = TemplateEffects(effects, share, _long(cells, [*leading, *only_on]))
    models = {f"{side}_model": str(off.study["models"][side]["name"]) for side in SIDES}
    attrs: dict[Any, Any] = provenance("diff.template_effects", **models, **options)
    for table in made:
        table.attrs = dict(attrs)
    effects.attrs["leading"] = leading
    return made


def _rows(table: pd.DataFrame, side: str) -> pd.DataFrame:
    return table[table["model"] == side].drop(columns="model").set_index("id")


def _number_names(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns if name not in ("group", "tokens")]


def _in_all_cells(cells: Mapping[Cell, pd.DataFrame]) -> dict[str, dict[Cell, pd.Series]]:
    first = next(iter(cells.values()))
    return {
        name: {cell: table[name] for cell, table in cells.items()}
        for name in _number_names(first)
        if all(name in table and table[name].notna().any() for table in cells.values())
    }


def _share_table(cells: Mapping[Cell, pd.DataFrame], name: str, **options: Any) -> pd.DataFrame:
    """Base compared with tuned with the template on; prompts that one model has no number for are left out."""
    base, tuned = cells["base", "on"], cells["tuned", "on"]
    both = pd.DataFrame({"group": base["group"], "base": base[name], "tuned": tuned[name]})
    both = both.dropna(subset=["base", "tuned"])
    parts = {group: both[members] for group, members in groups_of(both["group"].fillna("")).items()}
    rows = [{"group": group, **paired_row(part["base"], part["tuned"], **options)} for group, part in parts.items()]
    return pd.DataFrame(rows)


def _long(cells: Mapping[Cell, pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    parts = [
        table.reindex(columns=["group", *names]).reset_index().assign(model=side, template=state)
        for (side, state), table in cells.items()
    ]
    out = pd.concat(parts, ignore_index=True)
    for name in names:
        out[name] = out[name].astype(float) if out[name].isna().any() else out[name]
    return out[["id", "group", "model", "template", *names]].replace({None: np.nan})
