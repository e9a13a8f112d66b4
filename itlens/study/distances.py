"""How far two models of a series are apart, in a row: what each word-pair, concept and activation diff comes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from itlens.diff import concepts, word_pairs
from itlens.diff.concept_conclusion import quoted_size
from itlens.study.comparison import Comparison
from itlens.study.concept_layers import joined_layers
from itlens.study.concept_results import layers_of, sides_of
from itlens.study.folder import RunFolder
from itlens.study.parts import layers_wanted
from itlens.study.word_layers import joined_pairs, pairs_by_layer


def from_first(comparison: Comparison) -> dict[str, float]:
    """Of a model and the first: everything that their comparison has.

    word_pair_overlap: mean over heads. value_overlap, key_overlap ...: mean over layers at the quoted size.
    residual_change: relative change of the residual stream without first tokens, mean over layers and prompts. gap:
    nats by which the model gives its responses more log-probability than the first does; heads_recover: how much of it
    all heads together carry.
    """
    found: dict[str, float] = {} if comparison.words is None else _of_pairs(comparison.words)
    for side, results in (comparison.concepts or {}).items():
        found |= _of_concepts(side, results.turned)
    if comparison.activation is not None:
        change = comparison.activation.shift["resid_relative_change"].sel(token_class="rest")
        found["residual_change"] = float(change.mean())
    if comparison.patching is not None:
        patched = comparison.patching.patched
        found["gap"] = float(patched.attrs["gap"])
        found["heads_recover"] = float(patched["joint"][-1]) if "joint" in patched else float("nan")
    return found


class _Model(NamedTuple):
    """Where a model's results are: a run folder, and as which of its two models."""

    folder: RunFolder
    study: dict[str, Any]
    which: str


def of_neighbours(folders: Sequence[Path]) -> Iterator[dict[str, float]]:
    """Of each model after the second and the one before it, what is read off the weights. In the folders' order."""
    models = [_Model(RunFolder(path), RunFolder(path).read_study(), "tuned") for path in folders]
    for one, other in pairwise(models):
        found: dict[str, float] = {}
        pairs = _pairs(one, other)
        found |= {} if pairs is None else _of_pairs(pairs)
        for side in sides_of(one.study):
            turned = _turned(one, other, side)
            found |= {} if turned is None else _of_concepts(side, turned)
        yield found


def _of_pairs(words: xr.Dataset) -> dict[str, float]:
    return {"word_pair_overlap": float(words["overlap"].mean())}


def _of_concepts(side: str, turned: xr.Dataset) -> dict[str, float]:
    return {f"{side}_overlap": float(np.nanmean(turned["overlap"].sel(k=quoted_size(turned))))}


def _pairs(*models: _Model) -> xr.Dataset | None:
    layers = [
        pairs_by_layer(one.folder.path, one.which, layers_wanted(one.study, "attention"), one.study["identity"])
        for one in models
    ]
    both = [layer for layer in layers[0] if layer in layers[1]]
    if not both:
        return None
    seed = models[0].study["settings"]["seed"]
    return word_pairs(*(joined_pairs(found, both) for found in layers), seed=seed)


def _turned(one: _Model, other: _Model, side: str) -> xr.Dataset | None:
    layers = [layers_of(model.folder.path, model.which, side, model.study) for model in (one, other)]
    both = [layer for layer in layers[0] if layer in layers[1]]
    if not both:
        return None
    found = [joined_layers([part[layer] for layer in both]).concepts for part in layers]
    return concepts(*found, seed=one.study["settings"]["seed"])
