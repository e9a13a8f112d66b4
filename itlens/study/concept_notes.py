"""What a reader must know before believing the figures of feed-forward concepts, a sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from itlens.study.concept_results import ConceptResults


def concept_notes(study: Mapping[str, Any], found: Mapping[str, ConceptResults]) -> list[str]:
    """Words that are in no list, subspaces that are not what was asked for or not defined, answers not understood."""
    first = next(iter(found.values()))
    return [*_unknown(first), *_cut(first), *_floor(study), *(note for one in found.values() for note in _of(one))]


def _unknown(results: ConceptResults) -> list[str]:
    said = results.base.attrs
    number = said.get("unknown_to_tokenizer", 0)
    if not number:
        return []
    return [f"{number:,} of {said['vocabulary_size']:,} words are unknown to the models' tokenizer, and in no concept."]


def _cut(results: ConceptResults) -> list[str]:
    note = results.turned.attrs.get("note", "")
    return [f"Of concepts, {note}."] if note else []


def _floor(study: Mapping[str, Any]) -> list[str]:
    if study["settings"]["resamples"]:
        return []
    return [
        "Concepts were probed without resampled neurons, so there is no noise floor: whether subspaces turned more "
        "than the noise of their neurons is not known."
    ]


def _of(results: ConceptResults) -> list[str]:
    flat = results.turned["degenerate"].to_series()
    sizes = [
        f"k = {k} in {'layer' if len(part) == 1 else 'layers'} {', '.join(map(str, sorted(part)))}"
        for k, part in flat[flat].reset_index().groupby("k")["layer"].apply(list).items()
    ]
    notes = []
    if lost := max(ds.attrs.get("without_direction", 0) for ds in (results.base, results.tuned)):
        notes.append(
            f"{lost:,} words have no direction (a vector of zeros) beside {results.side} vectors, and are left out."
        )
    if sizes:
        notes.append(
            f"The spectrum of {results.side} vectors has no gap at {'; '.join(sizes)}: which components are the first "
            "k is a matter of chance there, and the largest angles are too."
        )
    return notes + _unparsed(results.side, {"base": results.base_labels, "tuned": results.tuned_labels})


def _unparsed(side: str, labels: Mapping[str, pd.DataFrame]) -> list[str]:
    return [
        f"{number:,} of {len(table):,} answers on the {which} model's {side} concepts could not be read, and count as "
        '"cannot tell".'
        for which, table in labels.items()
        if (number := table.attrs["unparsed"])
    ]
