"""The first directions of a layer's change, in words.

1. WRITTEN: D = W_tuned - W_base of W_O and of W_out writes along its left singular vectors u_i (outputs x inputs, so
   that outputs are the residual stream). The words of u_i are those of the largest |u_i . w|, w the unit word vectors
   of W_U of the tuned model. Null: unit vectors drawn at random in the span of the leading left singular vectors of
   W_base, a tenth of the width of them; p is the share of draws whose first word scores at least as high.
2. MATCHED: the change of a head's W_QK is first of all one term  s (x . a)(b . y)  of its scores. The words of a are
   what it changed as a query, the words of b as a key, by the unit word vectors of W_E.

A singular vector has no sign: scores of one end and of the other are next to each other, a and b share their sign.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from itlens.findings.weight_delta.probe import DIRECTIONS, WRITTEN, Writes, changed_product, head_factors
from itlens.vocabulary import Vocabulary
from itlens.weights import Weights
from itlens.weights.unit_words import UnitWords

TOP = 8  # words of each direction
DRAWS = 100  # random directions of the null
ENDS = ("query", "key")


class ChangeInWords:
    """The words of both models' change, looked up once for all layers."""

    def __init__(self, base: Weights, tuned: Weights, vocab: Vocabulary, *, seed: int) -> None:
        self._base, self._tuned, self._seed = base, tuned, seed
        self._output = UnitWords(tuned, vocab, "output", directions=DIRECTIONS + DRAWS)
        self._input = UnitWords(tuned, vocab, "input", directions=2 * int(tuned.facts["heads"]))

    @torch.no_grad()
    def read(self, layer: int, writes: Mapping[str, Writes | None]) -> xr.Dataset:
        """Return word, score (layer, matrix, direction, rank), p (layer, matrix, direction) of what is written; match,
        match_score (layer, head, end, rank) of what is matched. Words of no change are empty, their scores NaN.

        writes: of `layer_changes` of this layer.
        """
        written = [self._written(writes[name]) for name in WRITTEN]
        words, scores, p = (np.stack(values)[None] for values in zip(*written, strict=True))
        matched = self._matched(layer)
        axes, ends = ("layer", "matrix", "direction", "rank"), ("layer", "head", "end", "rank")
        return xr.Dataset(
            {
                "word": (axes, words),
                "score": (axes, scores),
                "p": (axes[:3], p),
                "match": (ends, matched[0][None]),
                "match_score": (ends, matched[1][None]),
            },
            coords={"layer": [layer], "matrix": list(WRITTEN), "direction": np.arange(1, DIRECTIONS + 1)}
            | {"head": np.arange(self._base.facts["heads"]), "end": list(ENDS), "rank": np.arange(1, TOP + 1)},
        )

    def _written(self, writes: Writes | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        words, scores, p = _nothing(DIRECTIONS), np.full((DIRECTIONS, TOP), np.nan), np.full(DIRECTIONS, np.nan)
        if writes is None:
            return words, scores, p
        found = self._output.signed(writes.change.T, TOP)
        null = self._output.absolute(self._random(writes.base), 1).scores[:, 0]
        count, width = found.words.shape
        words[:count, :width], scores[:count, :width] = found.words, found.scores
        p[:count] = (1 + (null[None, :] >= np.abs(found.scores[:, :1])).sum(1)) / (1 + len(null))
        return words, scores, p

    def _random(self, span: Float[Tensor, "d_model span"]) -> Float[Tensor, "draws d_model"]:
        generator = torch.Generator().manual_seed(self._seed)
        drawn = torch.randn(DRAWS, span.shape[1], generator=generator, dtype=torch.float64).to(span.device) @ span.T
        return drawn / torch.linalg.vector_norm(drawn, dim=1, keepdim=True)

    def _matched(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        base, tuned = (head_factors(weights.attention(layer))[0] for weights in (self._base, self._tuned))
        left, right = changed_product(base, tuned)
        moved = ((tuned.left != base.left).flatten(1).any(1) | (tuned.right != base.right).flatten(1).any(1)).cpu()
        (q_left, r_left), (q_right, r_right) = torch.linalg.qr(left), torch.linalg.qr(right)
        u, _, v = torch.linalg.svd(r_left @ r_right.transpose(1, 2))
        first = torch.stack([(q_left @ u[:, :, :1])[..., 0], (q_right @ v.transpose(1, 2)[:, :, :1])[..., 0]], dim=1)
        found = self._input.signed(first.flatten(0, 1), TOP)
        shape = (len(moved), len(ENDS), found.words.shape[1])
        words, scores = _nothing(len(moved), len(ENDS)), np.full((len(moved), len(ENDS), TOP), np.nan)
        words[..., : shape[2]], scores[..., : shape[2]] = found.words.reshape(shape), found.scores.reshape(shape)
        words[~moved.numpy()], scores[~moved.numpy()] = "", np.nan
        return words, scores


def _nothing(*shape: int) -> np.ndarray:
    return np.full((*shape, TOP), "", dtype=object)
