"""The kinds of neuron vectors of a feed-forward layer, and several layers' results as one.

VALUE vectors are the rows of W_out, what each neuron writes; KEY and GATE vectors the columns of W_in and W_gate, what
each neuron reads. Without torch: comparisons and figures need these as well.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

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
    attributed: xr.Dataset = joined.assign_attrs({**ordered[0].attrs, "layers": numbers})
    return attributed
