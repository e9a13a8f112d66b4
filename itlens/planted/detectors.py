"""What every detector of a selftest has: a value per unit (head, layer or token) of how far a pair differs there.

A detector is a probe with its diff, as a user would run them, brought to one number per unit. LOCAL detectors read the
weights of one layer at a time: where only one layer was planted into, only that layer is read again, and the others
keep the values of the same noise without the plant. That is exact, not an approximation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from itlens.planted.altering import Altered
from itlens.planted.plants import Ground, Place
from itlens.prompts import Prompt
from itlens.vocabulary import Vocabulary, WordVectors


class Setup(NamedTuple):
    """What all detectors of one selftest share. prompts have their responses; tokens: ids that are planted into."""

    altered: Altered
    ground: Ground
    prompts: list[Prompt]
    layers: list[int]
    tokens: list[int]
    vocabulary: Vocabulary
    vectors: WordVectors
    seed: int

    @property
    def model(self) -> Any:
        """The model as it is now."""
        return self.altered.model


class Detector(ABC):
    """A probe with its diff. kind: of its units; sees: the plants that it is meant to find; about: what a value is.

    local: see the module. slow: runs the model, so that it reads half of the repeats.
    """

    name: str
    kind: str
    sees: tuple[str, ...]
    about: str
    local = True
    slow = False
    units: list[Place]

    def __init__(self, setup: Setup) -> None:
        """Read the unchanged model."""
        self.setup = setup

    @abstractmethod
    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """Compare the model as it was with the model as it is now: a value per unit, larger = changed more.

        layers: those that are read, NaN for the units of the others; None: all.
        """

    def copy(self) -> Any:
        """What `p_values` compares, of the model as it is now and as it was last read whole; None: there are none."""
        return None

    def p_values(self, one: Any, other: Any, *, exchanged: bool) -> dict[str, np.ndarray]:
        """p-values of the diff between two copies, by name. exchanged: prompt by prompt at random (`nulls`)."""
        return {}

    def judged(self, place: Place) -> np.ndarray:
        """Which units a plant at this place leaves as they were, for false discoveries (bool per unit)."""
        return np.array([unit != place for unit in self.units])


def heads_of(layers: Sequence[int], heads: int) -> list[Place]:
    """All heads of these layers."""
    return [Place(layer, head) for layer in layers for head in range(heads)]


def spread(values: Any, layers: Sequence[int], everything: Sequence[int]) -> np.ndarray:
    """Values on (layer, ...) of some layers as values of all layers, flat; NaN for the others."""
    found = np.asarray(values, dtype=float)
    out = np.full((len(everything), *found.shape[1:]), np.nan)
    out[[everything.index(layer) for layer in layers]] = found
    return out.ravel()
