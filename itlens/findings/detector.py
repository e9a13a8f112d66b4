"""What every detector of `itlens selftest` has: for each unit (head, layer, token), how far two models differ there.

A detector is a probe with its diff, as a user would run them, reduced to one number per unit. The two models are the
unchanged model and the same model after known changes. LOCAL detectors read the weights of one layer at a time: where
only one layer has a planted change, only that layer is read again, and the others keep the values of the same noise
without the plant. That is exact, not an approximation.

A finding returns its detectors from `detectors()`; `itlens.planted` runs them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from itlens.models import HookedModel, ModelPair
from itlens.prompts import Prompt
from itlens.vocabulary import Vocabulary, WordVectors

UnitKind: TypeAlias = Literal["head", "layer", "token"]


class Unit(NamedTuple):
    """A head (layer, head), a layer (layer, -1) or a token (-1, token id)."""

    layer: int
    number: int


class AlteredModel(Protocol):
    """One model whose weights are changed in place, and which can be read as it was and as it is."""

    model: HookedModel

    def pair(self) -> AbstractContextManager[ModelPair]:
        """Return the unchanged model (base) and the model as it is now (tuned)."""


@dataclass(frozen=True)
class Setup:
    """What all detectors of one selftest share.

    altered: the model; prompts: with their responses; layers: those that are read; vocabulary, vectors: the words.
    tokens: ids of the prompts that are planted into.
    """

    altered: AlteredModel
    prompts: list[Prompt]
    layers: list[int]
    vocabulary: Vocabulary
    vectors: WordVectors
    seed: int
    tokens: list[int]

    def other_tokens(self, units: Sequence[Unit], planted: Unit) -> np.ndarray:
        """Return which tokens a plant in one token's output leaves unchanged (bool per unit).

        None where the plant is no token, or where the model reads tokens by the same numbers (tied embeddings).
        """
        tied = self.model.W_E.untyped_storage().data_ptr() == self.model.W_U.untyped_storage().data_ptr()
        if tied or planted.layer >= 0:
            return np.zeros(len(units), dtype=bool)
        return np.array([unit.number != planted.number for unit in units])

    @property
    def model(self) -> HookedModel:
        """The model as it is now."""
        return self.altered.model


class Detector(ABC):
    """A probe with its diff. kind: of its units; sees: the plants that it is meant to find; about: what a value is.

    local: see the module. slow: it runs the model, so that it reads half of the repeats.
    """

    name: ClassVar[str]
    kind: ClassVar[UnitKind]
    sees: ClassVar[tuple[str, ...]]
    about: ClassVar[str]
    local: ClassVar[bool] = True
    slow: ClassVar[bool] = False
    units: list[Unit]

    def __init__(self, setup: Setup) -> None:
        """Read the unchanged model."""
        self.setup = setup

    @abstractmethod
    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """Compare the unchanged model with the model as it is now; return a value per unit, larger = changed more.

        layers: those that are read, NaN for the units of the others; None: all.
        """

    def copy(self) -> Any:
        """Return what `p_values` compares: the model as it was last read whole. None: there is nothing to test."""
        return None

    def p_values(self, one: Any, other: Any, *, exchanged: bool) -> dict[str, np.ndarray]:
        """Return the p-values of the diff between two copies, by test.

        one, other: what `copy` returned. exchanged: prompt by prompt, at random (`itlens.stats.p_values`).
        """
        return {}

    def judged(self, planted: Unit) -> np.ndarray:
        """Return which units a plant in this unit leaves unchanged, for false discoveries (bool per unit)."""
        return np.array([unit != planted for unit in self.units])


def heads_of(layers: Sequence[int], heads: int) -> list[Unit]:
    """Return all heads of these layers."""
    return [Unit(layer, head) for layer in layers for head in range(heads)]


def on_all_layers(values: ArrayLike, layers: Sequence[int], all_layers: Sequence[int]) -> np.ndarray:
    """Return values on (layer, ...) of some layers as values of all layers, flat; NaN for the others."""
    read = np.asarray(values, dtype=float)
    whole = np.full((len(all_layers), *read.shape[1:]), np.nan)
    whole[[all_layers.index(layer) for layer in layers]] = read
    return whole.ravel()
