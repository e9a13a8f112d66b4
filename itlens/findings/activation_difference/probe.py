"""Activation difference: what tuning adds to the residual stream at the first positions of texts that ask nothing.

With h_B, h_T the streams of base and tuned before block l at position j of a text (special tokens in front are read and
are no position):
1. d_ij = h_T - h_B of text i;  delta_j = mean over texts of d_ij. Means are additive: one model in memory at a time.
2. Is it one direction? Singular values of the matrix of all d_ij, next to those of differences between random pairs of
   texts within the base; the cosine of delta between two random halves of the texts. The length of the constant part:
   sqrt(max(0, delta of one half . delta of the other half)), in which what is drawn for each text cancels on average
   (the length of delta itself grows with it).
3. Projections of both models' streams on the unit direction of delta_j that ONE half of the texts gives, for the texts
   of the OTHER half: a paired sample of base and tuned that the direction was not chosen on.
4. How large would it be by chance? Differences between the means of random halves of the texts within the base.
5. In words (`probe_words`): the logit lens of delta by both models' final norm and unembedding, and a patchscope of the
   tuned model, raw and demeaned over positions, next to random directions.
The very first token that a model reads has a stream of another size: where no special token is in front, position 0 is
left out of the mean direction, of the spectrum and of the demeaned directions, but not of `difference`.

J. Minder et al., Narrow Finetuning Leaves Clearly Readable Traces in Activation Differences, arXiv 2510.13900.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.activation_difference.probe_words import DirectionWords, patched_words, word_tables
from itlens.hooked.cache import activation_cache
from itlens.hooked.corpus import Corpus, batches_of, corpus_of
from itlens.hooked.hooks import run_hooked
from itlens.hooked.pair_inputs import as_pair, comparable
from itlens.hooked.readout import save_readout
from itlens.models import HookedModel, ModelPair, source_attrs, source_of
from itlens.models.memory import room_for, rows_at_a_time
from itlens.models.precision import as_numbers
from itlens.models.running import undisturbed
from itlens.progress import Counted, late_bar
from itlens.prompts.texts import TextsLike
from itlens.results.provenance import provenance
from itlens.selection import chosen, whole_number

MEAN = "mean"
HALVES = 100  # random halves of the texts
_ROWS = 64  # texts at a time, where the memory allows


def activation_difference(
    pair: ModelPair | tuple[HookedModel, HookedModel],
    texts: TextsLike = "builtin",
    layer: int | None = None,
    positions: int = 5,
    *,
    top: int = 20,
    draws: int = 200,
    seed: int = 0,
    prepend_bos: bool | None = None,
    cache: str | Path | None = None,
    progress: bool | Callable[[int, int], None] = True,
) -> xr.Dataset:
    """Average the difference of both models' residual streams over texts, at their first positions, and read it.

    pair: a `ModelPair` or (base, tuned). texts: "builtin", a file with a text a line, or a list; best unrelated to what
    was tuned. layer: the block in front of which streams are taken; None: half of the depth. positions: of a text, from
    its first token; shorter texts are left out. top: words of each direction. draws: random directions. seed: of halves
    and directions. cache: a folder for both unembeddings, removed in the end. progress: a bar, none, or a function of
    (done, all).

    Returns a Dataset, position from 0: difference (position, d_model). On (text, position): text_norm (of d_ij),
    base_norm (of h_B). On (text, place), place "mean" or a position: base_projection, tuned_projection on the unit
    direction that the other half of the texts gives, NaN for the texts that gave it. On (place): norm (of the mean
    difference), half_cosine (of the mean differences of two halves of the texts), constant_norm (length of the constant
    part, the square root of their product, 0 where it is below 0). On (half, place): half_norm, of differences between
    halves of the texts within the base. On (component): spectrum, squared singular values of all d_ij as shares of
    their sum, and spectrum_texts, the same of differences between texts within the base. In words: see
    `itlens.findings.activation_difference.probe_words`. Between identical models all but the controls within the base
    (half_norm, spectrum_texts, words of halves and random directions) is exactly 0, NaN or without words.

    Raises PairError (other tokenizers, other shapes), PromptError (no texts, none of them long enough), ProbeError (a
    layer that is not there, numbers that are not finite).
    """
    count, words = whole_number("positions", positions, 1), whole_number("top", top, 1)
    random = whole_number("draws", draws, 0)
    both = as_pair(pair)
    report = comparable(both)
    layers = int(report.base["layers"])
    (at,) = [layers // 2] if layer is None else chosen("layer", [layer], layers)
    corpus = corpus_of(both, report, texts, least=count, most=count, exact=True, prepend_bos=prepend_bos)
    size = int(min(report.base["vocabulary"], report.tuned["vocabulary"]))
    with activation_cache(cache) as folder, late_bar("activation difference", show=progress is True) as bar:
        tell = Counted(progress if callable(progress) else bar, 2 * len(corpus) + 1)
        base = both.base
        streams, readouts = {"base": streams_before(base, corpus, [at], tell)[at]}, {}
        readouts["base"], attrs = save_readout(base, folder, "base", size), {"base": source_attrs(base)}
        del base  # it would stay in memory while the tuned model runs
        tuned = both.tuned
        streams["tuned"] = streams_before(tuned, corpus, [at], tell)[at]
        readouts["tuned"], attrs["tuned"] = save_readout(tuned, folder, "tuned", size), source_attrs(tuned)
        first = 0 if corpus[0].front or count == 1 else 1
        numbers = difference_numbers(streams["base"], streams["tuned"], first=first, seed=seed)
        directions = DirectionWords.of(numbers.directions, numbers.halves, draws=random, top=words, seed=seed)
        source = source_of(tuned)
        tables = word_tables(directions, readouts, source.tokenizer)
        patched_words(tuned, directions, at, source.tokenizer, size, tables)
        tell()
    said = {f"{side}_{name}": value for side in ("base", "tuned") for name, value in attrs[side].items()}
    settings = {
        "layer": at,
        "layers": layers,
        "positions": count,
        "first": first,
        "seed": seed,
        "draws": random,
        "top": words,
    }
    read = {"texts": len(corpus), "vocabulary": size, "note": corpus.note, "left_out": ", ".join(corpus.left_out)}
    return _dataset(corpus, numbers, tables).assign_attrs(
        provenance("activation_difference", **said, **settings, **read)
    )


def streams_before(model: HookedModel, corpus: Corpus, layers: Sequence[int], tell: Counted) -> dict[int, np.ndarray]:
    """Return the streams before some blocks at the positions of all texts, (text, position, d_model), float64.

    The texts have one length. A layer that is the number of blocks is the stream behind all of them.
    """
    length, front = len(corpus[0].read), corpus[0].front
    kept: dict[int, list[np.ndarray]] = {layer: [] for layer in layers}

    def keeper(layer: int) -> Callable[[torch.Tensor, Any], None]:
        def keep(value: torch.Tensor, hook: object) -> None:
            kept[layer].append(as_numbers(value[:, front:]))

        return keep

    count = int(model.cfg.n_layers)
    names = {at: f"blocks.{at}.hook_resid_pre" if at < count else f"blocks.{at - 1}.hook_resid_post" for at in layers}
    hooks = [(name, keeper(at)) for at, name in names.items()]
    rows = min(_ROWS, rows_at_a_time(model, length))
    with undisturbed(model), torch.no_grad():
        for tokens in batches_of(corpus, rows, next(model.parameters()).device):
            with room_for(model, "texts", length, rows=len(tokens)):
                run_hooked(model, tokens, hooks)
            tell(len(tokens))
    streams = {layer: np.concatenate(parts) for layer, parts in kept.items()}
    if not all(np.isfinite(values).all() for values in streams.values()):
        raise ProbeError(
            f"The residual stream of {source_of(model).name} is not finite on these texts; load the model with "
            'dtype="float32" or check its weights.'
        )
    return streams


class DifferenceNumbers(NamedTuple):
    """What streams (text, position, d_model) of both models give; see `activation_difference`.

    directions: by name ("mean", "position 0", "demeaned 0" ...), the vectors that are read in words. halves: mean
    directions between random halves of the texts within the base.
    """

    difference: np.ndarray
    text_norm: np.ndarray
    base_norm: np.ndarray
    projections: Mapping[str, np.ndarray]
    norm: np.ndarray
    half_cosine: np.ndarray
    constant_norm: np.ndarray
    half_norm: np.ndarray
    spectrum: np.ndarray
    spectrum_texts: np.ndarray
    directions: Mapping[str, np.ndarray]
    halves: np.ndarray


def difference_numbers(base: np.ndarray, tuned: np.ndarray, *, first: int = 0, seed: int = 0) -> DifferenceNumbers:
    """Return everything that streams alone give. first: the first position that enters means over positions."""
    rng = np.random.default_rng(seed)
    texts, count = base.shape[:2]
    d = tuned - base
    delta = d.mean(axis=0)
    order = rng.permutation(texts)
    fit, held = order[: texts // 2], order[texts // 2 :]
    by_place = _with_mean(d, first)
    given, left = (by_place[part].mean(axis=0) if part.size else np.zeros_like(by_place[0]) for part in (fit, held))
    units = _unit(given)
    projections = {}
    for side, streams in (("base", base), ("tuned", tuned)):
        values = np.full(by_place.shape[:2], np.nan)
        if fit.size:
            values[held] = np.einsum("tpd,pd->tp", _with_mean(streams[held], first), units)
        projections[side] = values
    halves = _half_differences(_with_mean(base, first), rng)
    mean = delta[first:].mean(axis=0)
    raw = {f"position {j}": delta[j] for j in range(count)}
    demeaned = {f"demeaned {j}": delta[j] - mean for j in range(first, count)} if count - first > 1 else {}
    return DifferenceNumbers(
        difference=delta,
        text_norm=np.linalg.norm(d, axis=2),
        base_norm=np.linalg.norm(base, axis=2),
        projections=projections,
        norm=np.linalg.norm(_with_mean(delta[None], first)[0], axis=1),
        half_cosine=(units * _unit(left)).sum(axis=1),
        constant_norm=np.sqrt(np.clip((given * left).sum(axis=1), 0, None)),
        half_norm=np.linalg.norm(halves, axis=2),
        spectrum=energy_shares(d[:, first:].reshape(-1, d.shape[2])),
        spectrum_texts=energy_shares((base - base[rng.permutation(texts)])[:, first:].reshape(-1, d.shape[2])),
        directions={MEAN: mean, **raw, **demeaned},
        halves=halves[:, 0],
    )


def energy_shares(rows: np.ndarray) -> np.ndarray:
    """Return the squared singular values of rows as shares of their sum, from large to small; zeros where all are 0."""
    small = rows.T @ rows if rows.shape[0] > rows.shape[1] else rows @ rows.T
    values = np.clip(np.linalg.eigvalsh(small)[::-1], 0, None)
    total = values.sum()
    return values / total if total > 0 else np.zeros_like(values)


def _with_mean(streams: np.ndarray, first: int) -> np.ndarray:
    """Return (text, place, d_model): the mean over positions from `first`, then every position."""
    return np.concatenate([streams[:, first:].mean(axis=1, keepdims=True), streams], axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, size, out=np.zeros_like(vectors), where=size > 0)


def _half_differences(streams: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return mean(one half) - mean(the other half) of the texts, (half, place, d_model), for random halves."""
    texts, half = len(streams), len(streams) // 2
    signs = np.zeros((HALVES if half else 0, texts))
    for row in signs:
        order = rng.permutation(texts)
        row[order[:half]], row[order[half : 2 * half]] = 1 / half, -1 / half
    return np.tensordot(signs, streams, axes=1)


