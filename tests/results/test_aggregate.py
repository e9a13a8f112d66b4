"""Tokens to words and to spans: written-out sums, and totals that stay."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from itlens.errors import ResultError
from itlens.results.aggregate import to_spans, to_words
from itlens.results.density import importance_density

SOURCE, TARGET = ["Trans", "late", " it", "  ", "\n", "now", "!"], [" D", "as", " ist"]


def result(source=SOURCE, target=TARGET, score=None):
    coords, attrs = {}, {}
    for side, tokens in (("source", source), ("target", target)):
        stop = np.cumsum([len(t) for t in tokens]).astype(int)
        coords[f"{side}_token"] = (side, np.array(tokens, dtype=np.str_))
        coords[f"{side}_id"] = (side, np.arange(len(tokens)))
        coords[f"{side}_start"] = (side, stop - np.array([len(t) for t in tokens], dtype=int))
        coords[f"{side}_stop"] = (side, stop)
        attrs["prompt_text" if side == "source" else "response_text"] = "".join(tokens)
    coords["objective"] = ("target", np.ones(len(target)))
    if score is None:
        score = np.arange(len(source) * len(target), dtype=float).reshape(len(source), len(target))
    return xr.Dataset({"score": (("source", "target"), score)}, coords, {**attrs, "model": "m"})


def test_source_words():
    words = to_words(result())
    assert words.source_token.values.tolist() == ["Translate", "it", "  \n", "now!"]
    assert words.source_start.values.tolist() == [0, 10, 12, 15]
    assert words.source_stop.values.tolist() == [9, 12, 15, 19]
    # rows 0 + 1, 2, 3 + 4, 5 + 6 of 0..20
    np.testing.assert_array_equal(words.score, [[3, 5, 7], [6, 7, 8], [21, 23, 25], [33, 35, 37]])
    assert words.attrs["model"] == "m" and words.attrs["note"] == "source tokens joined to words by sum"
    assert "source_id" not in words.coords and words.objective.size == 3


def test_target_words_mean_and_max():
    both = to_words(result(), target=True)
    assert both.target_token.values.tolist() == ["Das", "ist"]
    np.testing.assert_array_equal(both.score, [[8, 7], [13, 8], [44, 25], [68, 37]])
    assert "objective" not in both.coords
    np.testing.assert_array_equal(to_words(result(), how="mean").score[0], [1.5, 2.5, 3.5])
    np.testing.assert_array_equal(to_words(result(), how="max").score[0], [3, 4, 5])


def test_levels_are_kept_by_the_maximum_only():
    levelled = result(score=np.full((7, 3), 10.0)).assign_attrs(levels=10)
    assert to_words(levelled, how="max").score.attrs["levels"] == 10
    summed = to_words(levelled)
    assert "levels" not in summed.attrs and "levels" not in summed.score.attrs
    importance_density(summed)  # levelled anew


def test_an_empty_token_splits_no_word():
    words = to_words(result(source=["ab", "", "c", " ", "", "d"]))
    assert words.source_token.values.tolist() == ["abc", " ", "d"]


def test_named_spans():
    spans = {"verb": [(0, 9)], "object": [(8, 12)], "nothing": [(13, 14)]}
    out = to_spans(result(), spans)
    assert out.source_token.values.tolist() == ["verb", "object", "nothing", "other"]
    assert out.source_count.values.tolist() == [2, 1, 0, 4]  # "late" lies in two spans and counts for the first
    np.testing.assert_array_equal(out.score[:3], [[3, 5, 7], [6, 7, 8], [0, 0, 0]])
    assert np.isnan(to_spans(result(), spans, how="mean").score[2]).all()
    assert np.isnan(to_spans(result(), spans, how="max").score[2]).all()


def test_wrong_requests():
    with pytest.raises(ResultError, match="'median'"):
        to_words(result(), how="median")
    with pytest.raises(ResultError, match="both a span and the rest"):
        to_spans(result(), {"other": []})
    with pytest.raises(ResultError, match="lacks target_start"):
        to_words(result().drop_vars("target_start"), target=True)


def test_nothing_to_join():
    empty = result(source=[], target=[])
    assert to_words(empty, target=True).score.shape == (0, 0)
    assert to_spans(empty, {"a": []}).score.shape == (2, 0)
    assert to_words(result(target=[])).score.shape == (4, 0)


tokens = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=10)


@settings(deadline=None)
@given(tokens, tokens, st.integers(0, 2**32 - 1))
def test_sums_keep_totals(source, target, seed):
    score = np.random.default_rng(seed).normal(size=(len(source), len(target)))
    words = to_words(result(source, target, score), target=True)
    np.testing.assert_allclose(words.score.sum(), score.sum(), atol=1e-9)
    np.testing.assert_allclose(to_words(result(source, target, score)).score.sum("source"), score.sum(0), atol=1e-9)
    text = words.attrs["prompt_text"]
    spans = {"front": [(0, len(text) // 2)]}
    parts = to_spans(result(source, target, score), spans)
    np.testing.assert_allclose(parts.score.sum("source"), score.sum(0), atol=1e-9)
    for token, start, stop in zip(words.source_token, words.source_start, words.source_stop, strict=True):
        assert token.item().rstrip("\0") == text[int(start) : int(stop)].rstrip("\0")
