"""How far tuning rotated the subspaces of each layer's leading concepts (finding 3: "rotation", here measured).

1. Align two results of `itlens.mlp_concepts`. 2. For each layer and k: the principal angles between the spans of the
first k components, their overlap, and the variance of one model that the other's components explain. 3. Two nulls:
random subspaces of that size (`stats.subspaces`), and the noise floor of resampled rows that the probe measured. 4. The
gap of the spectrum at k: without one, the span of the first k components is not defined. 5. A matching of components,
to show their words next to each other. Components are compared as subspaces, never by index or sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from itlens.findings.mlp.diff_inputs import (
    ConceptPair,
    cut_sizes,
    following,
    layer_basis,
    read_concepts,
    usual_k,
    whole_option,
)
from itlens.results.provenance import provenance
from itlens.stats.grouping import layer_groups
from itlens.stats.subspaces import (
    DEGENERATE,
    match_components,
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
    sides = {
        f"{name}_{key}": ds.attrs.get(key, "")
        for key in ("model", "revision", "dtype")
        for name, ds in _sides(pair).items()
    }
    kept = {key: pair.base.attrs[key] for key in _KEPT_ATTRS if key in pair.base.attrs}
    floors = {f"resamples_{name}": ds.sizes.get("draw", 0) for name, ds in _sides(pair).items()}
    chance = 1 / (1 + max(floors.values()))
    return provenance(
        "diff.concepts", **sides, **kept, **floors, chance_below=chance, components=pair.components.size, **options
    )
