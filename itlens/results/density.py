"""Levels, importance density and span scores: how much a model leaned on the instruction (Wu et al. 2024, section 3).

1. Levels, per target m:  S = max(0, I);  S /= max_n S + 1e-9;  S = ceil(L * S);  entries <= b become 0.
2. Importance density of prompt token n:  a_n = ||S[n, :]||_1 / (||S[n, :]||_p + 1e-9).
3. Score of the span tokens T:  a is divided by its maximum over the prompt, then  sum_{n in T} a_n / log2(2 + |T|).

L = 10, b = 7 (a cut-off, not subtracted) and p = 4 are the paper's. A token belongs to a span when its characters,
without its leading white space, overlap the span's; a token of nothing but white space belongs to none (this strict
reading gives the figures of the paper's released maps, the lenient one misses them in the third digit).

Raw or levelled? Scores count as levelled when `attrs["levels"]` says so (`sparsify` and `itlens.load` set it). Without
that attribute they count as levelled when all values are whole numbers from 0 to L and the largest one is exactly L;
gradients are never like that, and a levelled map practically always is. `levelled=True` or `False` overrules both.
Levelling a levelled map again does harm: a column of tiny gradients has no 10 (the 1e-9 above), and would get one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import xarray as xr

from itlens.errors import ResultError

_TINY = 1e-9  # the paper's guard against division by zero; it also keeps columns of vanishing gradients low


@runtime_checkable
class HasSpans(Protocol):
    """A prompt as `span_mask` reads it: its text, and character ranges by kind."""

    @property
    def text(self) -> str: ...

    def spans(self, kind: str) -> Sequence[tuple[int, int]]: ...


def sparsify(
    score: xr.DataArray | xr.Dataset, levels: int = 10, threshold: int = 7, *, levelled: bool | None = None
) -> xr.DataArray:
    """Return levels 0..`levels` per target, those up to `threshold` set to 0: whole numbers on (source, target).

    Levelled scores (see the module) only get the cut-off. An all-zero or all-negative column stays zero.
    Raises ResultError for missing axes, values that are not finite, or levels that contradict `attrs`.
    """
    if not 0 <= threshold <= levels or levels < 1:
        raise ResultError(f"threshold={threshold} does not fit levels={levels}: it must lie between 0 and the levels.")
    score = score_of(score)
    values = score.values.astype(np.float64)
    if not _is_levelled(score, values, levels, levelled):
        values = np.maximum(values, 0.0)
        values = np.ceil(levels * (values / (values.max(axis=0, initial=0.0) + _TINY)))
    elif int(score.attrs.get("threshold", 0)) > threshold:
        raise ResultError(
            f"The levels up to {score.attrs['threshold']} of these scores are already cut off, so threshold={threshold}"
            " cannot be computed from them: start from the raw scores."
        )
    values[values <= threshold] = 0.0
    dtype = score.dtype if np.issubdtype(score.dtype, np.floating) else np.float32
    return score.copy(data=values.astype(dtype)).assign_attrs(levels=levels, threshold=threshold)


def importance_density(
    score: xr.DataArray | xr.Dataset,
    levels: int = 10,
    threshold: int = 7,
    p: float = 4,
    *,
    levelled: bool | None = None,
) -> xr.DataArray:
    """Return the importance density a(source) of raw or levelled scores: a token's L1 norm of levels over its Lp norm.

    A token that is equally important for k targets gets k ** (1 - 1/p); one that never matters gets 0, as does every
    token of an empty response. Where the scores have `source_token`, the axis is labelled with it (a token may come
    twice), so that `to_series()` shows tokens. Raises ResultError as `sparsify` does, and for p < 1.
    """
    if not p >= 1:
        raise ResultError(f"p={p} is not the power of a norm: use p >= 1 (the paper's is 4).")
    levelled_scores = sparsify(score, levels, threshold, levelled=levelled)
    values = levelled_scores.values.astype(np.float64)
    density = values.sum(axis=1) / (np.linalg.norm(values, ord=p, axis=1) + _TINY) if values.size else values.sum(1)
    coords = {name: coord for name, coord in levelled_scores.coords.items() if coord.dims == ("source",)}
    if "source" not in coords and "source_token" in coords:
        coords["source"] = ("source", coords["source_token"].values)
    attrs = {"levels": levels, "threshold": threshold, "power": p}
    return xr.DataArray(density, dims="source", coords=coords, name="importance_density", attrs=attrs)


def span_mask(ds: xr.Dataset, prompt: HasSpans, kind: str = "instruction") -> xr.DataArray:
    """Return which source tokens belong to the prompt's spans of this kind: bool on (source), aligned by characters.

    Raises ResultError when the result was made from another text than `prompt.text`, or has no character ranges.
    """
    text, start, stop = source_ranges(ds)
    if text != prompt.text:
        raise ResultError(
            f"This result was computed on {_shorten(text)}, but the prompt reads {_shorten(prompt.text)}: pass the "
            "prompt as the model read it, after formatting (itlens.format_prompts)."
        )
    inside = overlaps(text, start, stop, prompt.spans(kind))
    coords = {name: coord for name, coord in ds.coords.items() if coord.dims == ("source",)}
    return xr.DataArray(inside, dims="source", coords=coords, name=kind)


def span_score(a: xr.DataArray, mask: xr.DataArray) -> float:
    """Return the paper's score of a span: sum of a / max(a) over its tokens, over log2(2 + number of its tokens).

    0.0 when nothing is important (an empty response), or when the span or the prompt has no tokens.
    Raises ResultError when lengths differ or values are not finite.
    """
    density, inside = np.asarray(a, dtype=np.float64), _mask_values(mask, int(np.size(a)))
    if density.ndim != 1 or not np.isfinite(density).all():
        raise ResultError("A span score needs one finite importance density per source token: use importance_density.")
    highest = density.max(initial=0.0)
    if highest <= 0.0:
        return 0.0
    return float((density[inside] / highest).sum() / np.log2(2 + inside.sum()))


def target_share(
    score: xr.DataArray | xr.Dataset, mask: xr.DataArray, levels: int = 10, threshold: int = 7
) -> xr.DataArray:
    """Return for each target the share (0..1) of the levelled importance on the masked tokens; NaN without any."""
    levelled = sparsify(score, levels, threshold)
    values = levelled.values.astype(np.float64)
    total = values.sum(axis=0)
    on_span = values[_mask_values(mask, values.shape[0])].sum(axis=0)
    share = np.divide(on_span, total, out=np.full_like(total, np.nan), where=total > 0)
    coords = {name: coord for name, coord in levelled.coords.items() if coord.dims == ("target",)}
    return xr.DataArray(share, dims="target", coords=coords, name="share")


def span_profile(
    score: xr.DataArray | xr.Dataset, mask: xr.DataArray, levels: int = 10, threshold: int = 7, bins: int = 20
) -> xr.DataArray:
    """Average `target_share` along the response: share(position), position = centres of `bins` equal parts of 0..1.

    Target m of M fills m/M .. (m+1)/M of the axis and counts in a bin by its overlap, so that short responses leave no
    gaps. NaN where no target with any importance lies, and everywhere for an empty response.
    """
    if bins < 1:
        raise ResultError(f"bins={bins}: a profile needs at least one.")
    share = target_share(score, mask, levels, threshold).values
    weight = _overlap_weights(share.size, bins) * np.isfinite(share)
    total = weight.sum(axis=1)
    profile = np.divide(weight @ np.nan_to_num(share), total, out=np.full(bins, np.nan), where=total > 0)
    return xr.DataArray(profile, dims="position", coords={"position": (np.arange(bins) + 0.5) / bins}, name="share")


def score_of(result: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Return the finite scores on (source, target) of a result, with a Dataset's own `attrs["levels"]`."""
    if isinstance(result, xr.Dataset):
        if "score" not in result:
            raise ResultError(f"Expected a variable 'score' on (source, target), got {sorted(map(str, result))}.")
        marks = {name: result.attrs[name] for name in ("levels", "threshold") if result.attrs.get(name, "") != ""}
        result = result["score"].assign_attrs(marks)
    if set(result.dims) != {"source", "target"}:
        raise ResultError(f"Expected scores on the axes (source, target), got {result.dims}.")
    if not np.isfinite(result.values).all():
        raise ResultError("The scores hold NaN or infinite values: compute them again, in a higher precision.")
    return result if result.dims == ("source", "target") else result.transpose("source", "target")


