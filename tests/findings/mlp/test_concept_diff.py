"""Rotation of concept subspaces: planted angles come back, the same space has none, random ones meet their null."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.linalg import subspace_angles

import itlens
from itlens.diff import concepts
from tests.findings.mlp.concept_tables import concept_table, mixed, random_bases, spectrum, turned

KS = (4, 8, 12)
ANGLE = 0.3


@pytest.fixture(scope="module")
def bases() -> np.ndarray:
    return random_bases(0)


@pytest.fixture(scope="module")
def planted(bases: np.ndarray) -> xr.Dataset:
    """In layer 1 alone, component 2 turned toward component 20, which was not kept."""
    return concepts(concept_table(bases), concept_table(turned(bases, 1, 2, 20, ANGLE), model="tuned"), ks=KS)


def test_a_planted_rotation_comes_back_and_only_there(planted: xr.Dataset) -> None:
    for k in KS:
        found = planted["angle"].sel(k=k, index=slice(0, k - 1)).values
        assert found[1, -1] == pytest.approx(ANGLE, abs=1e-3)
        assert found[1, :-1].max() < 1e-6 and found[[0, 2]].max() < 1e-6
        assert np.isnan(planted["angle"].sel(k=k).values[:, k:]).all()
    np.testing.assert_allclose(planted["overlap"][1], [1 - np.sin(ANGLE) ** 2 / k for k in KS], atol=1e-6)
    np.testing.assert_allclose(planted["mean_angle"][1], [ANGLE / k for k in KS], atol=1e-6)
    np.testing.assert_allclose(planted["overlap"][[0, 2]], 1, atol=1e-7)


def test_a_rotation_between_two_components_is_seen_only_where_it_crosses_k(bases: np.ndarray) -> None:
    found = concepts(concept_table(bases), concept_table(turned(bases, 0, 2, 9, ANGLE)), ks=KS)
    largest = found["angle"].max("index").values
    np.testing.assert_allclose(largest[0], [ANGLE, ANGLE, 0], atol=1e-6)  # both are inside the first 12
    assert largest[1:].max() < 1e-6


def test_identical_models_have_no_angle_and_lose_no_variance(bases: np.ndarray) -> None:
    table = concept_table(bases)
    found = concepts(table, table, ks=KS)
    assert float(found["angle"].max()) < 1e-12 and not found["below_floor"].any()
    np.testing.assert_allclose(found["overlap"], 1)
    for name in ("transfer_base", "transfer_tuned", "transfer_base_high"):
        np.testing.assert_allclose(found[name], 1)
    assert (found["match"] == found["component"]).all()
    np.testing.assert_allclose(found["match_cosine"], 1)


def test_angles_and_overlap_by_explicit_loops() -> None:
    one, other = random_bases(1), random_bases(2)
    found = concepts(concept_table(one), concept_table(other), ks=(3, 7))
    for layer in range(3):
        for k in (3, 7):
            b, t = one[layer, :k], other[layer, :k]
            angles = np.sort(subspace_angles(b.T, t.T))
            np.testing.assert_allclose(found["angle"].sel(layer=layer, k=k)[:k], angles, atol=1e-6)
            overlap = sum((b[i] @ t[j]) ** 2 for i in range(k) for j in range(k)) / k
            assert float(found["overlap"].sel(layer=layer, k=k)) == pytest.approx(overlap, abs=1e-6)


def test_signs_and_the_order_of_components_of_one_variance_change_nothing() -> None:
    one, other = random_bases(1), random_bases(2)
    shares = spectrum()
    shares[:4] = shares[:4].mean()
    base, tuned = (concept_table(part, shares=shares) for part in (one, other))
    plain = concepts(base, tuned, ks=(4, 8))
    order = [3, 0, 2, 1, *range(4, 12)]
    shuffled = -tuned["direction"].values[:, order]
    moved = concepts(base, tuned.assign(direction=(tuned["direction"].dims, shuffled)), ks=(4, 8))
    again = concepts(base, concept_table(mixed(other, 0, 4), shares=shares), ks=(4, 8))
    for name in ("angle", "overlap", "transfer_base", "transfer_tuned", "transfer_base_high", "transfer_tuned_high"):
        np.testing.assert_allclose(moved[name], plain[name], atol=1e-6)
        np.testing.assert_allclose(again[name], plain[name], atol=1e-6)
    np.testing.assert_array_equal(moved["match"], plain["match"].values[:, order])


def test_independent_models_stand_inside_the_null_band() -> None:
    tables = [concept_table(random_bases(seed, layers=30)) for seed in (1, 2)]
    found = concepts(*tables, ks=(4, 12), draws=500)
    inside = (found["overlap"] >= found["random_low"]) & (found["overlap"] <= found["random_high"])
    assert inside.mean() > 0.85
    low, high = (found[f"random_angle_{end}"] for end in ("low", "high"))
    assert (((found["angle"] >= low) & (found["angle"] <= high)) | found["angle"].isnull()).mean() > 0.85
    np.testing.assert_allclose(found["random_overlap"], [4 / 40, 12 / 40])
    np.testing.assert_allclose(found["overlap"].mean("layer"), found["random_overlap"], atol=0.02)
    assert (np.abs(found["mean_angle"].mean("layer") - found["random_mean_angle"]) < 0.03).all()


def test_transfer_is_the_reverse_when_the_models_change_places() -> None:
    one, other = concept_table(random_bases(1)), concept_table(random_bases(2), shares=spectrum(decay=0.7))
    there, back = concepts(one, other, ks=KS), concepts(other, one, ks=KS)
    for end in ("", "_high", "_random"):
        np.testing.assert_allclose(there[f"transfer_base{end}"], back[f"transfer_tuned{end}"])
    assert (there["transfer_base"] <= there["transfer_base_high"]).all()
    own = spectrum(decay=0.7)[:4].sum()
    np.testing.assert_allclose(there["explained_tuned"][:, 0], own)
    np.testing.assert_allclose(there["transfer_base_random"][:, 0], 4 / 40 / own)


def test_the_floor_decides_what_moved_more_than_noise(bases: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    floors = [rng.uniform(0.99, 1, (3, 2, 6)) for _ in range(2)]
    floors[1][:, 1] = 0.9  # the tuned model's own noise is larger at k = 12
    base = concept_table(bases, floor=floors[0], ks=(4, 12))
    tuned = concept_table(turned(bases, 1, 2, 20, ANGLE), floor=floors[1], ks=(4, 12))
    found = concepts(base, tuned, ks=KS)
    np.testing.assert_allclose(found["floor_base"].sel(k=[4, 12]), floors[0].mean(2))
    np.testing.assert_allclose(found["floor_angle_tuned"].sel(k=[4, 12]), np.arccos(np.sqrt(floors[1])).mean(2))
    assert found["floor_base"].sel(k=8).isnull().all()  # not measured
    np.testing.assert_array_equal(found["below_floor"], [[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(found["p_floor"].sel(k=4), [1, 1 / 7, 1])
    own = float(found["overlap"].sel(layer=1, k=12))
    reached = [(1 + (floor[1, 1] <= own).sum()) / 7 for floor in floors]
    assert float(found["p_floor"].sel(layer=1, k=12)) == pytest.approx(max(reached)) and max(reached) == 1
    assert found["p_floor"].sel(k=8).isnull().all() and found.attrs["chance_below"] == 1 / 7
    alone = concepts(base.drop_vars(["floor", "floor_angle"]), tuned, ks=KS)
    assert alone["floor_base"].isnull().all() and bool(alone["below_floor"].sel(layer=1, k=4))
    none = concepts(concept_table(bases), concept_table(turned(bases, 1, 2, 20, ANGLE)), ks=KS)
    assert none["floor_tuned"].isnull().all() and not none["below_floor"].any()


def test_degenerate_spectra_are_flagged(bases: np.ndarray) -> None:
    shares = spectrum()
    shares[3:6] = shares[3:6].mean()
    flat = concepts(concept_table(bases), concept_table(bases, shares=shares), ks=(3, 4, 5, 6))
    np.testing.assert_array_equal(flat["degenerate"][0], [False, True, True, False])
    np.testing.assert_allclose(flat["gap"][0, :3], _gaps(shares))
    even = concepts(concept_table(bases), concept_table(bases, shares=np.full(40, 1 / 40)), ks=(4, 12))
    assert even["degenerate"].all()


def test_the_gap_behind_the_last_component_is_exact_where_the_probe_said_what_follows(bases: np.ndarray) -> None:
    shares = spectrum()
    table = concept_table(bases)
    told = table.assign(following=("layer", np.full(3, shares[12])))
    exact = (shares[11] - shares[12]) / shares[11]
    np.testing.assert_allclose(concepts(told, told, ks=12)["gap"], exact)
    assert (concepts(table, table, ks=12)["gap"] > exact + 0.1).all(), "an older result has an upper bound"
    # of fewer components than were probed, the one that follows is another
    fewer = told.isel(component=slice(6))
    assert (concepts(fewer, fewer, ks=6)["gap"] < 1).all()
    np.testing.assert_allclose(
        concepts(fewer, fewer, ks=6)["gap"], concepts(*[table.isel(component=slice(6))] * 2, ks=6)["gap"]
    )
    flat = told.assign(following=("layer", np.full(3, shares[11] * (1 - 1e-4))))
    assert concepts(flat, told, ks=12)["degenerate"].all()


def _gaps(shares: np.ndarray) -> list[float]:
    both = [[(s[k - 1] - s[k]) / s[k - 1] for k in (3, 4, 5)] for s in (spectrum(), shares)]
    return np.min(both, axis=0).tolist()


def test_layers_are_aligned_by_label(bases: np.ndarray, planted: xr.Dataset) -> None:
    tuned = concept_table(turned(bases, 1, 2, 20, ANGLE))
    found = concepts(concept_table(bases), tuned.isel(layer=[2, 0, 1], component=slice(None, None, -1)), ks=KS)
    for name in ("angle", "overlap", "match", "transfer_base", "gap"):
        np.testing.assert_allclose(found[name], planted[name], atol=1e-12)
    part = concepts(
        *(concept_table(b[[1]], layers=[17], n_layers=32) for b in (bases, turned(bases, 1, 2, 20, ANGLE))), ks=4
    )
    assert part["layer"].values.tolist() == [17] and part["layer_group"].values.tolist() == ["layers 16-23"]
    assert float(part["angle"].max()) == pytest.approx(ANGLE, abs=1e-6)


def test_sizes_beyond_the_components_are_cut_with_a_note(bases: np.ndarray) -> None:
    table = concept_table(bases)
    found = concepts(table, table)
    assert found["k"].values.tolist() == [10, 12]
    assert found.attrs["note"] == "k = 50, 100, 300 cut to 12, the components that were kept"
    whole = concept_table(bases, components=40)
    found = concepts(whole, whole)
    assert found["k"].values.tolist() == [10] and "k = 40 left out: the whole space" in found.attrs["note"]
    assert concepts(table, table, ks=[8, 4, 8])["k"].values.tolist() == [4, 8]
    assert concepts(table, table, ks=4).attrs["note"] == ""


def test_results_are_seeded_and_survive_a_file(bases: np.ndarray, tmp_path) -> None:
    tables = [concept_table(bases), concept_table(random_bases(3))]
    itlens.save(concepts(*tables, seed=3), tmp_path / "rotation.nc")
    found = itlens.load(tmp_path / "rotation.nc")
    xr.testing.assert_allclose(found, concepts(*tables, seed=3))
    assert found.attrs["base_model"] == "base" and found.attrs["probe"] == "diff.concepts"
    assert not np.allclose(concepts(*tables, seed=4)["random_low"], found["random_low"])
    for place, table in enumerate(tables):
        itlens.save(table, tmp_path / f"{place}.nc")
    again = concepts(*(itlens.load(tmp_path / f"{place}.nc") for place in (0, 1)), seed=3)
    xr.testing.assert_allclose(again, found)