def _dataset(corpus: Corpus, numbers: DifferenceNumbers, tables: dict[str, Any]) -> xr.Dataset:
    positions = numbers.difference.shape[0]
    by_text, by_place = ("text", "position"), ("text", "place")
    known = min(len(numbers.spectrum), len(numbers.spectrum_texts))
    return xr.Dataset(
        {
            "difference": (("position", "d_model"), numbers.difference),
            "text_norm": (by_text, numbers.text_norm),
            "base_norm": (by_text, numbers.base_norm),
            **{f"{side}_projection": (by_place, values) for side, values in numbers.projections.items()},
            "norm": ("place", numbers.norm),
            "half_cosine": ("place", numbers.half_cosine),
            "constant_norm": ("place", numbers.constant_norm),
            "half_norm": (("half", "place"), numbers.half_norm),
            "spectrum": ("component", numbers.spectrum[:known]),
            "spectrum_texts": ("component", numbers.spectrum_texts[:known]),
            **tables,
        },
        coords={
            "text": np.array([text.id for text in corpus], dtype=object),
            "group": ("text", np.array([text.group for text in corpus], dtype=object)),
            "position": np.arange(positions),
            "place": np.array([MEAN, *map(str, range(positions))], dtype=object),
            "component": np.arange(1, known + 1),
        },
    )
