"""A comparison without and one with the chat template, and what they say together: template or weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from itlens.diff import TemplateEffects, activation_scores, template_effects, template_verdict
from itlens.errors import StoreError
from itlens.prompts import Prompt
from itlens.prompts.formats import Framed
from itlens.study.comparison import Comparison, open_comparison
from itlens.study.parts import WHICH
from itlens.study.several import SeveralFolder

STATES = ("off", "on")  # of the template, and the names of the two run folders
_ANSWERED = ("instruction_score", "response_tokens")
_FIGURES = ("levels", "threshold", "p", "seed")


@dataclass(frozen=True)
class TemplateComparison:
    """out: the folder. off, on: the comparisons without and with the template. effects: the 2 x 2 of both."""

    out: Path
    off: Comparison
    on: Comparison
    effects: TemplateEffects

    @property
    def report_path(self) -> Path:
        """The page of both together; each comparison has its own beside it."""
        return SeveralFolder(self.out, "template").page

    @cached_property
    def answers(self) -> list[str]:
        """What came out on the instruction's importance, and on the length of the response, which it depends on."""
        return [template_verdict(self.effects.effects, statistic=name) for name in _ANSWERED]

    @property
    def verdict(self) -> str:
        """The answer on the instruction's importance."""
        return self.answers[0]

    @cached_property
    def notes(self) -> list[str]:
        """What a reader must know before believing the figures."""
        return list(dict.fromkeys([*self.off.notes, *self.on.notes]))

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """By name, as they are written."""
        found = self.effects
        return {"effects": found.effects, "template_share": found.template_share, "cells": found.prompts}

    def __repr__(self) -> str:
        return "\n".join([repr(self.effects), *(f"Note: {note}" for note in self.notes), f"Report: {self.report_path}"])


def open_templates(path: str | Path) -> TemplateComparison:
    """Read the folder of a comparison without and with the template. Raises StoreError where it is none."""
    folder = SeveralFolder(path, "template")
    frames = folder.read().get("frames")
    off, on = (open_comparison(folder.path / state) for state in STATES)
    return TemplateComparison(folder.path, off, on, _effects(off, on, _framed(on, frames, folder.file)))


def _framed(on: Comparison, frames: Any, file: Path) -> list[Framed]:
    if not isinstance(frames, dict) or any(prompt.id not in frames for prompt in on.prompts):
        raise StoreError(f"{file} does not say where each prompt stands in its template; run the same command again.")
    return [Framed(prompt, (frames[prompt.id][0], frames[prompt.id][1]), frames[prompt.id][2]) for prompt in on.prompts]


def _effects(off: Comparison, on: Comparison, framed: list[Framed]) -> TemplateEffects:
    """The 2 x 2 over the prompts that are finished in all four cells."""
    both = {"off": off, "on": on}
    cells = {(which, state): getattr(both[state], which) for which in WHICH for state in STATES}
    shared = set.intersection(*(set(results) for results in cells.values()))
    kept: list[Prompt] = [prompt for prompt in off.prompts if prompt.id in shared]
    if not kept:
        raise StoreError("No prompt is finished by both models both without and with the template; run it again.")
    settings = {name: off.study["settings"][name] for name in _FIGURES}
    results = {cell: {id: found[id] for id in found if id in shared} for cell, found in cells.items()}
    frames = [one for one in framed if one.prompt.id in shared]
    return template_effects(results, kept, frames, statistics=_further(both, shared), **settings)


def _further(both: Mapping[str, Comparison], shared: set[str]) -> dict[str, dict[tuple[str, str], pd.Series]]:
    """More numbers per prompt, where all four cells have them; a prompt that one of them lacks is NaN there."""
    found: dict[str, dict[tuple[str, str], pd.Series]] = {}
    for state, comparison in both.items():
        for which in WHICH if comparison.activation is not None else ():
            table = activation_scores(getattr(comparison.activation, which)).set_index("id").drop(columns="group")
            for name in table.columns:
                found.setdefault(str(name), {})[which, state] = table[name]
    whole = {}
    for name, cells in found.items():
        if len(cells) == len(WHICH) * len(STATES):
            whole[name] = {place: cell.reindex(sorted(shared)) for place, cell in cells.items()}
    return whole
