"""Concepts that cannot be compared, and options without sense: one sentence that says what to do."""

from __future__ import annotations

import numpy as np
import pytest

from itlens.diff import concept_changes, concepts
from itlens.errors import ResultError
from tests.findings.mlp.concept_tables import concept_table, random_bases

BASES = random_bases(0)


def table(**options):
    return concept_table(BASES, model="tuned", **options)


def spoiled(place, value):
    ds = table()
    directions = ds["direction"].values.copy()
    directions[place] = value
    return ds.assign(direction=(ds["direction"].dims, directions))


BAD = [
    (lambda: table().to_dataframe(), "tuned is a DataFrame: give the Dataset that itlens.mlp_concepts returned"),
    (lambda: concepts(table(), table()), r"tuned holds no concepts \(no variable word, score, explained, direction\)"),
    (lambda: table().drop_vars("direction"), r"no variable direction"),
    (lambda: table().drop_attrs(), "result of an unknown probe by its attrs, expected mlp_concepts"),
    (lambda: table(probe="logit_lens"), "result of logit_lens by its attrs"),
    (lambda: table(vectors="key"), "different vectors: base value, tuned key. Probe both models alike"),
    (lambda: table(vocabulary="sha256:0"), r"different vocabulary: base words.txt \(sha256:0123"),
    (lambda: table(top_k=3), "different top_k: base 5, tuned 3"),
    (lambda: table(signed=True), "different signed: base 0, tuned 1"),
    (
        lambda: table(n_layers=9),
        "different shapes: base 3 layers x 40 dimensions x 160 neurons a layer, tuned 9 layers",
    ),
    (lambda: concept_table(random_bases(0, width=50)), "different shapes: .*tuned 3 layers x 50 dimensions"),
    (lambda: table(d_mlp=80), "different shapes: .* x 80 neurons"),
    (lambda: table(layers=[0, 1, 5], n_layers=3), "Different layers were probed: base 0, 1, 2, tuned 0, 1, 5"),
    (lambda: table(components=6), "Different components were probed: base 0, 1, 2, .*, tuned 0, 1, 2, 3, 4, 5"),
    (lambda: table().isel(layer=[]), "tuned has nothing on the axis layer"),
    (lambda: spoiled((1, 3, 0), np.nan), "Directions of layer 1 of tuned are not finite"),
    (lambda: spoiled((2, 3), 0.0), "directions of layer 2 of tuned are not orthonormal"),
    (lambda: spoiled((0, 3), table()["direction"].values[0, 4]), "directions of layer 0 of tuned are not orthonormal"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_results_that_cannot_be_compared(spoil, message):
    for compare in (concepts, concept_changes):
        with pytest.raises(ResultError, match=message):
            compare(concept_table(BASES), spoil())


def test_only_the_leading_components_span_what_is_compared():
    later = concept_table(BASES).isel(component=slice(2, None))
    with pytest.raises(ResultError, match=r"components 2, 3, .*; expected the leading ones, from 0 on"):
        concepts(later, later)


def test_lists_of_different_length_cannot_be_laid_side_by_side():
    with pytest.raises(ResultError, match="base model's concepts have 5 words each, the tuned model's 3"):
        concept_changes(concept_table(BASES), concept_table(BASES).isel(rank=slice(3)))


def test_an_attribute_that_is_missing():
    ds = table()
    del ds.attrs["vectors"]
    with pytest.raises(ResultError, match=r"base does not say its vectors \(in attrs\)"):
        concepts(ds, table())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": ()}, r"ks=\[\]: expected whole numbers of at least 1"),
        ({"ks": (10, 0)}, "ks=0: expected"),
        ({"ks": 2.5}, "ks=2.5: expected"),
        ({"ks": (True,)}, "ks=True"),
        ({"draws": 0}, "draws=0: expected a whole number of at least 1"),
        ({"draws": 1.5}, "draws=1.5"),
        ({"seed": -1}, "seed=-1: expected a whole number of at least 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ResultError, match=message):
        concepts(table(), table(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0}, "threshold=0: expected a number above 0, up to 1"),
        ({"threshold": 1.1}, "threshold=1.1"),
        ({"words": 0}, "words=0"),
        ({"layers": 7}, "No such layer in these results: 7; probed are 0 to 2"),
        ({"layers": []}, "No such layer in these results: none"),
    ],
)
def test_bad_options_of_the_listing(options, message):
    with pytest.raises(ResultError, match=message):
        concept_changes(table(), table(), **options)
