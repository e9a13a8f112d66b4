"""A comparison of two models on disk: its results, tables, report, and what to tell the reader beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from itlens.diff import (
    AttributionDiff,
    attributions,
    moved_heads,
    pair_changes,
    pairs_verdict,
    verdict,
    word_pairs,
)
from itlens.errors import StoreError
from itlens.prompts import Prompt
from itlens.study.concept_results import ConceptResults, concept_results
from itlens.study.folder import RunFolder
from itlens.study.notes import notes_on
from itlens.study.parts import WHICH, layers_wanted, parts_of, reads_prompts
from itlens.study.ranges import refuse_numbers
from itlens.study.report_content import content
from itlens.study.running_results import (
    ActivationResults,
    FaithfulResults,
    PatchResults,
    activation_results,
    faithful_results,
    patch_results,
)
from itlens.study.word_layers import joined_pairs, pairs_by_layer
from itlens.views import Report, report

_SCORING = ("levels", "threshold", "p", "seed")
# of the diff of word pairs, per group of layers: the paper's table, and the null beside it
VERB_SHARES = (
    *("heads", "changed_heads", "instruction_share", "general_share", "difference", "ci_low", "ci_high"),
    *("effect_size", "t_welch", "p_welch", "null_low", "null_high", "p_null", "note"),
)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; everything is read from the run folder. A part that was not asked for is empty or None.

    out: the folder. study: what was asked (models, settings, versions). Attribution: prompts, as the models read them;
    base, tuned: attributions by prompt id; diff: the tables of `itlens.diff.attributions`. Attention: words: of
    `itlens.diff.word_pairs`; pairs: the word pairs of "base" and "tuned" (`itlens.qk_word_pairs`). Feed-forward layers:
    concepts: by side ("value", "key", "gate") what turned, the concepts, their labels and shares. Running models:
    activation (both on the same tokens), patching (what each head carries), faithfulness (of the attributions).
    """

    out: Path
    study: Mapping[str, Any]
    prompts: Sequence[Prompt]
    base: Mapping[str, xr.Dataset]
    tuned: Mapping[str, xr.Dataset]
    diff: AttributionDiff | None
    words: xr.Dataset | None = None
    pairs: Mapping[str, pd.DataFrame] | None = None
    concepts: Mapping[str, ConceptResults] | None = None
    activation: ActivationResults | None = None
    patching: PatchResults | None = None
    faithfulness: FaithfulResults | None = None

    @property
    def report_path(self) -> Path:
        """The report's page."""
        return RunFolder(self.out).report

    @property
    def answers(self) -> list[str]:
        """What came out: a sentence or two for each part."""
        found = [] if self.diff is None else [verdict(self.diff)]
        found += [] if self.words is None else [pairs_verdict(self.words)]
        found += [results.answer for results in self._sides]
        return found + self._running

    @property
    def verdict(self) -> str:
        """The answers in one text."""
        return " ".join(self.answers)

    @cached_property
    def verb_shares(self) -> pd.DataFrame | None:
        """Per group of layers: how often instruction verbs rose, how often others, and the tests (finding 2)."""
        return None if self.words is None else self.words[list(VERB_SHARES)].to_dataframe().reset_index()

    @cached_property
    def changes(self) -> pd.DataFrame | None:
        """Every word pair that a head kept, gained or lost (`itlens.diff.pair_changes`)."""
        return None if self.pairs is None else pair_changes(self.pairs["base"], self.pairs["tuned"])

    @cached_property
    def moved(self) -> pd.DataFrame | None:
        """The heads whose word pairs changed most (`itlens.diff.moved_heads`)."""
        return None if self.words is None else moved_heads(self.words)

    @cached_property
    def notes(self) -> list[str]:
        """What a reader must know before believing the figures."""
        return notes_on(self)

    def report(self) -> Report:
        """The report as an object that Jupyter shows; `.html` is the page."""
        return report(content(self))

    def __repr__(self) -> str:
        parts = [] if self.diff is None else [repr(self.diff)]
        if self.words is not None and self.verb_shares is not None:
            parts += [f"{pairs_verdict(self.words)}\n\n{self.verb_shares.to_string(index=False)}"]
        parts += [f"{found.answer}\n\n{found.per_layer.to_string(index=False)}" for found in self._sides]
        parts += self._running
        notes = "".join(f"Note: {note}\n" for note in self.notes)
        return "\n\n".join([*parts, f"{notes}Report: {self.report_path}"])

    def _repr_html_(self) -> str:
        parts = [] if self.diff is None else [self.diff._repr_html_()]
        if self.words is not None and self.verb_shares is not None:
            parts += [f"<p>{escape(pairs_verdict(self.words))}</p>{_html(self.verb_shares)}"]
        parts += [f"<p>{escape(found.answer)}</p>{_html(found.per_layer)}" for found in self._sides]
        parts += [f"<p>{escape(answer)}</p>" for answer in self._running]
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return f"{''.join(parts)}<ul>{notes}</ul><p>Report: <code>{escape(str(self.report_path))}</code></p>"

    @property
    def _running(self) -> list[str]:
        """The answers of what was read off the running models."""
        parts = {"Activations": self.activation, "Patching": self.patching, "Faithfulness": self.faithfulness}
        return [f"{name}: {results.verdict}" for name, results in parts.items() if results is not None]

    @property
    def _sides(self) -> list[ConceptResults]:
        return list((self.concepts or {}).values())


