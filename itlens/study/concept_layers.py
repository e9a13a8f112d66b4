"""The concepts of a run folder on disk: two files per layer, kind of neuron vectors and model.

concepts/base/value-00.nc               the concepts of layer 0's values (`itlens.mlp_concepts`)
concepts/base/labels-value-00.parquet   the labels of its first components (`itlens.annotate_concepts`)

A layer is finished when both are there, can be read, and were made as the study asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import xarray as xr

from itlens.errors import StoreError
from itlens.probes.layer_join import join_mlp_layers
from itlens.store import Result, load, save
from itlens.study.parts import PARTS

# attributes of a layer's concepts, and what they are called in a study's identity
_MADE_WITH = {
    "vocabulary": "concept_vocabulary",
    "components": "components",
    "top_k": "concept_words",
    "resamples": "resamples",
    "seed": "resample_seed",
}


class ConceptLayer(NamedTuple):
    """One layer's concepts of one side, and the labels of the first of them."""

    concepts: xr.Dataset
    labels: pd.DataFrame


def save_layer(folder: Path, which: str, found: ConceptLayer) -> None:
    """Write both files of a layer. The concepts come last: a layer counts once they are there."""
    side, (layer,) = found.concepts.attrs["side"], found.concepts["layer"].values.tolist()
    save(found.labels, _labels_path(folder, which, side, layer))
    save(found.concepts, _concepts_path(folder, which, side, layer))


def read_layer(folder: Path, which: str, side: str, layer: int, identity: Mapping[str, Any]) -> ConceptLayer | None:
    """A finished layer, or None where there is none or another one: that layer is then computed again."""
    concepts = _readable(_concepts_path(folder, which, side, layer))
    if not isinstance(concepts, xr.Dataset) or not _is_asked(concepts, side, layer, identity):
        return None
    labels = _readable(_labels_path(folder, which, side, layer))
    if not isinstance(labels, pd.DataFrame) or not _are_asked(labels, side, layer, identity):
        return None
    return ConceptLayer(concepts, labels)


def joined_layers(found: list[ConceptLayer]) -> ConceptLayer:
    """Several layers as one, as `itlens.mlp_concepts` and `itlens.annotate_concepts` would have returned them."""
    labels = pd.concat([part.labels for part in found], ignore_index=True)
    labels.attrs = {name: value for name, value in found[0].labels.attrs.items() if name != "cost"}  # of one layer
    for name in ("unknown", "unparsed"):
        labels.attrs[name] = sum(part.labels.attrs[name] for part in found)
    return ConceptLayer(join_mlp_layers([part.concepts for part in found]), labels)


def labeller_text(name: str, seeds: list[int] | tuple[int, ...]) -> str:
    """A labeller in a study's identity: labels of other seeds are other labels."""
    return f"{name}, seeds {', '.join(map(str, seeds))}" if seeds else name


def _is_asked(concepts: xr.Dataset, side: str, layer: int, identity: Mapping[str, Any]) -> bool:
    wanted = {name: identity[asked] for name, asked in _MADE_WITH.items()} | {"side": side, "layers": [layer]}
    return all(concepts.attrs.get(name) == value for name, value in wanted.items())


def _are_asked(labels: pd.DataFrame, side: str, layer: int, identity: Mapping[str, Any]) -> bool:
    said = labels.attrs
    return (
        said.get("side") == side
        and said.get("components") == identity["labelled"]
        and said.get("vocabulary") == identity["concept_vocabulary"]
        and labeller_text(str(said.get("labeller_identity")), said.get("seeds", [])) == identity["labeller"]
        and set(labels["layer"]) == {layer}
    )


def _readable(path: Path) -> Result | None:
    if not path.exists():
        return None
    try:
        return load(path)
    except StoreError:
        return None


def _concepts_path(folder: Path, which: str, side: str, layer: int) -> Path:
    return folder / PARTS["mlp"].folder / which / f"{side}-{layer:02d}.nc"


def _labels_path(folder: Path, which: str, side: str, layer: int) -> Path:
    return folder / PARTS["mlp"].folder / which / f"labels-{side}-{layer:02d}.parquet"
