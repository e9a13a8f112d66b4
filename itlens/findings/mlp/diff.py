"""How far tuning rotated the subspaces of each layer's leading concepts (finding 3: "rotation", here measured).

1. Align two results of `itlens.mlp_concepts`, by label and never by position: layers and components are sorted by their
numbers and must be the same. 2. For each layer and k: the principal angles between the spans of the first k components,
their overlap, and the variance of one model that the other's components explain. 3. Two nulls: random subspaces of that
size (`stats.subspaces`), and the noise floor of resampled rows that the probe measured. 4. The gap of the spectrum at
k: without one, the span of the first k components is not defined. 5. A matching of components, to show their words next
to each other. Components are compared as subspaces, never by index or sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.shared import attrs_of_sides
from itlens.results.provenance import provenance
from itlens.stats.grouping import layer_groups
from itlens.stats.subspaces import (
    DEGENERATE,
    match_components,
    orthonormal,
    principal_angles,
    projection_overlap,
    random_subspaces,
    spectrum_gap,
    variance_transfer,
)

KS = (10, 50, 100, 300)
_KEPT_ATTRS = ("vectors", "n_layers", "d_model", "d_mlp", "vocabulary", "vocabulary_name", "vocabulary_size", "top_k")


def compare_concepts(
    base: xr.Dataset, tuned: xr.Dataset, *, ks: Iterable[int] = KS, draws: int = 200, seed: int = 0
) -> xr.Dataset:
    """Compare the concept subspaces of two models, layer by layer.

    base, tuned: the Datasets of `itlens.mlp_concepts` of both models (or `itlens.load`), of the same
    vectors. ks: dimensions of the subspaces; those beyond the components are cut to them, and attrs["note"] says so.
    draws, seed: of the random subspaces.

    Returns, on (layer, k): overlap (mean squared cosine of the angles), mean_angle (radians); floor_base, floor_tuned
    (mean overlap with the same model's subspace of resampled rows; NaN when the probe ran without `resamples`),
    floor_angle_base, floor_angle_tuned (their mean angles), below_floor (the overlap is under that of every resampled
    draw of either model: rotated more than the noise of rows; False without draws), p_floor ((1 + draws with the same
    overlap or less) / (1 + draws), the larger of both models': a layer that rotated no more than its rows' noise is
    below the floor about once in 1 + draws, attrs["chance_below"]); transfer_base (variance of the tuned
    rows that base's first k components explain, relative to what the tuned model's own do; a lower bound from the kept
    components), transfer_base_high (the upper bound), transfer_base_random (what a random subspace would explain),
    transfer_tuned... (the reverse); explained_base, explained_tuned (share of their own variance); gap (relative, of
    the spectrum at k, the smaller of both models'; an upper bound at the last component of results that do not say
    what follows it, see `spectrum_gap`) and degenerate (gap under
    1e-3: which components are the first k is then a matter of chance, and the largest angles are too).
    On (layer, k, index): angle, radians, ascending, NaN beyond k. On (k): random_overlap (k / d_model),
    random_low, random_high (95 % of draws), random_mean_angle, _low, _high; on (k, index): random_angle, _low, _high.
    On (layer, component), of the tuned model: match (the base component shown next to it) and match_cosine (|cosine|).

    Raises ResultError when these are no such results or do not match, and for ks or draws under 1.
    """
    draws, seed = whole_option("draws", draws, 1), whole_option("seed", seed, 0)
    pair = read_concepts(base, tuned)
    sizes, note = cut_sizes(ks, pair)
    rows = [_layer(pair, place, sizes) for place in range(pair.layers.size)]
    groups = layer_groups(pair.layers, int(base.attrs["n_layers"]))
    named = {int(layer): name for name, inside in groups.items() for layer in inside}
    ds = xr.Dataset(
        {name: (_DIMS.get(name, ("layer", "k")), np.array([row[name] for row in rows])) for name in rows[0]},
        coords={
            "layer": pair.layers,
            "k": sizes,
            "index": np.arange(max(sizes)),
            "component": pair.components,
            "layer_group": ("layer", np.array([named[int(layer)] for layer in pair.layers], dtype=np.str_)),
        },
        attrs=_attrs(pair, ks=str(sizes), quoted_k=usual_k(sizes), draws=draws, seed=seed, note=note),
    )
    return ds.assign(_floors(pair, ds["overlap"])).assign(_nulls(sizes, pair.width, draws, seed))


_DIMS = {
    "angle": ("layer", "k", "index"),
    "match": ("layer", "component"),
    "match_cosine": ("layer", "component"),
}


def _layer(pair: ConceptPair, place: int, ks: Sequence[int]) -> dict[str, np.ndarray]:
    base, tuned = (layer_basis(ds, name, place) for name, ds in _sides(pair).items())
    inner = base @ tuned.T
    angle = np.full((len(ks), max(ks)), np.nan)
    for row, k in enumerate(ks):
        angle[row, :k] = principal_angles(base[:k], tuned[:k], inner[:k, :k])
    matched, cosine = match_components(inner)
    return {
        "angle": angle,
        "mean_angle": np.nanmean(angle, axis=1),
        "overlap": np.minimum([projection_overlap(inner[:k, :k]) for k in ks], 1.0),
        **_variance(pair, place, np.square(inner), ks),
        "match": pair.components[matched],
        "match_cosine": cosine,
    }


def _variance(pair: ConceptPair, place: int, squares: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    shares = {name: ds["explained"].values[place].astype(float) for name, ds in _sides(pair).items()}
    rank = min(int(pair.base.attrs["d_mlp"]) - 1, pair.width)
    after = {name: following(ds, place) for name, ds in _sides(pair).items()}
    gap = np.min([spectrum_gap(explained, ks, rank, after[name]) for name, explained in shares.items()], axis=0)
    out = {"gap": gap, "degenerate": gap < DEGENERATE}
    for name, other, inside in (("base", "tuned", squares), ("tuned", "base", squares.T)):
        transfer = variance_transfer(inside, shares[other], ks, after[other])
        random = np.full(transfer.own.shape, np.nan)
        np.divide(np.asarray(ks) / pair.width, transfer.own, out=random, where=transfer.own > 0)
        out |= {f"transfer_{name}": transfer.low, f"transfer_{name}_high": transfer.high}
        out |= {f"transfer_{name}_random": np.minimum(random, 1.0), f"explained_{other}": transfer.own}
    return out


def _sides(pair: ConceptPair) -> dict[str, xr.Dataset]:
    return {"base": pair.base, "tuned": pair.tuned}


def _floors(pair: ConceptPair, overlap: xr.DataArray) -> dict[str, xr.DataArray]:
    """The probe's noise floors, on (layer, k); NaN where it measured none."""
    out: dict[str, xr.DataArray] = {}
    lowest, p = np.full(overlap.shape, np.nan), np.full(overlap.shape, np.nan)
    for name, ds in _sides(pair).items():
        for key in ("floor", "floor_angle"):
            draws = ds[key].reindex(k=overlap["k"].values) if key in ds else overlap.expand_dims("draw") * np.nan
            draws = draws.transpose("layer", "k", "draw").reset_coords(drop=True)
            out[f"{key}_{name}"] = draws.mean("draw")
            if key == "floor":
                known = draws.notnull().sum("draw").values
                reached = (draws <= overlap.reset_coords(drop=True)).sum("draw").values
                p = np.fmax(p, np.where(known > 0, (1 + reached) / (1 + known), np.nan))
                lowest = np.fmin(lowest, draws.min("draw").values)
    # a floor that is not known is NaN, and nothing is below it
    below = (overlap < lowest).reset_coords(drop=True)
    return {**out, "below_floor": below, "p_floor": below.astype(float).copy(data=p)}


def _nulls(ks: Sequence[int], width: int, draws: int, seed: int) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    null = random_subspaces(ks, width, draws=draws, seed=seed)
    names = {"overlap": "overlap", "overlap_low": "low", "overlap_high": "high"}
    return {
        f"random_{names.get(name, name)}": (("k", "index")[: values.ndim], values)
        for name, values in null._asdict().items()
    }


def _attrs(pair: ConceptPair, **options: object) -> dict[str, object]:
    sides = attrs_of_sides(pair.base.attrs, pair.tuned.attrs)
    kept = {key: pair.base.attrs[key] for key in _KEPT_ATTRS if key in pair.base.attrs}
    floors = {f"resamples_{name}": ds.sizes.get("draw", 0) for name, ds in _sides(pair).items()}
    chance = 1 / (1 + max(floors.values()))
    return provenance(
        "diff.concepts", **sides, **kept, **floors, chance_below=chance, components=pair.components.size, **options
    )


# ---- two results, aligned

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
