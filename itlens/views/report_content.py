"""What a report shows: the plain object that a study hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import xarray as xr

from itlens.errors import ResultError
from itlens.prompts import Prompt


@dataclass(frozen=True)
class Example:
    """One prompt (as the models read it) with its attribution under both models."""

    prompt: Prompt
    base: xr.Dataset
    tuned: xr.Dataset


@dataclass(frozen=True)
class ReportContent:
    """Everything a report shows; all text is plain text.

    title: the page's heading. base, tuned: the models' names. verdict: one or two sentences. diff: an AttributionDiff
    (prompts, groups, equal_length, regression, sensitivity, profile, ratings; each may be None). compared: facts
    ("precision": "float32"). examples: a few prompts, shown side by side. parameters: of the run; levels, threshold
    and p are also those of the token views, and mark the default in the sensitivity map. versions: of the packages.
    notes: warnings, shown at the top. created: when, as it is to be printed.
    """

    title: str
    base: str
    tuned: str
    verdict: str
    diff: Any
    compared: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    created: str = ""


def as_content(content: object) -> ReportContent:
    """`content` itself, or one made from a mapping of the same fields."""
    if isinstance(content, ReportContent):
        return content
    if not isinstance(content, Mapping):
        raise ResultError(
            f"views.report got a {type(content).__name__}: pass a ReportContent, or a mapping of its fields."
        )
    known = {f.name for f in fields(ReportContent)}
    required = {"title", "base", "tuned", "verdict", "diff"}
    if wrong := sorted(map(str, set(content) - known)):
        raise ResultError(f"views.report does not know {', '.join(wrong)}: the fields are {', '.join(sorted(known))}.")
    if missing := sorted(required - set(content)):
        raise ResultError(f"views.report needs {', '.join(missing)}, and got {', '.join(sorted(map(str, content)))}.")
    return ReportContent(**content)
