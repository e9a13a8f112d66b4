"""Concepts, labels and their diffs on planted subspaces, made by the real diff: views are tested without any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.diff import concept_changes, concept_shares, concepts, concepts_verdict
from itlens.findings.mlp.vectors import ConceptResults, Vectors
from tests.findings.mlp.concept_tables import concept_table, random_bases, turned

TASKS = ("daily", "literary", "professional", "mathematics", "coding", "translation")
LAYERS, KS, TURNED = 4, (5, 10), 2
TOP = 15


def concept_pair(words: Sequence[str] | None = None, vectors: str = "value") -> tuple[xr.Dataset, xr.Dataset]:
    """Base and tuned: one layer's first components are turned out of the base's space, the others stay."""
    base = random_bases(0, layers=LAYERS)
    tuned = base
    for inside, outside in ((0, 30), (1, 31), (2, 32)):
        tuned = turned(tuned, TURNED, inside, outside, 1.2)
    floor = np.full((LAYERS, 2, 3), 0.95)
    made = [
        concept_table(part, top_k=20, words=words, floor=floor, ks=KS, model=f"toy/{name}", vectors=vectors)
        for name, part in (("base", base), ("tuned", tuned))
    ]
    return made[0], made[1]


def label_table(ds: xr.Dataset, said: Mapping[int, tuple[str, str, tuple[str, ...]]], seeds: int = 1) -> pd.DataFrame:
    """Labels like those of annotate_concepts. said: description, level and tasks by component; others: cannot tell."""
    rows = []
    for layer in ds["layer"].values.tolist():
        for component in ds["component"].values.tolist():
            words = ds["word"].sel(layer=layer, component=component).values[:TOP].tolist()
            known = component in said
            description, level, tasks = said.get(component, ("cannot tell", "", ()))
            one = {"layer": layer, "component": component, "pole": "", "words": " ".join(words)}
            one |= {"description": description, **{f"task_{task}": task in tasks for task in TASKS}, "level": level}
            one |= {"confidence": 0.6 if known else 0.0, "known": known}
            rows += [one | {"seed": seed, "labeller": "toy"} for seed in range(seeds)]
    table = pd.DataFrame(rows)
    facts = {name: ds.attrs[name] for name in ("model", "vectors", "vocabulary", "n_layers")}
    table.attrs = {"probe": "annotate_concepts", **facts, "labeller": "toy", "seeds": [], "unparsed": 0}
    return table


BASE_SAID = {0: ("fruit", "semantics", ()), 1: ("verbs in -ing", "morphology", ()), 2: ("rhymes", "phonology", ()),
             5: ("plurals", "morphology", ()), 7: ("odd ones", "", ())}  # fmt: skip
TUNED_SAID = {
    0: ("recipes", "semantics", ("daily", "literary")), 1: ("loops", "syntax", ("coding",)),
    4: ("brackets", "syntax", ("coding",)), 5: ("plurals", "morphology", ()), 6: ("commas", "syntax", ()),
}  # fmt: skip


@cache
def shares() -> pd.DataFrame:
    """The shares of the planted labels: tuned serves tasks that base does not."""
    base, tuned = concept_pair()
    return concept_shares(label_table(base, BASE_SAID), label_table(tuned, TUNED_SAID), resamples=200)


def concept_content(
    vectors: Vectors = "value", *, words: Sequence[str] | None = None, said: str = "", **changes: Any
) -> ConceptResults:
    """The comparison of one kind of vectors. said: a description for every label."""
    base, tuned = concept_pair(words, vectors)
    told = [{at: (said or one[0], *one[1:]) for at, one in part.items()} for part in (BASE_SAID, TUNED_SAID)]
    labels = [label_table(ds, part) for ds, part in zip((base, tuned), told, strict=True)]
    diff = concepts(base, tuned, ks=KS, draws=20)
    table = concept_shares(*labels, resamples=200)
    fields: dict[str, Any] = {
        "vectors": vectors, "turned": diff, "base": base.drop_vars("direction"), "tuned": tuned.drop_vars("direction"),
        "base_labels": labels[0], "tuned_labels": labels[1], "changes": concept_changes(base, tuned), "shares": table,
        "cards": {"base": base, "tuned": tuned}, "verdict": concepts_verdict(diff, table),
    }  # fmt: skip
    return ConceptResults(**(fields | changes))
