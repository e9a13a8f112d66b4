"""Two results of `itlens.mlp_concepts`, aligned: models of one shape, the same settings, one order of layers.

Alignment is by label, never by position: layers and components are sorted by their numbers and must be the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from itlens.errors import ResultError
from itlens.stats.subspaces import orthonormal

PROBE = "mlp_concepts"
VARIABLES = ("word", "score", "explained", "direction")
_SHAPE = {"n_layers": "layers", "d_model": "dimensions", "d_mlp": "neurons a layer"}
_SETTINGS = {"vectors": "vectors", "vocabulary": "vocabulary", "top_k": "top_k", "signed": "signed"}
_USUAL = 100
_TOLERANCE = 1e-3  # directions may have been stored in half precision


class ConceptPair(NamedTuple):
    """Both models' concepts, sorted by layer and component. attrs are those of the results."""

    layers: np.ndarray
    components: np.ndarray
    base: xr.Dataset
    tuned: xr.Dataset

    @property
    def width(self) -> int:
        """The length of a direction, d_model."""
        return int(self.base.sizes["d_model"])


def read_concepts(base: xr.Dataset, tuned: xr.Dataset) -> ConceptPair:
    """Align two results of `itlens.mlp_concepts` by layer and component.

    Raises ResultError for anything but two such results, and for results that differ in the model's shape, the vectors,
    the layers, the components, the vocabulary or the settings.
    """
    sides = {"base": base, "tuned": tuned}
    for name, ds in sides.items():
        _check_dataset(ds, name)
    _check_same(base, tuned)
    base, tuned = (_sorted(ds) for ds in (base, tuned))
    numbers = base["component"].values
    if not np.array_equal(numbers, np.arange(numbers.size)):
        raise ResultError(
            f"The results hold the components {listed_numbers(numbers.tolist())}; expected the leading ones, from 0 on "
            "without a gap: spans and variances are those of the first k."
        )
    return ConceptPair(base["layer"].values, base["component"].values, base, tuned)


def _sorted(ds: xr.Dataset) -> xr.Dataset:
    # sorting copies hundreds of megabytes, even where there is nothing to do
    axes = [axis for axis in ("layer", "component") if not ds.indexes[axis].is_monotonic_increasing]
    return ds.sortby(axes) if axes else ds


def layer_basis(ds: xr.Dataset, name: str, place: int) -> np.ndarray:
    """Return the directions (component, d_model) of one layer by its place, made orthonormal in float64.

    name: "base" or "tuned", for the errors. Raises ResultError when they are not finite or far from orthonormal.
    """
    rows = ds["direction"].transpose("layer", "component", "d_model").values[place].astype(np.float64)
    layer = int(ds["layer"].values[place])
    products = rows @ rows.T
    if not np.isfinite(products).all():
        raise ResultError(f"Directions of layer {layer} of {name} are not finite: probe the model again.")
    off = np.abs(products - np.eye(len(rows))).max()
    if off > _TOLERANCE:
        raise ResultError(
            f"The directions of layer {layer} of {name} are not orthonormal (off by {off:.2g}, expected less than "
            f"{_TOLERANCE:g}): give the result of itlens.{PROBE} as it was returned."
        )
    return orthonormal(rows, products)


def following(ds: xr.Dataset, place: int) -> float | None:
    """Return the share of variance of the component after the last, of one layer by its place; None where not known.

    It is not known where some of the probed components were taken away.
    """
    if "following" not in ds or ds.attrs.get("components") != ds.sizes["component"]:
        return None
    return float(ds["following"].values[place])


