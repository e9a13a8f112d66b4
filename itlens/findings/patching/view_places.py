"""What the finding knows of each head, for the panels of the page: its effect alone, its share, its ranks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from itlens.report.explorer_places import Place, PlaceNumber

_FIELDS = ("effect", "recovered", "recovered_low", "recovered_high", "p_bh", "estimated")


def patching_places(patched: xr.Dataset, agreement: xr.Dataset | None = None) -> Iterator[Place]:
    """Yield a place for every head that was patched by itself.

    patched: of `itlens.patch`; nothing for other parts than heads. agreement: of `itlens.diff.head_agreement`; then the
    place of the head in each ranking is given as well.
    """
    by = next((name for name in ("recovered", "estimated") if name in patched), None)
    if by is None or set(patched[by].dims) != {"layer", "head"}:
        return
    values = {name: _on_heads(patched[name]) for name in _FIELDS if name in patched}
    unit = str(patched.attrs.get("unit_of_effect", ""))
    donor, _, receiver = str(patched.attrs.get("direction", "tuned->base")).partition("->")
    what = f"Patched by itself: the {donor} model's head in the {receiver} model"
    ranks = (
        {}
        if agreement is None
        else {str(name): _on_heads(agreement["rank"].sel(result=name)) for name in _named(agreement)}
    )
    place_of = _ranks(values[by])
    for i, layer in enumerate(patched["layer"].values.tolist()):
        for j, head in enumerate(patched["head"].values.tolist()):
            cell = {name: float(numbers[i, j]) for name, numbers in values.items()}
            numbers = [*_effect(cell, unit), *_estimate(cell)]
            numbers.append(
                PlaceNumber(
                    f"rank by {'share of the gap' if by == 'recovered' else 'estimate'} (1: most)", place_of[i, j]
                )
            )
            numbers += [
                PlaceNumber(f"rank by {name}, of {rank.size}", float(rank[i, j])) for name, rank in ranks.items()
            ]
            yield Place(int(layer), int(head), what, numbers=numbers)


def _effect(cell: dict[str, float], unit: str) -> list[PlaceNumber]:
    """What the exact runs say; nothing where there were none."""
    if "recovered" not in cell:
        return []
    share = (100 * cell.get(name, np.nan) for name in ("recovered", "recovered_low", "recovered_high"))
    value, low, high = share
    return [
        PlaceNumber("effect, mean over prompts", cell.get("effect"), unit=unit),
        PlaceNumber(
            "share of the gap (p: Benjamini-Hochberg)", value, low=low, high=high, p=cell.get("p_bh"), unit="%"
        ),
    ]


def _estimate(cell: dict[str, float]) -> list[PlaceNumber]:
    if "estimated" not in cell:
        return []
    return [PlaceNumber("share of the gap, first-order estimate", 100 * cell["estimated"], unit="%")]


def _named(agreement: xr.Dataset) -> list[str]:
    return [str(name) for name in agreement["result"].values if name != "patching"]


def _on_heads(values: xr.DataArray) -> np.ndarray:
    """Numbers on (layer, head); the mean over prompts where there are any."""
    over = [axis for axis in values.dims if axis not in ("layer", "head")]
    return np.asarray(values.mean(over).transpose("layer", "head"), dtype=float)


def _ranks(values: np.ndarray) -> np.ndarray:
    """1 for the largest; equal numbers share the better place; NaN where there is no number."""
    flat = values.ravel()
    known = np.sort(flat[np.isfinite(flat)])
    ranks = 1.0 + known.size - np.searchsorted(known, flat, side="right")
    return np.where(np.isfinite(flat), ranks, np.nan).reshape(values.shape)
