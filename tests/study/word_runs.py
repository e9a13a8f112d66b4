"""What the tests of the attention part share: a small vocabulary with odd words, its vectors, and counting layers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from itlens import Vocabulary, WordVectors
from itlens.models import pair as pair_module
from itlens.probes.attention import QKLayer
from itlens.study import Comparison, attention_runs

TOP_K = 30
ODD_WORDS = ("a=b", "c|||d", "tab\there", 'quo"te', "comma,", "\N{PARTY POPPER}", "café", "NA", "new\nline", "-")
_PLAIN = (
    "write explain describe translate list answer give find make tell run eat walk sing cook play jump sleep read draw "
    "the and house river letter letters story poem word text line name cat dog horse mouse apple pear plum bread"
)
WORDS = (*_PLAIN.split(), *ODD_WORDS)


def vocabulary() -> Vocabulary:
    """Fifty words, ten of which hold what separates words in other people's files."""
    return Vocabulary(WORDS, name="fifty")


def vectors(seed: int = 0) -> WordVectors:
    """Vectors in ten heaps of five words each, so that a word is related to most of its heap and to few others."""
    rng = np.random.default_rng(seed)
    heaps, noise = rng.normal(size=(10, 16)), 0.1 * rng.normal(size=(len(WORDS), 16))
    return WordVectors(WORDS, heaps[np.arange(len(WORDS)) % 10] + noise, name="heaps")


def asked(**changes: Any) -> dict[str, Any]:
    """The arguments of `compare` for the attention part alone."""
    options: dict[str, Any] = {"probes": "attention", "vocabulary": vocabulary(), "vectors": vectors(), "top_k": TOP_K}
    return options | {"seed": 3, "progress": False} | changes


def layer_files(folder: Path) -> list[str]:
    """The finished layers of a run folder, relative to its `words`."""
    return sorted(str(path.relative_to(folder / "words")) for path in folder.glob("words/*/*.parquet"))


def same_words(found: Comparison, expected: Comparison) -> None:
    """The same pairs on both sides, bit by bit, and the same figures made of them."""
    assert found.pairs is not None and expected.pairs is not None
    for which in ("base", "tuned"):
        pd.testing.assert_frame_equal(found.pairs[which], expected.pairs[which])
        assert found.pairs[which].attrs == expected.pairs[which].attrs
    assert found.words is not None and found.words.identical(expected.words)
    assert found.verdict == expected.verdict


class CountedLayers:
    """What a study did: `probed` as (model, layer), and the models it `loaded`, by the folder's name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None, error: Any = None) -> None:
        self.probed: list[tuple[str, int]] = []
        self.loaded: list[str] = []
        qk_layers, load_model = attention_runs.qk_layers, pair_module.load_model

        def counted_layers(model: Any, *args: Any, **options: Any) -> Iterator[QKLayer]:
            for found in qk_layers(model, *args, **options):
                if stop_at is not None and len(self.probed) == stop_at:
                    raise error
                self.probed.append((Path(model.itlens_source.name).name, found.layer))
                yield found

        @wraps(load_model)
        def counted_load(name: Any, **options: Any) -> Any:
            self.loaded.append(Path(name).name)
            return load_model(name, **options)

        monkeypatch.setattr(attention_runs, "qk_layers", counted_layers)
        monkeypatch.setattr(pair_module, "load_model", counted_load)