def cut_sizes(ks: Iterable[int] | int, pair: ConceptPair) -> tuple[list[int], str]:
    """Return the sizes k of the subspaces to compare, ascending, and a note on those that were cut or left out.

    A k beyond the components is cut to them; the whole space is left out, since any two are the same there. Raises
    ResultError for anything but whole numbers of at least 1.
    """
    listed = list(ks) if isinstance(ks, Iterable) else [ks]
    odd = [k for k in listed if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1]
    if odd or not listed:
        raise ResultError(f"ks={odd[0] if odd else listed!r}: expected whole numbers of at least 1, such as (10, 50).")
    kept, notes = pair.components.size, []
    cut = sorted({min(int(k), kept) for k in listed})
    if beyond := sorted({int(k) for k in listed if k > kept}):
        notes.append(f"k = {', '.join(map(str, beyond))} cut to {kept}, the components that were kept")
    if cut[-1] >= pair.width:
        # every angle of the whole space with itself is 0, in any two models
        cut = cut[:-1] or [pair.width - 1]
        notes.append(f"k = {pair.width} left out: the whole space of {pair.width} dimensions")
    if cut[0] < 1:
        raise ResultError("The models have a width of 1: there is no subspace to compare.")
    return cut, "; ".join(notes)


def usual_k(ks: Sequence[int]) -> int:
    """Return the k that is quoted where one is enough: 100, or the largest below, or the smallest there is."""
    return int(max([k for k in ks if k <= _USUAL], default=min(ks)))


def whole_option(name: str, value: object, least: int) -> int:
    """Return the value as an int. Raises ResultError for anything but a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ResultError(f"{name}={value!r}: expected a whole number of at least {least}.")
    return int(value)


def _check_dataset(ds: object, name: str) -> None:
    if not isinstance(ds, xr.Dataset):
        raise ResultError(f"{name} is a {type(ds).__name__}: give the Dataset that itlens.{PROBE} returned.")
    if missing := [variable for variable in VARIABLES if variable not in ds.data_vars]:
        raise ResultError(
            f"{name} holds no concepts (no variable {', '.join(missing)}): give the Dataset that itlens.{PROBE} "
            "returned, or one that itlens.load read."
        )
    if (probe := ds.attrs.get("probe", "")) != PROBE:
        raise ResultError(
            f"{name} is a result of {str(probe) or 'an unknown probe'} by its attrs, expected {PROBE}: xarray drops "
            "attrs in some operations; copy them from the original, or probe again."
        )
    if missing := [key for key in (*_SHAPE, *_SETTINGS) if key not in ds.attrs]:
        raise ResultError(f"{name} does not say its {', '.join(missing)} (in attrs): probe the model again.")
    if missing := [axis for axis in ("layer", "component", "d_model") if not ds.sizes.get(axis)]:
        raise ResultError(f"{name} has nothing on the axis {', '.join(missing)}: probe the model again.")


def _check_same(base: xr.Dataset, tuned: xr.Dataset) -> None:
    for key, name in _SETTINGS.items():
        if base.attrs[key] != tuned.attrs[key]:
            raise ResultError(
                f"The concepts were made with different {name}: base {_described(base, key)}, tuned "
                f"{_described(tuned, key)}. Probe both models alike."
            )
    if [base.attrs[key] for key in _SHAPE] != [tuned.attrs[key] for key in _SHAPE]:
        shapes = [" x ".join(f"{ds.attrs[key]} {word}" for key, word in _SHAPE.items()) for ds in (base, tuned)]
        raise ResultError(
            f"The models have different shapes: base {shapes[0]}, tuned {shapes[1]}. Concepts can be compared only "
            "between a model and its own tuned version."
        )
    for axis in ("layer", "component"):
        of_base, of_tuned = (sorted(ds[axis].values.tolist()) for ds in (base, tuned))
        if of_base != of_tuned:
            raise ResultError(
                f"Different {axis}s were probed: base {listed_numbers(of_base)}, tuned {listed_numbers(of_tuned)}. "
                f"Probe both models with the same `{axis}s`."
            )


def _described(ds: xr.Dataset, key: str) -> str:
    label = ds.attrs.get(f"{key}_name", "")
    return f"{label} ({ds.attrs[key]})" if label else str(ds.attrs[key])


def listed_numbers(values: Sequence[int]) -> str:
    """Return numbers as a message lists them: all of a few, the first and the last of many."""
    listed = [str(value) for value in values]
    return ", ".join(listed if len(listed) < 9 else [*listed[:7], "...", listed[-1]])
