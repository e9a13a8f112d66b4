"""The concepts that a study or a command asks for, checked by a model's config and tokenizer before weights load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from itlens.annotate import TASKS, annotate_concepts
from itlens.annotate.labels import TOP
from itlens.errors import ProbeError
from itlens.models.architectures import PLAIN_MLP
from itlens.models.compatibility import Side
from itlens.probes.concepts.mlp_rows import SIDES, component_count, refuse_side
from itlens.study.asked_words import asked_vocabulary, known_to_tokenizer
from itlens.study.ranges import refuse_numbers
from itlens.vocabulary import Vocabulary

READ = TOP  # words that a label is made of


class AskedConcepts(NamedTuple):
    """A vocabulary, whose vectors (SIDES), how many components of a layer, and how many words of each."""

    vocabulary: Vocabulary
    sides: tuple[str, ...]
    components: int
    top_k: int

    @classmethod
    def of(
        cls,
        vocabulary: str | Path | Vocabulary,
        sides: str | Sequence[str],
        components: int | None,
        top_k: int,
        model: Side,
    ) -> AskedConcepts:
        """Load the vocabulary and hold everything against the model; components=None: 300, or all there are.

        Raises a subclass of ItlensError for what cannot be read, sides that the model does not have, more components
        than there are, and words that the tokenizer does not know.
        """
        refuse_numbers(components=components, top_k=top_k)
        named = _asked_sides(sides)
        if "gate" in named and model.facts["architecture"] in PLAIN_MLP:
            raise ProbeError(
                f'side="gate": the feed-forward layers of {model.name} have no W_gate; expected "value" or "key".'
            )
        words = asked_vocabulary(vocabulary)
        if not known_to_tokenizer(words, model).any():
            raise ProbeError(
                f"The tokenizer knows none of the {len(words)} words of the vocabulary; give a vocabulary in the "
                "language and script that the model reads."
            )
        neurons, width = model.facts["d_mlp"], model.facts["d_model"]
        return cls(words, named, component_count(components, neurons, width), top_k)


def refuse_experts(model: Side) -> None:
    """Raise ProbeError for a model whose layers are mixtures of experts, as far as its config says so."""
    if count := model.facts.get("experts"):
        raise ProbeError(
            f"{model.name} has feed-forward layers that are mixtures of {count} experts; expected one network in each "
            "layer: keys and values of experts cannot be read yet."
        )


def _asked_sides(sides: Any) -> tuple[str, ...]:
    """The sides asked for, each once, in the order in which they are probed. Raises ProbeError."""
    named = [sides] if isinstance(sides, str) else list(sides or ()) if isinstance(sides, Sequence | set) else [sides]
    for side in named:
        refuse_side(side)
    if not named:
        raise ProbeError(f"sides is empty; expected some of {', '.join(SIDES)}.")
    return tuple(side for side in SIDES if side in named)


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
    return first_words(concepts.assign(added), words).assign_attrs(labeller=labels.attrs["labeller"])


def first_words(concepts: xr.Dataset, words: int) -> xr.Dataset:
    """Only the first `words` words of each concept: labels may need more than are kept."""
    return concepts.isel(rank=slice(words)).assign_attrs(top_k=words)
