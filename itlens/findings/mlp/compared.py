"""Both models' concepts of one kind of vectors, compared: what the finding's figures and texts read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from itlens.findings.mlp.vectors import Vectors

_PER_LAYER = ("overlap", "random_overlap", "floor", "mean_angle", "transfer_base", "below_floor", "degenerate")


@dataclass(frozen=True)
class ConceptResults:
    """Both models' concepts of one kind of vectors, compared.

    vectors: "value", "key" or "gate". turned: of `itlens.diff.concepts`. base, tuned: of `itlens.mlp_concepts`, without
    the directions (they are in the folder's files). base_labels, tuned_labels: of `itlens.annotate_concepts`, of each
    layer's first components. changes: of `itlens.diff.concept_changes`. shares: of `itlens.diff.concept_shares`. cards:
    the concepts of "base" and "tuned" with directions, on the few layers that rotated most. verdict: of
    `itlens.diff.concepts_verdict`.
    """

    vectors: Vectors
    turned: xr.Dataset
    base: xr.Dataset
    tuned: xr.Dataset
    base_labels: pd.DataFrame
    tuned_labels: pd.DataFrame
    changes: pd.DataFrame
    shares: pd.DataFrame | None
    cards: Mapping[str, xr.Dataset]
    verdict: str

    @property
    def k(self) -> int:
        """The size of the subspaces that are quoted."""
        return quoted_k(self.turned)

    @property
    def per_layer(self) -> pd.DataFrame:
        """A row per layer at the quoted size: overlap with both nulls, mean angle (degrees), transfer, flags."""
        at_k = self.turned.sel(k=self.k)
        floors = np.stack([at_k[f"floor_{side}"].values for side in ("base", "tuned")])
        # one model may have been probed without draws, and a mean of none is none
        known = np.isfinite(floors).any(axis=0)
        floor = np.full(at_k.sizes["layer"], np.nan)
        floor[known] = np.nanmean(floors[:, known], axis=0)
        at_k = at_k.assign(floor=("layer", floor), mean_angle=np.degrees(at_k["mean_angle"]))
        return at_k[list(_PER_LAYER)].to_dataframe().reset_index()[["layer", *_PER_LAYER]]


def quoted_k(rotation: xr.Dataset) -> int:
    """Return the k that texts and tables quote, of `itlens.diff.concepts`: its `quoted_k`, or the largest there is."""
    sizes = [int(k) for k in rotation["k"].values]
    said = int(rotation.attrs.get("quoted_k", 0))
    return said if said in sizes else max(sizes)


def card_layers(rotation: xr.Dataset, top: int = 2) -> list[int]:
    """Return the layers whose concepts a report shows as cards: those with the least overlap, the least first.

    rotation: of itlens.diff.concepts. A report needs the words and directions of these layers only.
    """
    overlap = rotation["overlap"].sel(k=quoted_k(rotation)).sortby("layer")
    order = np.argsort(overlap.values, kind="stable")[:top]
    return [int(layer) for layer in overlap["layer"].values[order]]
