"""The attention part of a study: the word pairs of every head of one model, two files per layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from itlens.models.compatibility import Side
from itlens.probes.attention import qk_layers
from itlens.study.asked_words import AskedWords
from itlens.study.folder import RunFolder
from itlens.study.word_layers import finished_layers, save_layer
from itlens.vocabulary import Vocabulary, WordVectors


class AttentionRuns:
    """What `compare` does for each layer and model. No prompts: the heads' weights alone are read."""

    def __init__(self, words: AskedWords, sides: Mapping[str, Side]) -> None:
        self.identity, self.settings = words.identity, words.settings
        self._words = words
        self._layers = {which: int(side.facts["layers"]) for which, side in sides.items()}

    @classmethod
    def of(
        cls,
        vocabulary: str | Path | Vocabulary,
        vectors: str | Path | WordVectors,
        top_k: int,
        sides: Mapping[str, Side],
    ) -> AttentionRuns:
        """Load the words and check them against the pair's tokenizer. Raises a subclass of ItlensError."""
        words = AskedWords.of(vocabulary, vectors, top_k)
        words.refuse_unknown(sides["base"])  # the pair's tokenizers read ordinary text alike
        return cls(words, sides)

    def units(self, which: str) -> int:
        """How many layers a finished model has."""
        return self._layers[which]

    def unfinished(self, folder: RunFolder, which: str) -> list[int]:
        """The layers without both files."""
        done = finished_layers(folder.path, which, self._layers[which], self.identity)
        return [layer for layer in range(self._layers[which]) if layer not in done]

    def run(self, model: Any, folder: RunFolder, which: str, layers: list[int]) -> Iterator[int]:
        """Probe these layers; each is on disk when its number comes back."""
        vocabulary, vectors, top_k = self._words
        for found in qk_layers(model, vocabulary, vectors=vectors, layers=layers, top_k=top_k):
            save_layer(folder.path, which, found.layer, found.pairs, found.energy)
            yield found.layer
