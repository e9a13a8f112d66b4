"""What `itlens selftest` reads of word pairs: how far the pairs of each head differ between two models.

The search is that of the finding with fewer words per dimension: a planted term of rank one changes which words come
first in the dimensions that it writes into, and so the overlap of the pairs of its head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from itlens.findings.attention.diff import compare_word_pairs
from itlens.findings.attention.probe import QKLayer, join_layers, qk_layers
from itlens.findings.detector import Detector, Setup, heads_of, on_all_layers

TOP_K = 30  # words per head dimension and side
DRAWS = 200  # of the nulls of instruction verbs


class WordPairs(Detector):
    """1 - overlap of a head's word pairs."""

    name, kind = "word pairs", "head"
    sees = ("rank_one_qk",)
    about = "1 - overlap (Jaccard) of a head's word pairs"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.units = heads_of(setup.layers, int(setup.model.cfg.n_heads))
        self._base = self._now = self._layers(setup.layers)

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        chosen = self.setup.layers if layers is None else list(layers)
        now = self._layers(chosen)
        if layers is None:
            self._now = now
        ds = self._diff({layer: self._base[layer] for layer in chosen}, now, draws=1)
        return on_all_layers(1 - ds["overlap"].values, chosen, self.setup.layers)

    def copy(self) -> dict[int, QKLayer]:
        """See `Detector.copy`."""
        return self._now

    def p_values(self, one: dict[int, QKLayer], other: dict[int, QKLayer], *, exchanged: bool) -> dict[str, np.ndarray]:
        """Return those of the instruction verbs of each head in which the count of any verb changed."""
        ds = self._diff(one, other, draws=DRAWS)
        changed = (ds["instruction_change"] != 0) | (ds["instruction_expected"] != 0)
        return {"instruction verbs of a head": ds["instruction_p"].values[changed.values]}

    def _diff(self, base: dict[int, QKLayer], tuned: dict[int, QKLayer], *, draws: int) -> xr.Dataset:
        tables = [join_layers(list(layers.values()))[0] for layers in (base, tuned)]
        return compare_word_pairs(*tables, draws=draws, seed=self.setup.seed)

    def _layers(self, layers: Sequence[int]) -> dict[int, QKLayer]:
        setup = self.setup
        results = qk_layers(setup.model, setup.vocabulary, vectors=setup.vectors, layers=list(layers), top_k=TOP_K)
        return {result.layer: result for result in results}
