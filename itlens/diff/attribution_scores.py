"""Aligning two sets of attributions by prompt, and scoring them for any cut-off, power and length from one pass.

The importance density only asks how often a token has which level: with c[n, l] = how many targets give token n the
level l,  ||S[n]||_1 = sum_{l > b} l c[n, l]  and  ||S[n]||_p^p = sum_{l > b} l^p c[n, l].  The counts are taken once
per map; thirty settings of (b, p) then cost as much as one. (`itlens.density` goes the direct way; a test holds both.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from itlens.density import span_mask, sparsify
from itlens.errors import ResultError

if TYPE_CHECKING:
    from itlens.prompts import Prompt

Results = Mapping[str, xr.Dataset] | Iterable[xr.Dataset]
_SAME = ("method", "objective_name")  # numbers of different methods are not comparable


class Scored(NamedTuple):
    """One attribution map, ready to be scored: whole levels (source, target), and the instruction's tokens."""

    levels: np.ndarray
    mask: np.ndarray
    highest: int
    result: xr.Dataset

    @property
    def targets(self) -> int:
        return self.levels.shape[1]

    def scores(self, thresholds: Iterable[int], powers: Iterable[float], targets: int | None = None) -> np.ndarray:
        """Instruction scores on (threshold, power), of the first `targets` targets (default: all)."""
        counts = level_counts(self.levels[:, :targets], self.highest)
        return np.array([[count_score(counts, self.mask, b, p) for p in powers] for b in thresholds])


class Aligned(NamedTuple):
    """The same prompts on both sides, in the same order; `prompts` holds None where none were given."""

    ids: list[str]
    base: list[Scored]
    tuned: list[Scored]
    prompts: list[Prompt | None]


def align(base: Results, tuned: Results, prompts: Iterable[Prompt] | None, levels: int) -> Aligned:
    """Two sets of results, aligned by prompt id and never by position.

    Raises ResultError that names the ids which one side lacks, that come twice, or that have no prompt or no
    instruction, and for results of different methods.
    """
    sides = {"base": _by_id(base, "base"), "tuned": _by_id(tuned, "tuned")}
    _require(sides["base"], sides["tuned"], "base results but no tuned ones")
    _require(sides["tuned"], sides["base"], "tuned results but no base ones")
    if not sides["base"]:
        raise ResultError("There are no results to compare: both sides are empty.")
    for name in _SAME:
        values = {str(ds.attrs[name]) for side in sides.values() for ds in side.values() if name in ds.attrs}
        if len(values) > 1:
            raise ResultError(f"The results differ in {name} ({', '.join(sorted(values))}): compare like with like.")
    ids = list(sides["base"])
    by_id = _prompts_by_id(prompts)
    if prompts is not None:
        _require(sides["base"], by_id, "results but no prompt")
    chosen = [by_id.get(identity) for identity in ids]
    scored = {
        name: [_scored(identity, side[identity], p, levels) for identity, p in zip(ids, chosen, strict=True)]
        for name, side in sides.items()
    }
    return Aligned(ids, scored["base"], scored["tuned"], chosen)


def level_counts(levels: np.ndarray, highest: int) -> np.ndarray:
    """How many targets give each source token each level: counts (source, highest + 1)."""
    rows = levels.shape[0]
    index = levels.astype(np.intp) + np.arange(rows)[:, None] * (highest + 1)
    return np.bincount(index.ravel(), minlength=rows * (highest + 1)).reshape(rows, highest + 1)


def count_score(counts: np.ndarray, mask: np.ndarray, threshold: int, p: float) -> float:
    """The span score (see `itlens.density`) from counts of levels."""
    value = np.arange(threshold + 1, counts.shape[1], dtype=float)
    kept = counts[:, threshold + 1 :]
    density = kept @ value / ((kept @ value**p) ** (1 / p) + 1e-9)
    highest = density.max(initial=0.0)
    return float((density[mask] / highest).sum() / np.log2(2 + mask.sum())) if highest > 0 else 0.0


def _by_id(results: Results, side: str) -> dict[str, xr.Dataset]:
    if isinstance(results, xr.Dataset):
        raise ResultError(f"The {side} results are one Dataset: pass a list of them, or a mapping from prompt ids.")
    pairs = list(results.items()) if isinstance(results, Mapping) else [(None, ds) for ds in results]
    found: dict[str, xr.Dataset] = {}
    for key, ds in pairs:
        identity = str(ds.attrs.get("prompt_id", "") or "") or key
        if not identity:
            raise ResultError(f"A {side} result has no attrs['prompt_id']: give its prompt an id, or pass a mapping.")
        if key is not None and key != identity:
            raise ResultError(f"The {side} result under {key!r} belongs to the prompt {identity!r}: check the mapping.")
        if identity in found:
            raise ResultError(f"The {side} results hold the prompt {identity!r} twice: keep one of them.")
        found[identity] = ds
    return found


def _prompts_by_id(prompts: Iterable[Prompt] | None) -> dict[str, Prompt]:
    listed = list(prompts or ())
    found = {prompt.id: prompt for prompt in listed}
    if len(found) < len(listed):
        twice = sorted({p.id for p in listed if sum(q.id == p.id for q in listed) > 1})
        raise ResultError(f"Several prompts have the id {', '.join(map(repr, twice[:5]))}: ids must differ.")
    return found


def _require(wanted: Iterable[str], there: Mapping[str, object], what: str) -> None:
    missing = [identity for identity in wanted if identity not in there]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ResultError(f"{len(missing)} prompts have {what}: {', '.join(missing[:5])}{more}.")


def _scored(identity: str, ds: xr.Dataset, prompt: Prompt | None, levels: int) -> Scored:
    try:
        lv = sparsify(ds, levels, threshold=0)
        if prompt is not None:
            mask = span_mask(ds, prompt, "instruction").values
        elif "instruction" in ds.coords:
            mask = ds["instruction"].values.astype(bool)
        else:
            raise ResultError("pass prompts=, they say where its instruction is.")
    except ResultError as error:
        raise ResultError(f"Prompt {identity}: {error}") from error
    if not mask.any():
        raise ResultError(
            f"Prompt {identity} has no instruction tokens: mark its instruction, or leave the prompt out."
        )
    return Scored(lv.values.astype(np.uint8 if levels < 256 else np.int64), mask, levels, ds)
