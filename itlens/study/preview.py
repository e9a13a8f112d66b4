"""What a run will do, said before it begins; and about how long, once one prompt has been measured.

The estimate is the time of one prompt times the number of prompts that are left, of the finding that was measured: no
constant of this machine or of any model is in it. What it leaves out is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itlens.files import visible
from itlens.findings.base import SIDES, Finding

_HEADING = 9  # characters before the text of a line


@dataclass(frozen=True)
class Pending:
    """Units of one finding. everything: of one side; left: by side ("base" and "tuned", or "pair"), not finished."""

    finding: Finding
    everything: int
    left: Mapping[str, int]

    @property
    def units(self) -> int:
        """The number of units that are not finished, over all sides."""
        return sum(self.left.values())

    @property
    def words(self) -> str:
        """What is to do: "attribution (40 prompts of each model)"."""
        return f"{self.finding.name} ({self._amount()})"

    def _amount(self) -> str:
        unit = self.finding.unit.removesuffix("s") if self.everything == 1 else self.finding.unit
        if "pair" in self.left:
            read = "both models on the same tokens" if self.finding.reads == "pair" else "both models"
            return f"{_of(self.left['pair'], self.everything)} {unit}, {read}"
        counts = list(self.left.values())
        if counts[0] == counts[-1]:
            return f"{_of(counts[0], self.everything)} {unit} of each model"
        parts = (f"{_of(count, self.everything)} of the {side} model" for side, count in self.left.items() if count)
        return f"{unit}: {', '.join(parts)}"


def preview(study: Mapping[str, Any], out: Path, place: str, pending: Sequence[Pending]) -> list[str]:
    """Return what a run will do, a line each: models, device, prompts, folder, and findings with what is left of them.

    study: as study.json holds it. place: where the models run.
    """
    models, settings = study["models"], study["settings"]
    shape = models["base"]
    sides = " and ".join(f"{models[side]['label']} ({side})" for side in SIDES)
    lines = [
        (
            "models",
            f"{sides}: {shape.get('layers')} layers, {shape.get('heads')} heads, d_model {shape.get('d_model')}",
        ),
        ("device", f"{place}, {settings['dtype']}"),
    ]
    if study["prompts"] and any(each.finding.reads in ("prompts", "pair") for each in pending):
        lines.append(("prompts", _reading(study)))
    finished = sum(each.everything * len(each.left) - each.units for each in pending)
    total = sum(each.everything * len(each.left) for each in pending)
    state = f"{finished} of {total} results are finished and kept" if finished else "nothing is finished yet"
    lines.append(("folder", f"{out}, {state}"))
    todo = [each.words for each in pending if each.units]
    lines.append(("to do", "; ".join([*todo, "tables and report"])))
    return [f"{name:<{_HEADING}}{visible(text)}" for name, text in lines]


def _reading(study: Mapping[str, Any]) -> str:
    reading = study["reading"]["settings"]
    writer = reading["responses"]
    whose = "each model on its own responses" if writer == "own" else f"both models on the {writer} model's responses"
    return f"{study['prompts']}, {whose} (at most {reading['max_new_tokens']} new tokens)"


def estimate(seconds: float, measured: Pending, others: Sequence[Pending], workers: int = 1) -> str:
    """Return about how long the rest of a finding takes, from the seconds of its first prompt, and what comes on top.

    measured: the finding, with the prompt that was measured still among those that are left. workers: how many prompts
    are computed at a time.
    """
    left = measured.units - 1
    later = [each.finding.name for each in others if each.units and each.finding.name != measured.finding.name]
    more = f"; {', '.join(later)} and the report come on top" if later else ", and the report"
    return visible(
        f"{'time':<{_HEADING}}{measured.finding.name}: the first prompt took {seconds:.1f} s, so about "
        f"{duration(seconds * left / workers)} for the {left} that are left{more}"
    )


def duration(seconds: float) -> str:
    """Return a time in words, rounded: "40 seconds", "12 minutes", "2.5 hours"."""
    if seconds < 90:
        whole = max(1, round(seconds))
        return f"{whole} second{'' if whole == 1 else 's'}"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _of(count: int, everything: int) -> str:
    return str(count) if count == everything else f"{count} of {everything}"
