"""What a comparison holds of feed-forward concepts, side by side, read from the run folder.

Directions fill most of it: 300 of length 4,096 in 32 layers are 160 MB. Those of both models, of one side on all
layers, are held while that side is compared; then only those of the few layers stay whose cards a report shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.diff import concept_changes, concept_shares, concepts, concepts_verdict
from itlens.diff.concept_conclusion import quoted_size
from itlens.study.concept_layers import ConceptLayer, joined_layers, read_layer
from itlens.study.parts import WHICH, layers_wanted
from itlens.views import card_layers

SIDE_NAMES = {"value": "Values", "key": "Keys", "gate": "Gates"}
_PER_LAYER = ("overlap", "random_overlap", "floor", "mean_angle", "transfer_base", "below_floor", "degenerate")


@dataclass(frozen=True)
class ConceptResults:
    """Both models' concepts of one side, compared.

    side: "value", "key" or "gate". turned: of `itlens.diff.concepts`. base, tuned: of `itlens.mlp_concepts`, without
    the directions (they are in the folder's files). base_labels, tuned_labels: of `itlens.annotate_concepts`, of each
    layer's first components. changes: of `itlens.diff.concept_changes`. shares: of `itlens.diff.concept_shares`. cards:
    the concepts of "base" and "tuned" with directions, on the few layers that turned most.
    """

    side: str
    turned: xr.Dataset
    base: xr.Dataset
    tuned: xr.Dataset
    base_labels: pd.DataFrame
    tuned_labels: pd.DataFrame
    changes: pd.DataFrame
    shares: pd.DataFrame | None
    cards: Mapping[str, xr.Dataset]

    @property
    def verdict(self) -> str:
        """What came out, in a few sentences."""
        return concepts_verdict(self.turned, self.shares)

    @property
    def answer(self) -> str:
        """The verdict, and whose it is."""
        return f"{SIDE_NAMES[self.side]}: {self.verdict}"

    @property
    def k(self) -> int:
        """The size of the subspaces that are quoted."""
        return quoted_size(self.turned)

    @property
    def per_layer(self) -> pd.DataFrame:
        """A row per layer at the quoted size: overlap with both nulls, mean angle (degrees), transfer, flags."""
        part = self.turned.sel(k=self.k)
        floors = np.stack([part[f"floor_{which}"].values for which in WHICH])
        # one model may have been probed without draws, and a mean of none is none
        known = np.isfinite(floors).any(axis=0)
        floor = np.full(part.sizes["layer"], np.nan)
        floor[known] = np.nanmean(floors[:, known], axis=0)
        part = part.assign(floor=("layer", floor), mean_angle=np.degrees(part["mean_angle"]))
        return part[list(_PER_LAYER)].to_dataframe().reset_index()[["layer", *_PER_LAYER]]


def concept_results(folder: Path, study: Mapping[str, Any]) -> dict[str, ConceptResults] | None:
    """The comparison of each side, on the layers that both models have finished; None where there are none."""
    found: dict[str, ConceptResults] = {}
    for side in sides_of(study):
        layers = {which: layers_of(folder, which, side, study) for which in WHICH}
        both = [layer for layer in layers["base"] if layer in layers["tuned"]]
        if both:
            joined = {which: joined_layers([layers[which].pop(layer) for layer in both]) for which in WHICH}
            found[side] = _compared(side, joined, int(study["settings"]["seed"]))
    return found or None


def sides_of(study: Mapping[str, Any]) -> list[str]:
    """The sides that a study asks for; none where feed-forward concepts are not part of it."""
    return str(study["identity"]["sides"]).split(", ") if layers_wanted(study, "mlp") else []


def layers_of(folder: Path, which: str, side: str, study: Mapping[str, Any]) -> dict[int, ConceptLayer]:
    """One model's finished layers of a side."""
    wanted = range(layers_wanted(study, "mlp"))
    found = {layer: read_layer(folder, which, side, layer, study["identity"]) for layer in wanted}
    return {layer: part for layer, part in found.items() if part is not None}


def _compared(side: str, found: Mapping[str, ConceptLayer], seed: int) -> ConceptResults:
    base, tuned = found["base"], found["tuned"]
    turned = concepts(base.concepts, tuned.concepts, seed=seed)
    layers = sorted(card_layers(turned))
    return ConceptResults(
        side=side,
        turned=turned,
        base=base.concepts.drop_vars("direction"),
        tuned=tuned.concepts.drop_vars("direction"),
        base_labels=base.labels,
        tuned_labels=tuned.labels,
        changes=concept_changes(base.concepts, tuned.concepts),
        shares=concept_shares(base.labels, tuned.labels, seed=seed),
        cards={which: part.concepts.sel(layer=layers) for which, part in found.items()},
    )