def source_ranges(ds: xr.Dataset, axis: str = "source") -> tuple[str, np.ndarray, np.ndarray]:
    """Return (text, start, stop) of a result's source (or target) tokens, checked against the text."""
    name = "prompt_text" if axis == "source" else "response_text"
    missing = [coord for coord in (f"{axis}_start", f"{axis}_stop") if coord not in ds.coords]
    missing += [f"attrs[{name!r}]"] if name not in ds.attrs else []
    if missing:
        raise ResultError(f"The result lacks {', '.join(missing)}: make it with itlens.attribute.")
    text, start, stop = str(ds.attrs[name]), ds[f"{axis}_start"].values, ds[f"{axis}_stop"].values
    if ((start < 0) | (stop < start) | (stop > len(text))).any():
        raise ResultError(
            f"Some {axis} tokens are outside their text of {len(text)} characters: compute the result again."
        )
    return text, start.astype(np.intp), stop.astype(np.intp)


def overlaps(text: str, start: np.ndarray, stop: np.ndarray, spans: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return which tokens start..stop of `text`, without leading white space, overlap one of the character spans."""
    inside = np.zeros(len(text) + 1, dtype=np.int64)
    for first, last in spans:
        if not 0 <= first <= last <= len(text):
            raise ResultError(f"The span ({first}, {last}) is outside the text of {len(text)} characters.")
        inside[first:last] = 1
    before = np.concatenate([[0], np.cumsum(inside)])
    visible = first_visible(text, start)
    return (visible < stop) & (before[np.maximum(stop, visible)] > before[visible])


def first_visible(text: str, start: np.ndarray) -> np.ndarray:
    """Return for each position the next one from it that is not white space (`len(text)` when there is none)."""
    positions = np.arange(len(text) + 1)
    positions[:-1][np.fromiter((c.isspace() for c in text), dtype=bool, count=len(text))] = len(text)
    return np.minimum.accumulate(positions[::-1])[::-1][start]


def _is_levelled(score: xr.DataArray, values: np.ndarray, levels: int, levelled: bool | None) -> bool:
    if levelled is not None:
        return levelled
    if "levels" in score.attrs:
        if int(score.attrs["levels"]) != levels:
            raise ResultError(
                f"These scores are in {score.attrs['levels']} levels, so levels={levels} cannot be computed from them: "
                f"pass levels={score.attrs['levels']} or the raw scores."
            )
        return True
    return bool(values.size and values.max() == levels and values.min() >= 0 and (values == np.floor(values)).all())


def _mask_values(mask: xr.DataArray, sources: int) -> np.ndarray:
    inside = np.asarray(mask)
    if inside.dtype != bool or inside.shape != (sources,):
        raise ResultError(
            f"Expected a mask of {sources} booleans, one per source token, got {inside.dtype} of shape {inside.shape}: "
            "make it with span_mask from the same result."
        )
    return inside


def _overlap_weights(targets: int, bins: int) -> np.ndarray:
    """Return how far each bin overlaps each target's piece of 0..1 (bins, targets), in units of 1 / bins / targets."""
    low, high = np.arange(bins)[:, None] * targets, np.arange(1, bins + 1)[:, None] * targets
    return np.maximum(
        0, np.minimum(high, np.arange(1, targets + 1) * bins) - np.maximum(low, np.arange(targets) * bins)
    )


def _shorten(text: str, width: int = 60) -> str:
    return repr(text if len(text) <= width else text[:width] + "...")
