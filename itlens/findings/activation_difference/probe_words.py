"""What directions of the residual stream say: the logit lens of both models, and a patchscope.

1. LOGIT LENS of a vector x: norm(x) * gain W_U, by a model's final norm without its bias, its unembedding without
   bias or soft cap: x is a difference of streams, to which no constant was added.
2. PATCHSCOPE (Ghandeharioun et al. 2024): the tuned model reads "a -> a", "b -> b", "c -> c", "x ->"; before block l
   the stream at the last token is replaced by x, scaled to that stream's length. What comes next is what x stands for.
3. INSTRUCTION WORDS among the first `top` tokens: those that are one of the paper's 38 instruction verbs, whole, in any
   case. Their mean percentile among all tokens says more where none is in the first ones.
4. NULLS: random directions of the same length, and differences between halves of the texts within the base, each with
   both signs: which half comes first is by chance, and streams are long along a few axes, where random directions
   seldom are.

Variables, on (lens, direction), lens "base", "tuned", "patchscope": word, score (also on rank: logits, probabilities),
instruction_share, instruction_percentile; of the nulls random_share, random_percentile (lens, draw), half_share,
half_percentile (lens, signed_half). "" and NaN where a direction is zero, and where the patchscope reads no more of a
null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from itlens.hooked.hooks import run_hooked, wide
from itlens.hooked.readout import Readout
from itlens.models import HookedModel
from itlens.models.memory import room_for
from itlens.models.running import undisturbed
from itlens.tokenization import Tokenizer, encode, token_text
from itlens.vocabulary import instruction_verbs

LENSES = ("base", "tuned", "patchscope")
IDENTITY = "a -> a\nb -> b\nc -> c\nx ->"
_PATCHED = 40  # of each null, that the patchscope reads
_ROWS = 32  # directions whose logits are held at a time
_MEASURES = ("instruction_share", "instruction_percentile")


@dataclass(frozen=True)
class DirectionWords:
    """Vectors that are read, rows of `vectors`: those with names, then random ones, then differences of halves, each
    followed by its opposite."""

    names: tuple[str, ...]
    vectors: np.ndarray
    draws: int
    halves: int
    top: int

    @classmethod
    def of(
        cls, directions: Mapping[str, np.ndarray], halves: np.ndarray, *, draws: int, top: int, seed: int
    ) -> DirectionWords:
        """Return them with `draws` random directions of the length of the first."""
        first = next(iter(directions.values()))
        drawn = np.random.default_rng([seed, 1]).standard_normal((draws, first.size))
        drawn *= np.linalg.norm(first) / np.linalg.norm(drawn, axis=1, keepdims=True)
        both_signs = np.stack([halves, -halves], axis=1).reshape(-1, first.size)
        vectors = np.concatenate([np.stack(list(directions.values())), drawn, both_signs])
        return cls(tuple(directions), vectors, draws, len(both_signs), top)

    def patched(self) -> np.ndarray:
        """Return which rows the patchscope reads: all with names, and the first of each null."""
        random = len(self.names) + np.arange(min(self.draws, _PATCHED))
        halves = len(self.names) + self.draws + np.arange(min(self.halves, _PATCHED))
        return np.concatenate([np.arange(len(self.names)), random, halves])


def instruction_ids(tokenizer: Tokenizer, size: int) -> list[int]:
    """Return the tokens below `size` that are an instruction verb by themselves, with or without a space in front."""
    found = set()
    for verb in instruction_verbs():
        for written in (f" {verb}", verb, f" {verb.capitalize()}", verb.capitalize()):
            ids = tokenizer(written, add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] < size and token_text(tokenizer, ids[0]).strip().lower() == verb:
                found.add(int(ids[0]))
    return sorted(found)


def word_tables(words: DirectionWords, readouts: Mapping[str, Readout], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the variables of both logit lenses, with room for the patchscope; see the module."""
    size = next(iter(readouts.values())).size
    top, shape = min(words.top, size), (len(LENSES), len(words.names))
    tables: dict[str, Any] = {
        "word": (("lens", "direction", "rank"), np.full((*shape, top), "", dtype=object)),
        "score": (("lens", "direction", "rank"), np.full((*shape, top), np.nan)),
        **{measure: (("lens", "direction"), np.full(shape, np.nan)) for measure in _MEASURES},
    }
    for null, count, axis in (("random", words.draws, "draw"), ("half", words.halves, "signed_half")):
        for measure in ("share", "percentile"):
            tables[f"{null}_{measure}"] = (("lens", axis), np.full((len(LENSES), count), np.nan))
    known = instruction_ids(tokenizer, size)
    for side, readout in readouts.items():
        plain = replace(readout, bias=None, cap=0.0)
        normed = plain.normalised(torch.from_numpy(words.vectors).float())
        for start in range(0, len(normed), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(normed)))
            parts = [plain.logits(normed[rows], unembed, torch.zeros_like(bias)) for _, unembed, bias in plain.pieces()]
            _fill(tables, words, LENSES.index(side), rows, torch.cat(parts, dim=1), known, tokenizer)
    tables["direction"] = ("direction", np.array(words.names, dtype=object))
    tables["lens"] = ("lens", np.array(LENSES, dtype=object))
    tables["instruction_tokens"] = ((), len(known))
    return tables


