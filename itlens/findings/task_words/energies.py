"""From energies word by word to energies of sets and of their control sets: sums over words, nothing is read again.

Energy of a set: sum |U_k^T o|^2 / sum |o|^2 over its words. Gains of control sets are averaged over layers, as the
set's own gain is, at one k: 100, or the largest below it. Energies of the change are averaged over the layers that
changed, of the set and of its control sets alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

Kind: TypeAlias = Literal["value", "key"]  # of neuron vectors
CONTROLS = ("matched", "topic")
QUOTED = 100
_BLOCK = 1 << 22  # energies that are gathered at a time


def set_energies(found: Mapping[Kind, tuple[xr.Dataset, xr.Dataset]]) -> xr.Dataset:
    """Return what `itlens.task_energy` returns. found: by kind of vectors, the control sets and the layers' energies
    (of `TaskWords`)."""
    kinds = [_of_kind(controls, layers) for controls, layers in found.values()]
    joined = xr.concat(
        [kind.expand_dims(vectors=[name]) for name, kind in zip(found, kinds, strict=True)],
        dim="vectors",
        join="outer",
        combine_attrs="drop_conflicts",
    )
    attrs = {name: value for name, value in joined.attrs.items() if name != "vectors"}
    return joined.assign_attrs(attrs | {"quoted_k": quoted_size(joined["k"].values)})


def quoted_size(sizes: Any) -> int:
    """Return the k that is quoted: QUOTED, or the largest below it, or the smallest there is."""
    ks = sorted(int(k) for k in sizes)
    return max([k for k in ks if k <= QUOTED], default=ks[0])


def _of_kind(controls: xr.Dataset, layers: xr.Dataset) -> xr.Dataset:
    member, norm = controls["member"].values, controls["norm"].values.astype(float)
    by_word = layers["energy"].transpose("layer", "side", "k", "word").values
    sums = np.einsum("lskw,tw->tlks", by_word, member.astype(float))
    energy = sums / (member @ norm)[:, None, None, None]
    sizes = layers["k"].values
    at = by_word[:, :, list(sizes).index(quoted_size(sizes))].astype(float)
    nulls = {name: _control_energies(controls[name].values, member.sum(1), at, norm) for name in CONTROLS}
    gains = np.stack([nulls[name][..., 1, :] - nulls[name][..., 0, :] for name in CONTROLS], axis=1)
    change = np.stack([nulls[name][..., 2, :] for name in CONTROLS], axis=1)
    return xr.Dataset(
        {
            "energy": (("set", "layer", "k", "side"), energy),
            "gain": (("set", "layer", "k"), energy[..., 1] - energy[..., 0]),
            "null_gain": (("set", "control", "draw"), _over_layers(gains)),
            "null_change": (("set", "control", "draw"), _over_layers(change)),
            "null_layers": (("set", "layer"), gains[:, 0].mean(-1)),
            "null_change_layers": (("set", "layer"), change[:, 0].mean(-1)),
            "words": ("set", member.sum(1)),
            "change_rank": ("layer", layers["change_rank"].values),
        },
        coords={
            "set": controls["set"].values,
            "layer": layers["layer"].values,
            "k": sizes,
            "side": layers["side"].values,
            "control": list(CONTROLS),
        },
        attrs=dict(controls.attrs),
    )


def _over_layers(values: np.ndarray) -> np.ndarray:
    """Return means over the layers that have numbers. values: (set, control, layer, draw); a layer without a change has
    none in any set."""
    known = np.isfinite(values).all(axis=(0, 1, 3))
    return values[:, :, known].mean(2) if known.any() else np.full(values[:, :, 0].shape, np.nan)


def _control_energies(places: np.ndarray, sizes: np.ndarray, energy: np.ndarray, norm: np.ndarray) -> np.ndarray:
    """Return energies (set, layer, side, draw) of control sets. places: (draw, place), set by set; energy: (layer,
    side, word)."""
    out = np.empty((len(sizes), *energy.shape[:2], len(places)))
    start = 0
    for row, size in enumerate(sizes.tolist()):
        own = places[:, start : start + size]
        start += size
        step = max(1, _BLOCK // (size * energy.shape[0] * energy.shape[1]))
        for first in range(0, len(own), step):
            block = own[first : first + step]
            out[row, ..., first : first + step] = energy[:, :, block].sum(-1) / norm[block].sum(-1)
    return out
