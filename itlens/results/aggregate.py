"""Sub-word tokens to words, tokens to named spans: characters are the common axis.

A word is a run of characters without white space. A token belongs to the word of its first visible character; a run of
tokens of nothing but white space is a unit of its own, so that no score moves onto a word it was not given to. Scores
of one unit are reduced by "sum" (the default: totals stay what they were), "mean" or "max". Coordinates that belong to
single tokens (`source_id`; for targets also `objective`) are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from itlens.errors import ResultError
from itlens.results.density import first_visible, overlaps, score_of, source_ranges

_REDUCTIONS = ("sum", "mean", "max")


def to_words(ds: xr.Dataset, *, source: bool = True, target: bool = False, how: str = "sum") -> xr.Dataset:
    """Return the same result with words in place of source tokens (and of target tokens, when `target=True`).

    Source words come first, target words of the result second, which matters for "mean" and "max" only.
    `source_token`, `source_start` and `source_stop` (and the target's) are those of the words. Raises ResultError.
    """
    for side, wanted in (("source", source), ("target", target)):
        if wanted:
            unit, tokens, start, stop = _words(*source_ranges(ds, side))
            coords = {f"{side}_token": tokens, f"{side}_start": start, f"{side}_stop": stop}
            ds = _reduce(ds, side, unit, coords, how, f"{side} tokens joined to words by {how}")
    return ds


def to_spans(
    ds: xr.Dataset, spans: Mapping[str, Sequence[tuple[int, int]]], *, how: str = "sum", other: str = "other"
) -> xr.Dataset:
    """Return the same result with named spans in place of source tokens: one row per name, then `other` for the rest.

    `spans` maps a name to character ranges of the prompt text, as `Prompt.spans(kind)` gives them. A token that lies in
    two named spans counts for the first. `source_token` holds the names and `source_count` the number of tokens; a span
    without tokens sums to 0, and its mean and maximum are NaN. Raises ResultError.
    """
    if other in spans:
        raise ResultError(f"The name {other!r} is both a span and the rest: pass another name as other=.")
    text, start, stop = source_ranges(ds)
    unit = np.full(start.size, len(spans))
    for index, ranges in reversed(list(enumerate(spans.values()))):
        unit[overlaps(text, start, stop, ranges)] = index
    names = [*spans, other]
    coords = {"source_token": np.array(names), "source_count": np.bincount(unit, minlength=len(names))}
    return _reduce(ds, "source", unit, coords, how, f"source tokens joined to spans by {how}")


def _words(text: str, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the unit of each token, and the text, start and stop of each unit."""
    first = first_visible(text, start)
    blank = first >= stop
    first = np.where(blank, start, first)
    space = np.fromiter((c.isspace() for c in text), dtype=np.int64, count=len(text))
    word = np.where(blank, -1, np.concatenate([[0], np.cumsum(space)])[first])
    word = word[np.maximum.accumulate(np.where(stop > start, np.arange(word.size), 0))]  # empty tokens split no word
    new = np.concatenate([[True], np.diff(word) != 0])[: word.size]
    unit, begin = np.cumsum(new) - 1, first[new]
    end = np.maximum.reduceat(stop, np.flatnonzero(new)) if new.size else begin
    tokens = np.array([text[a:b] for a, b in zip(begin, end, strict=True)], dtype=np.str_)
    return unit, tokens, begin, end


def _reduce(
    ds: xr.Dataset, side: str, unit: np.ndarray, coords: Mapping[str, np.ndarray], how: str, note: str
) -> xr.Dataset:
    if how not in _REDUCTIONS:
        raise ResultError(f"Unknown reduction {how!r}: use one of {', '.join(_REDUCTIONS)}.")
    score, size = score_of(ds), next(iter(coords.values())).size
    axis = score.get_axis_num(side)
    values = _reduce_rows(np.moveaxis(score.values, axis, 0), unit, size, how)
    kept = {name: coord for name, coord in ds.coords.items() if side not in coord.dims}
    lost = () if how == "max" else ("levels", "threshold")  # sums and means of levels are no levels any more
    marks, attrs = ({k: v for k, v in a.items() if k not in lost} for a in (score.attrs, ds.attrs))
    attrs["note"] = "; ".join(filter(None, [str(ds.attrs.get("note", "")), note]))
    array = (score.dims, np.moveaxis(values, 0, axis).astype(score.dtype), marks)
    return xr.Dataset({"score": array}, {**kept, **{name: (side, value) for name, value in coords.items()}}, attrs)


def _reduce_rows(rows: np.ndarray, unit: np.ndarray, size: int, how: str) -> np.ndarray:
    out = np.full((size, *rows.shape[1:]), -np.inf if how == "max" else 0.0)
    (np.maximum if how == "max" else np.add).at(out, unit, rows)
    count = np.bincount(unit, minlength=size)[:, None]
    if how == "mean":
        out = np.divide(out, count, out=np.full_like(out, np.nan), where=count > 0)
    return np.where(count > 0, out, np.nan) if how == "max" else out
