"""The feed-forward part of a study: the concepts of every layer of one model and their labels, two files per layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import xarray as xr

from itlens.annotate import Labeller, annotate_concepts
from itlens.annotate.concept_labels import labeller_identity, labeller_of
from itlens.errors import AnnotateError
from itlens.models.compatibility import Side
from itlens.probes.mlp import mlp_layers
from itlens.study.asked_concepts import READ, AskedConcepts, first_words, refuse_experts
from itlens.study.asked_words import described
from itlens.study.concept_layers import ConceptLayer, labeller_text, read_layer, save_layer
from itlens.study.folder import RunFolder
from itlens.study.parts import WHICH


class MlpRuns:
    """What `compare` does for each layer, kind of neuron vectors and model. No prompts: weights alone are read.

    One layer's weights are worked on at a time. Units are numbered by side, then by layer.
    """

    def __init__(
        self, asked: AskedConcepts, layers: int, resamples: int, seed: int, labeller: Any, labelled: int
    ) -> None:
        name = labeller_text(labeller_identity(labeller), tuple(getattr(labeller, "seeds", ())))
        own = {"sides": ", ".join(asked.sides), "components": asked.components, "concept_words": asked.top_k}
        own |= {"resamples": resamples, "labeller": name, "labelled": labelled}
        self.identity = {"concept_vocabulary": asked.vocabulary.fingerprint, **own, "resample_seed": seed}
        self.settings = {"concept_vocabulary": described(asked.vocabulary), **own}
        self._asked, self._layers, self._labeller, self._labelled = asked, layers, labeller, labelled
        self._resamples, self._seed = resamples, seed

    @classmethod
    def of(
        cls, asked: AskedConcepts, model: Side, resamples: int, seed: int, labeller: str | Labeller, labelled: int
    ) -> MlpRuns:
        """Hold the rest against one model of the pair, which have one shape. Raises a subclass of ItlensError."""
        found = labeller_of(labeller)
        if labeller_identity(found) == "<lambda>":
            raise AnnotateError(
                "The labeller is a lambda, whose labels a resumed study could not tell from another's; define it by a "
                "name (def)."
            )
        refuse_experts(model)
        return cls(asked, int(model.facts["layers"]), resamples, seed, found, min(labelled, asked.components))

    def units(self, which: str) -> int:
        """How many results a finished model has: its layers, once for each side."""
        return self._layers * len(self._asked.sides)

    def cost(self) -> Any:
        """What a chat labeller will take for all concepts of both models, about (a `Cost`); None for the others.

        The words are not known yet: lists of the vocabulary stand for them, of which none has been asked.
        """
        if not hasattr(self._labeller, "estimate"):
            return None
        words, count = self._asked.vocabulary.words, len(WHICH) * self.units("base") * self._labelled
        lists = [[words[(turn + place) % len(words)] for place in range(READ)] for turn in range(count)]
        return self._labeller.estimate(lists)

    def unfinished(self, folder: RunFolder, which: str) -> list[int]:
        """The numbers of the layers without both files."""
        return [
            number
            for number in range(self.units(which))
            if read_layer(folder.path, which, *self._place(number), self.identity) is None
        ]

    def run(self, model: Any, folder: RunFolder, which: str, numbers: list[int]) -> Iterator[int]:
        """Probe and label these layers; each is on disk when its number comes back."""
        asked = self._asked
        for start, side in enumerate(asked.sides):
            layers = [layer for name, layer in map(self._place, numbers) if name == side]
            for concepts in self._concepts(model, side, layers) if layers else ():
                labels = annotate_concepts(concepts, self._labeller, components=self._labelled, progress=False)
                save_layer(folder.path, which, ConceptLayer(first_words(concepts, asked.top_k), labels))
                yield start * self._layers + int(concepts["layer"].values[0])

    def _concepts(self, model: Any, side: str, layers: list[int]) -> Iterator[xr.Dataset]:
        return mlp_layers(
            model,
            self._asked.vocabulary,
            side=side,
            layers=layers,
            components=self._asked.components,
            top_k=max(self._asked.top_k, READ),
            resamples=self._resamples,
            seed=self._seed,
        )

    def _place(self, number: int) -> tuple[str, int]:
        return self._asked.sides[number // self._layers], number % self._layers