def patched_words(
    model: HookedModel, words: DirectionWords, layer: int, tokenizer: Tokenizer, size: int, tables: dict[str, Any]
) -> None:
    """Fill in what the patchscope of a model says."""
    rows = words.patched()
    ids = encode(tokenizer, IDENTITY).ids
    device = next(model.parameters()).device
    vectors = torch.from_numpy(words.vectors[rows]).to(torch.float32).to(device)

    def enter(value: torch.Tensor, hook: object) -> torch.Tensor:
        """From this block on there is a row for every direction."""
        last = wide(value[:, -1])
        length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min(1e-30)
        scaled = vectors.to(last) / length.to(last) * torch.linalg.vector_norm(last, dim=1, keepdim=True)
        grown = value.repeat(len(vectors), 1, 1)
        grown[:, -1] = scaled.to(value)
        return grown

    hooks = [(f"blocks.{layer}.hook_resid_pre", enter)]
    with undisturbed(model), torch.no_grad(), room_for(model, "the identity prompt", len(ids), rows=len(rows)):
        logits = run_hooked(model, torch.tensor([ids], device=device), hooks, positions=slice(-1, None))[:, 0]
    p = wide(logits).softmax(dim=-1)[:, :size].cpu()
    known = instruction_ids(tokenizer, size)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        _fill(tables, words, LENSES.index("patchscope"), rows[part], p[part], known, tokenizer)


def _fill(
    tables: dict[str, Any],
    words: DirectionWords,
    lens: int,
    rows: np.ndarray,
    scores: torch.Tensor,
    known: Sequence[int],
    tokenizer: Tokenizer,
) -> None:
    """Put scores (row, token) of some directions into the tables."""
    top = tables["word"][1].shape[2]
    highest = scores.topk(top, dim=1)
    ids = np.asarray(known, dtype=np.int64)
    ordered = scores.sort(dim=1).values
    below = torch.searchsorted(ordered, scores[:, known].contiguous()) if known else torch.zeros(len(rows), 0)
    share = np.isin(highest.indices.numpy(), ids).mean(axis=1) if known else np.full(len(rows), np.nan)
    percentile = (below.numpy() / max(1, scores.shape[1] - 1)).mean(axis=1) if known else share
    for place, row in enumerate(rows.tolist()):
        if not words.vectors[row].any():
            continue
        values = {"share": share[place], "percentile": percentile[place]}
        if row < len(words.names):
            tables["word"][1][lens, row] = [token_text(tokenizer, id) for id in highest.indices[place].tolist()]
            tables["score"][1][lens, row] = highest.values[place].numpy()
            names, at = {f"instruction_{name}": value for name, value in values.items()}, row
        elif row < len(words.names) + words.draws:
            names, at = {f"random_{name}": value for name, value in values.items()}, row - len(words.names)
        else:
            at = row - len(words.names) - words.draws
            names = {f"half_{name}": value for name, value in values.items()}
        for name, value in names.items():
            tables[name][1][lens, at] = value
