"""What a report shows: the plain object that a study hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.prompts import Prompt
from itlens.views.running_content import ActivationContent, FaithfulnessContent, PatchContent, checked


@dataclass(frozen=True)
class Example:
    """One prompt (as the models read it) with its attribution under both models."""

    prompt: Prompt
    base: xr.Dataset
    tuned: xr.Dataset


@dataclass(frozen=True)
class WordContent:
    """The attention part of a report: what each head relates, before and after tuning.

    diff: of itlens.diff.word_pairs. changes: of itlens.diff.pair_changes. moved: of itlens.diff.moved_heads. base,
    tuned: word pairs of both models (itlens.qk_word_pairs); only the moved heads' rows need be there. verdict: the
    answer in one or two sentences. copying: layer, head and copying, or base_copying and tuned_copying; may be None.
    """

    diff: xr.Dataset
    changes: pd.DataFrame
    moved: pd.DataFrame
    base: pd.DataFrame
    tuned: pd.DataFrame
    verdict: str
    copying: pd.DataFrame | None = None


@dataclass(frozen=True)
class ConceptContent:
    """The feed-forward part of a report, for one kind of neuron vectors.

    side: "value", "key" or "gate". turned: of itlens.diff.concepts. base, tuned: of itlens.mlp_concepts; only the
    layers and components that are shown as cards need be there (see itlens.views.card_layers). base_labels,
    tuned_labels: of itlens.annotate_concepts. changes: of itlens.diff.concept_changes. shares: of
    itlens.diff.concept_shares, or None. verdict: the answer.
    """

    side: str
    turned: xr.Dataset
    base: xr.Dataset
    tuned: xr.Dataset
    base_labels: pd.DataFrame
    tuned_labels: pd.DataFrame
    changes: pd.DataFrame
    shares: pd.DataFrame | None
    verdict: str


@dataclass(frozen=True)
class ReportContent:
    """Everything a report shows; all text is plain text.

    title: the page's heading. base, tuned: the models' names. verdict: one or two sentences. diff: an AttributionDiff
    (prompts, groups, equal_length, regression, sensitivity, profile, ratings; each may be None), or None without
    attribution. words: the attention part, or None. concepts: the feed-forward part, one for each kind of neuron
    vectors. activation, patching, faithfulness: of the running models, each or None. compared: facts ("precision":
    "float32"). examples: a few prompts, shown side by side. parameters: of the run; levels, threshold and p are also
    those of the token views, and mark the default in the sensitivity map. versions: of the packages. notes: warnings,
    shown at the top. created: when, as it is to be printed.
    """

    title: str
    base: str
    tuned: str
    verdict: str
    diff: Any = None
    compared: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    created: str = ""
    words: WordContent | None = None
    concepts: Sequence[ConceptContent] = ()
    activation: ActivationContent | None = None
    patching: PatchContent | None = None
    faithfulness: FaithfulnessContent | None = None


def as_content(content: object) -> ReportContent:
    """`content` itself, or one made from a mapping of the same fields."""
    if isinstance(content, ReportContent):
        return _with_something(content)
    if not isinstance(content, Mapping):
        raise ResultError(
            f"views.report got a {type(content).__name__}: pass a ReportContent, or a mapping of its fields."
        )
    known = {f.name for f in fields(ReportContent)}
    required = {"title", "base", "tuned", "verdict"}
    if wrong := sorted(map(str, set(content) - known)):
        raise ResultError(f"views.report does not know {', '.join(wrong)}: the fields are {', '.join(sorted(known))}.")
    if missing := sorted(required - set(content)):
        raise ResultError(f"views.report needs {', '.join(missing)}, and got {', '.join(sorted(map(str, content)))}.")
    return _with_something(ReportContent(**content))


def _with_something(content: ReportContent) -> ReportContent:
    listed = _listed(content)
    running = [checked(name, getattr(content, name)) for name in ("activation", "patching", "faithfulness")]
    if content.diff is None and content.words is None and not listed and not any(running):
        raise ResultError(
            "views.report got none of diff, words, concepts, activation, patching and faithfulness: give an "
            "AttributionDiff as diff, a WordContent as words, a list of ConceptContent as concepts, an "
            "ActivationContent, a PatchContent or a FaithfulnessContent, or several of them."
        )
    if content.words is not None and not isinstance(content.words, WordContent):
        raise ResultError(f"views.report got a {type(content.words).__name__} as words: pass a views.WordContent.")
    sides = [part.side for part in listed]
    if twice := sorted({side for side in sides if sides.count(side) > 1}):
        raise ResultError(f"views.report got {twice[0]} concepts twice: pass one ConceptContent for each side.")
    return content


def _listed(content: ReportContent) -> Sequence[ConceptContent]:
    if not isinstance(content.concepts, Sequence) or isinstance(content.concepts, str):
        got = type(content.concepts).__name__
        raise ResultError(f"views.report got a {got} as concepts: pass a list of views.ConceptContent.")
    if odd := [type(part).__name__ for part in content.concepts if not isinstance(part, ConceptContent)]:
        raise ResultError(f"views.report got a {odd[0]} among concepts: pass a list of views.ConceptContent.")
    return content.concepts


def settings(content: ReportContent) -> tuple[int, int, float]:
    """Levels, threshold and power of the run (METHODS: L, b, p), the paper's where the parameters do not say."""
    given = content.parameters
    return int(given.get("levels", 10)), int(given.get("threshold", 7)), float(given.get("p", 4))