def _html(table: pd.DataFrame) -> str:
    return str(table.to_html(index=False, float_format="{:.3g}".format, na_rep=""))


def open_comparison(path: str | Path) -> Comparison:
    """Read a run folder and compare what is finished in it. Nothing is written.

    Raises StoreError for a folder without a study or without anything that both models have finished.
    """
    folder = RunFolder(path)
    return compared(folder, folder.read_study())


def compared(
    folder: RunFolder,
    study: Mapping[str, Any],
    prompts: Sequence[Prompt] | None = None,
    found: Mapping[str, Mapping[str, xr.Dataset]] | None = None,
) -> Comparison:
    """The comparison of what both models have finished; prompts and attributions are read where they are not given.

    Raises StoreError where that is nothing.
    """
    parts, identity = parts_of(study["identity"]), study["identity"]
    prompts = prompts or (folder.read_prompts() if reads_prompts(identity) else [])
    seed = study["settings"]["seed"]
    refuse_numbers(seed=seed)
    pairs = _pairs(folder, study) if "attention" in parts else None
    words = None if pairs is None else word_pairs(pairs["base"], pairs["tuned"], seed=seed)
    activation = activation_results(folder, study)
    comparison = Comparison(
        out=folder.path,
        study=study,
        prompts=prompts,
        base={},
        tuned={},
        diff=None,
        words=words,
        pairs=pairs,
        concepts=concept_results(folder.path, study) if "mlp" in parts else None,
        activation=activation,
        patching=patch_results(folder, study, words, activation),
        faithfulness=faithful_results(folder, study, prompts),
    )
    found = found or {which: folder.finished(which, prompts) if "attribution" in parts else {} for which in WHICH}
    both = [prompt for prompt in prompts if all(prompt.id in found[which] for which in WHICH)]
    if not both and not comparison.answers:
        raise StoreError(f"{folder.path} has {_nothing(study, prompts, found)}; run the same `itlens compare` again.")
    if not both:
        return comparison
    ids = {prompt.id for prompt in both}
    base, tuned = ({id: side[id] for id in side if id in ids} for side in (found["base"], found["tuned"]))
    scoring = {name: study["settings"][name] for name in _SCORING}
    refuse_numbers(**scoring)
    return replace(comparison, base=base, tuned=tuned, diff=attributions(base, tuned, both, **scoring))


def _pairs(folder: RunFolder, study: Mapping[str, Any]) -> dict[str, pd.DataFrame] | None:
    """Both models' word pairs on the layers that both have finished; None where there are none."""
    identity, layers = study["identity"], layers_wanted(study, "attention")
    found = {which: pairs_by_layer(folder.path, which, layers, identity) for which in WHICH}
    both = [layer for layer in found["base"] if layer in found["tuned"]]
    return {which: joined_pairs(found.pop(which), both) for which in WHICH} if both else None


def _nothing(study: Mapping[str, Any], prompts: Sequence[Prompt], found: Mapping[str, Mapping[str, Any]]) -> str:
    missing, parts = [], parts_of(study["identity"])
    if "attribution" in parts:
        done = f"base {len(found['base'])}, tuned {len(found['tuned'])} of {len(prompts)}"
        missing.append(f"no prompt that both models have finished ({done})")
    for part, results in {"attention": "word pairs", "mlp": "concepts"}.items():
        if layers_wanted(study, part):
            missing.append(f"no layer of which both models have finished the {results}")
    missing += [f"no finished {part}" for part in ("activation", "patching", "faithfulness") if part in parts]
    return " and ".join(missing) or "no results"
