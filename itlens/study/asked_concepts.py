"""The concepts that a command is asked for, checked against a model's config and tokenizer before its weights load."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import xarray as xr

from itlens.annotate import TASKS, annotate_concepts
from itlens.annotate.labels import TOP
from itlens.errors import ProbeError
from itlens.models.compatibility import Side
from itlens.study.asked_words import known_to_tokenizer
from itlens.study.ranges import refuse_numbers
from itlens.vocabulary import Vocabulary

READ = TOP  # words that a label is made of


class AskedConcepts(NamedTuple):
    """A vocabulary, how many components of a layer, and how many words of each."""

    vocabulary: Vocabulary
    components: int
    top_k: int

    @classmethod
    def of(cls, vocabulary: str | Path, components: int, top_k: int) -> AskedConcepts:
        """Load the vocabulary. Raises a subclass of ItlensError for what cannot be read, and for numbers below 1."""
        refuse_numbers(components=components, top_k=top_k)
        return cls(Vocabulary.load(vocabulary), components, top_k)

    def refuse_impossible(self, side: Side) -> None:
        """Raise ProbeError when the tokenizer knows no word, or a layer cannot have so many components."""
        if not known_to_tokenizer(self.vocabulary, side).any():
            raise ProbeError(
                f"The tokenizer knows none of the {len(self.vocabulary)} words of the vocabulary; give a vocabulary in "
                "the language and script that the model reads."
            )
        neurons, width = side.facts["d_mlp"], side.facts["d_model"]
        if neurons and width and self.components > min(neurons - 1, width):
            raise ProbeError(
                f"components={self.components}; {neurons} centred vectors of width {width} have at most "
                f"{min(neurons - 1, width)} components: ask for no more."
            )


def with_labels(concepts: xr.Dataset, words: int) -> xr.Dataset:
    """The concepts with the lexicon's labels, and only their first `words` words.

    Adds, on the axes of a list of words, description, tasks (text, joined by commas), level and confidence. Labels are
    read off the words there are, at most 15.
    """
    labels = annotate_concepts(concepts, components=concepts.sizes["component"], progress=False)
    labels["tasks"] = [", ".join(task for task in TASKS if row[f"task_{task}"]) for _, row in labels.iterrows()]
    dims = concepts["word"].dims[:-1]
    shape = tuple(concepts.sizes[dim] for dim in dims)  # labels come in the order of the axes
    added = {
        name: (dims, labels[name].to_numpy(dtype=kind).reshape(shape))
        for name, kind in {"description": object, "tasks": object, "level": object, "confidence": float}.items()
    }
    settings = {"top_k": min(words, concepts.sizes["rank"]), "labeller": labels.attrs["labeller"]}
    return concepts.assign(added).isel(rank=slice(words)).assign_attrs(settings)
