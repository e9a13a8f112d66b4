"""Concepts kept, gained and lost by their words, wherever they stand in the order."""

from __future__ import annotations

import numpy as np
import pytest

from itlens.diff import concept_changes
from itlens.findings.mlp.diff_listing import word_overlap
from tests.findings.mlp.concept_tables import concept_table, random_bases, turned


def test_word_overlap_by_sets() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(30)], dtype=object)
    base, tuned = (words[np.array([rng.permutation(30)[:8] for _ in range(6)])] for _ in range(2))
    found = word_overlap(base, tuned)
    for i in range(6):
        for j in range(6):
            one, other = set(base[i]), set(tuned[j])
            assert found[i, j] == pytest.approx(len(one & other) / len(one | other))
    np.testing.assert_array_equal(np.diag(word_overlap(base, base)), 1)


def test_half_of_the_words_in_common_is_the_threshold() -> None:
    """Of two lists of 4 words: 2 in common are 2 of 6 different ones, exactly 1/3, and keep; 1 does not."""
    ds = concept_table(random_bases(0, layers=1), components=2, top_k=4)
    words = np.array([[list("abcd"), list("efgh")]], dtype=object)
    base = ds.assign(word=(ds["word"].dims, words))
    words = np.array([[list("xfyz"), list("badc")]], dtype=object)  # the second is the first of base, in another order
    words[0, 1, 2:] = ["u", "v"]
    table = concept_changes(base, ds.assign(word=(ds["word"].dims, words)))
    assert table["status"].tolist() == ["gained", "kept", "lost"]
    assert table["component"].tolist() == [0, 1, 1] and table["nearest"].tolist() == [1, 0, 0]
    np.testing.assert_allclose(table["nearest_overlap"], [1 / 7, 1 / 3, 1 / 7])
    np.testing.assert_allclose(table["overlap"], [0, 0, 0])  # the directions match 0 with 0 and 1 with 1
    assert table["matched"].tolist() == [0, 1, 1]
    assert table["words_base"].tolist() == ["a, b, c, d", "e, f, g, h", "e, f, g, h"]
    assert table["words_tuned"].tolist() == ["x, f, y, z", "b, a, u, v", "b, a, u, v"]


@pytest.mark.parametrize("signed", [False, True])
def test_identical_models_gain_and_lose_nothing(signed: bool) -> None:
    ds = concept_table(random_bases(0), signed=signed)
    table = concept_changes(ds, ds)
    assert len(table) == 36 and set(table["status"]) == {"kept"}
    assert (table["matched"] == table["component"]).all() and (table["overlap"] == 1).all()
    assert (table["inside"] > 1 - 1e-6).all()
    assert (table["words_base"] == table["words_tuned"]).all()


def test_components_in_another_order_and_with_other_signs_are_kept() -> None:
    bases = random_bases(0)
    moved = bases.copy()
    moved[:, [1, 4]] = -bases[:, [4, 1]]
    table = concept_changes(concept_table(bases), concept_table(moved), layers=2)
    assert set(table["status"]) == {"kept"} and set(table["layer"]) == {2}
    assert table["matched"].tolist() == [0, 4, 2, 3, 1, *range(5, 12)]
    np.testing.assert_allclose(table["match_cosine"], 1, atol=1e-6)
    np.testing.assert_allclose(table["overlap"], 1)


def test_a_new_direction_is_a_gained_concept_of_its_layer_alone() -> None:
    bases = random_bases(0)
    tuned = concept_table(turned(bases, 1, 2, 20, np.pi / 2), model="tuned")
    table = concept_changes(concept_table(bases), tuned)
    moved = table[table["status"] != "kept"]
    assert moved[["layer", "status", "component"]].values.tolist() == [[1, "gained", 2], [1, "lost", 2]]
    np.testing.assert_allclose(moved["inside"], 0, atol=1e-6)
    assert moved["words_tuned"].nunique() == 1 and moved["words_base"].nunique() == 1
    assert moved["words_tuned"].iloc[0] == ", ".join(tuned["word"].values[1, 2])
    assert table.attrs["tuned_model"] == "tuned" and table.attrs["threshold"] == pytest.approx(1 / 3)


def test_poles_are_shown_apart() -> None:
    ds = concept_table(random_bases(0), signed=True)
    text = concept_changes(ds, ds, words=2)["words_tuned"][0]
    words = ds["word"].values[0, 0]
    assert text == f"+ {words[0, 0]}, {words[0, 1]}; - {words[1, 0]}, {words[1, 1]}"
