"""The comparison of one kind of vectors, and the tables that it is kept as.

Directions fill most of it: 300 of length 4,096 in 32 layers are 160 MB. Those of both models, of one kind of vectors on
all layers, are held while that kind is compared; then only those of the few layers stay whose cards a report shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import xarray as xr

from itlens.findings.base import SIDES, Result, Tables
from itlens.findings.mlp.diff import compare_concepts
from itlens.findings.mlp.diff_labels import concept_shares
from itlens.findings.mlp.diff_listing import concept_changes
from itlens.findings.mlp.diff_verdict import concepts_verdict
from itlens.findings.mlp.vectors import VECTORS, ConceptResults, Vectors, card_layers, join_mlp_layers

_SUMMED = ("unknown", "unparsed")  # counts in the attributes of labels


class LabelledConcepts(NamedTuple):
    """One model's concepts of one kind of vectors, of a layer or of several, and the labels of the first of them."""

    concepts: xr.Dataset
    labels: pd.DataFrame


def joined_layers(layers: Sequence[LabelledConcepts]) -> LabelledConcepts:
    """Return several layers as one, as `itlens.mlp_concepts` and `itlens.annotate_concepts` return them."""
    labels = pd.concat([layer.labels for layer in layers], ignore_index=True)
    labels.attrs = {name: value for name, value in layers[0].labels.attrs.items() if name != "cost"}  # of one layer
    for name in _SUMMED:
        labels.attrs[name] = sum(layer.labels.attrs[name] for layer in layers)
    return LabelledConcepts(join_mlp_layers([layer.concepts for layer in layers]), labels)


def compared_concepts(
    vectors: Vectors, base: LabelledConcepts, tuned: LabelledConcepts, *, seed: int
) -> dict[str, Result]:
    """Compare both models' concepts of one kind of vectors; return the tables by name.

    turned_<vectors>, concept_changes_<vectors>, concept_shares_<vectors>, labels_<vectors> (of both models); and, for
    the figures, with _base and _tuned, _concepts_<vectors> (without directions), _labels_<vectors>, _cards_<vectors>.
    """
    rotation = compare_concepts(base.concepts, tuned.concepts, seed=seed)
    layers = sorted(card_layers(rotation))
    models = {"base": base, "tuned": tuned}
    labels = pd.concat([models[side].labels.assign(model=side) for side in models], ignore_index=True)
    labels.attrs = dict(tuned.labels.attrs)
    tables: dict[str, Result] = {
        f"turned_{vectors}": rotation,
        f"concept_changes_{vectors}": concept_changes(base.concepts, tuned.concepts),
        f"concept_shares_{vectors}": concept_shares(base.labels, tuned.labels, seed=seed),
        f"labels_{vectors}": labels,
    }
    for side, model in models.items():
        tables[f"_concepts_{vectors}_{side}"] = model.concepts.drop_vars("direction")
        tables[f"_labels_{vectors}_{side}"] = model.labels
        # a copy: a view would keep all directions in memory
        tables[f"_cards_{vectors}_{side}"] = model.concepts.sel(layer=layers)
    return tables


def concept_results(tables: Tables) -> dict[Vectors, ConceptResults]:
    """Return what the tables hold of each kind of vectors, in their order."""
    return {vectors: _results(vectors, tables) for vectors in VECTORS if f"turned_{vectors}" in tables}


def _results(vectors: Vectors, tables: Tables) -> ConceptResults:
    rotation, shares = tables[f"turned_{vectors}"], tables.get(f"concept_shares_{vectors}")
    return ConceptResults(
        vectors=vectors,
        turned=rotation,
        base=tables[f"_concepts_{vectors}_base"],
        tuned=tables[f"_concepts_{vectors}_tuned"],
        base_labels=tables[f"_labels_{vectors}_base"],
        tuned_labels=tables[f"_labels_{vectors}_tuned"],
        changes=tables[f"concept_changes_{vectors}"],
        shares=shares,
        cards={side: tables[f"_cards_{vectors}_{side}"] for side in SIDES},
        verdict=concepts_verdict(rotation, shares),
    )
