"""The kinds of neuron vectors of a feed-forward layer, several layers' results as one, and both models' compared.

VALUE vectors are the rows of W_out, what each neuron writes; KEY and GATE vectors the columns of W_in and W_gate, what
each neuron reads. Without torch: comparisons and figures need these as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ProbeError
from itlens.selection import whole_number

Vectors: TypeAlias = Literal["value", "key", "gate"]
VECTORS: tuple[Vectors, ...] = ("value", "key", "gate")
HEADINGS = {
    "value": "Value vectors: what neurons write",
    "key": "Key vectors: what neurons look for",
    "gate": "Gate vectors: what opens neurons",
}
USUAL_COMPONENTS = 300  # as many as the paper keeps


def checked_vectors(vectors: str, side: str | None = None) -> Vectors:
    """Return the kind of vectors; side: its name in version 0.1.0, which wins. Raises ProbeError for any other."""
    kind = vectors if side is None else side
    if kind not in VECTORS:
        raise ProbeError(f"vectors={kind!r}; expected one of {', '.join(VECTORS)}.")
    return kind


def word_side(vectors: Vectors) -> Literal["input", "output"]:
    """Return the word vectors to compare with: for values what the model writes, for the others what it reads."""
    return "output" if vectors == "value" else "input"


def component_count(components: int | None, neurons: int | None, width: int | None) -> int:
    """Return the number of components of a layer of that shape; components=None: 300, or all there are.

    neurons, width: None where they are not known; nothing limits the number then. Raises ProbeError for anything but a
    whole number of at least 1, and for more components than there are.
    """
    count = None if components is None else whole_number("components", components, 1)
    if neurons is None or width is None:
        return USUAL_COMPONENTS if count is None else count
    rank = min(neurons - 1, width)  # one less than the vectors, since they are centred
    if count is not None and count > rank:
        raise ProbeError(
            f"components={count}; the {neurons} centred vectors of width {width} have a rank of at most {rank}: ask "
            "for no more."
        )
    return min(USUAL_COMPONENTS, rank) if count is None else count


def join_mlp_layers(layers: list[xr.Dataset]) -> xr.Dataset:
    """Return the Datasets of several layers as one, in the order of the layers. Raises ProbeError for none."""
    if not layers:
        raise ProbeError("join_mlp_layers got no layers; expected what mlp_layers gives.")
    ordered = sorted(layers, key=lambda layer: int(layer["layer"][0]))
    joined = xr.concat(ordered, dim="layer", data_vars="all", coords="minimal", join="exact", combine_attrs="override")
    numbers = [int(number) for layer in ordered for number in layer["layer"].values]
    return joined.assign_attrs({**ordered[0].attrs, "layers": numbers})


# ---- both models, compared

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
