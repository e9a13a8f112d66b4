"""Density and scores on matrices worked by hand; spans over any unicode."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from itlens import Prompt
from itlens.errors import ResultError
from itlens.results.density import (
    importance_density,
    overlaps,
    span_mask,
    span_profile,
    span_score,
    sparsify,
    target_share,
)

# three source tokens, four targets; the last target has no positive score, the third vanishing ones
RAW = np.array(
    [
        [4.0, -1.0, 0.0, -2.0],
        [3.0, 0.5, 1e-9, 0.0],
        [0.1, 0.4, -5.0, -1.0],
    ]
)
# column 0: /4 -> 1, .75, .025 -> 10, 8, 1.  column 1: /.5 -> 0, 1, .8 -> 0, 10, 8.
# column 2: 1e-9 / (1e-9 + 1e-9) = .5 -> 5 (the guard keeps it under 10).  column 3: nothing positive -> 0.
LEVELS = np.array([[10.0, 0, 0, 0], [8, 10, 5, 0], [1, 8, 0, 0]])
CUT = np.array([[10.0, 0, 0, 0], [8, 10, 0, 0], [0, 8, 0, 0]])


def scores(values, **attrs):
    return xr.DataArray(np.asarray(values), dims=("source", "target"), attrs=attrs)


def result(tokens, text, score=None):
    """A result whose tokens stand one after the other in the text."""
    stop = np.cumsum([len(t) for t in tokens]).astype(int)
    start = stop - [len(t) for t in tokens]
    coords = {"source_token": ("source", np.array(tokens)), "source_start": ("source", start)}
    values = np.zeros((len(tokens), 2)) if score is None else score
    return xr.Dataset(
        {"score": (("source", "target"), values)},
        coords={**coords, "source_stop": ("source", stop)},
        attrs={"prompt_text": text},
    )


def test_sparsify_by_hand():
    np.testing.assert_array_equal(sparsify(scores(RAW), threshold=0), LEVELS)
    np.testing.assert_array_equal(sparsify(scores(RAW)), CUT)
    assert sparsify(scores(RAW)).attrs == {"levels": 10, "threshold": 7}


def test_a_density_is_labelled_with_its_tokens():
    ds = result([" a", " b", " a"], " a b a", score=RAW)
    density = importance_density(ds)
    assert density.dims == ("source",)
    assert density.to_series().index.tolist() == [" a", " b", " a"]
    np.testing.assert_array_equal(density.to_series(), importance_density(scores(RAW)))
    assert {"source", "source_token", "source_start", "source_stop"} == set(density.coords)
    assert density["source_start"].values.tolist() == [0, 2, 4]
    mask = span_mask(ds, Prompt(" a b a", instruction="b"))
    assert span_score(density, mask) == span_score(importance_density(scores(RAW)), mask)
    assert set(importance_density(scores(RAW)).coords) == set()


def test_density_by_hand():
    a = importance_density(scores(RAW))
    # ||(8, 10)||_4 = (4096 + 10000) ** .25
    np.testing.assert_allclose(a, [10 / 10, 18 / 14096**0.25, 8 / 8], rtol=1e-9)
    np.testing.assert_allclose(importance_density(scores(RAW), threshold=0, p=2)[1], 23 / np.sqrt(64 + 100 + 25))


def test_equal_importance_for_k_targets_is_k_to_the_three_quarters():
    np.testing.assert_allclose(importance_density(scores(np.full((1, 16), 0.3))), [16**0.75], rtol=1e-9)


def test_score_by_hand():
    a = xr.DataArray([1.0, 2.0, 4.0, 0.0], dims="source")
    mask = xr.DataArray([True, False, True, False], dims="source")
    assert span_score(a, mask) == pytest.approx((0.25 + 1.0) / np.log2(4))
    assert span_score(a, ~mask) == pytest.approx((0.5 + 0.0) / np.log2(4))
    assert span_score(a, mask & ~mask) == 0.0
    assert span_score(a * 0, mask) == 0.0


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_score(shape):
    empty = scores(np.zeros(shape))
    assert sparsify(empty).shape == shape
    a = importance_density(empty)
    assert a.shape == shape[:1] and not a.any()
    mask = xr.DataArray(np.ones(shape[0], bool), dims="source")
    assert span_score(a, mask) == 0.0
    assert np.isnan(span_profile(empty, mask)).all()


def test_levelled_scores_are_not_levelled_again():
    tiny = LEVELS[:, [1, 2]]  # the second column's largest level is 5
    for known in (
        scores(tiny, levels=10),
        scores(tiny),
        scores(tiny.astype(np.int64)),
        scores(tiny.astype(np.float32)),
    ):
        np.testing.assert_array_equal(sparsify(known, threshold=0), tiny)
    np.testing.assert_array_equal(sparsify(sparsify(scores(RAW))), CUT)
    xr.testing.assert_equal(importance_density(sparsify(scores(RAW), threshold=0)), importance_density(scores(RAW)))
    ds = xr.Dataset({"score": scores([[5.0]])}, attrs={"levels": 10})
    assert sparsify(ds, threshold=4).item() == 5
    assert sparsify(ds["score"], threshold=4).item() == 10  # without the mark: raw
    assert sparsify(ds["score"], threshold=4, levelled=True).item() == 5


def test_small_whole_numbers_are_raw():
    np.testing.assert_array_equal(sparsify(scores([[4, 0], [2, 1]]), threshold=0), [[10, 0], [5, 10]])
    np.testing.assert_array_equal(
        sparsify(scores([[10.0, 5], [5, 1]]), threshold=0, levelled=False), [[10, 10], [5, 2]]
    )


def test_levels_and_cut_offs_that_cannot_be_had():
    with pytest.raises(ResultError, match="in 10 levels, so levels=5"):
        sparsify(scores(LEVELS, levels=10), levels=5, threshold=2)
    with pytest.raises(ResultError, match="already cut off"):
        importance_density(sparsify(scores(RAW)), threshold=3)
    with pytest.raises(ResultError, match="between 0 and the levels"):
        sparsify(scores(RAW), threshold=11)
    with pytest.raises(ResultError, match="p >= 1"):
        importance_density(scores(RAW), p=0.5)


def test_wrong_results():
    with pytest.raises(ResultError, match="NaN"):
        sparsify(scores([[np.nan]]))
    with pytest.raises(ResultError, match="NaN"):
        importance_density(scores([[np.inf]]))
    with pytest.raises(ResultError, match="axes"):
        sparsify(xr.DataArray(np.zeros((2, 2)), dims=("a", "b")))
    with pytest.raises(ResultError, match="variable 'score'"):
        sparsify(xr.Dataset({"other": scores(RAW)}))
    with pytest.raises(ResultError, match="lacks source_start, source_stop, attrs"):
        span_mask(xr.Dataset({"score": scores(RAW)}), Prompt("x"))
    with pytest.raises(ResultError, match="mask of 3 booleans"):
        span_score(importance_density(scores(RAW)), xr.DataArray([True, False], dims="source"))
    with pytest.raises(ResultError, match="finite importance density"):
        span_score(xr.DataArray([np.nan], dims="source"), xr.DataArray([True], dims="source"))
    with pytest.raises(ResultError, match="outside their text"):
        span_mask(result(["abc"], "ab"), Prompt("ab"))
    with pytest.raises(ResultError, match="outside the text"):
        overlaps("abc", np.array([0]), np.array([3]), [(1, 9)])
    with pytest.raises(ResultError, match="at least one"):
        span_profile(scores(RAW), xr.DataArray([True] * 3, dims="source"), bins=0)


def test_axes_may_come_in_any_order():
    xr.testing.assert_equal(importance_density(scores(RAW).T), importance_density(scores(RAW)))


def test_mask_by_characters():
    tokens = ["Trans", "late", " it", " ", "\n", " into", " French", "."]
    text = "".join(tokens)
    prompt = Prompt(text, instruction=["late it \n", "French"], context=[(len(text) - 1, len(text))])
    np.testing.assert_array_equal(span_mask(result(tokens, text), prompt), [0, 1, 1, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(span_mask(result(tokens, text), prompt, "context"), [0, 0, 0, 0, 0, 0, 0, 1])


def test_leading_white_space_does_not_count():
    tokens = ["a", " b", " c"]
    space = Prompt("a b c", instruction=[(0, 2)])  # ends after the space that the token " b" starts with
    np.testing.assert_array_equal(span_mask(result(tokens, "a b c"), space), [True, False, False])


def test_mask_of_another_text():
    with pytest.raises(ResultError, match="after formatting"):
        span_mask(result(["User: ", "hi"], "User: hi"), Prompt("hi", instruction=["hi"]))


def test_tokens_that_share_a_character_are_both_inside():
    ds = result(["é", "!"], "é!").isel(source=[0, 0, 1])  # two byte tokens of one character
    np.testing.assert_array_equal(span_mask(ds, Prompt("é!", instruction=["é"])), [True, True, False])


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=12), st.data())
def test_mask_is_what_a_loop_over_characters_finds(tokens, data):
    text = "".join(tokens)
    edges = st.integers(0, len(text))
    spans = [tuple(sorted(pair)) for pair in data.draw(st.lists(st.tuples(edges, edges), max_size=3))]
    stop = np.cumsum([len(t) for t in tokens]).astype(int)
    start = stop - [len(t) for t in tokens]
    expected = []
    for token, first, last in zip(tokens, start, stop, strict=True):
        first += len(token) - len(token.lstrip())
        expected.append(any(s <= i < e for i in range(first, last) for s, e in spans))
    assert overlaps(text, start, stop, spans).tolist() == expected


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_score_is_bounded_and_ignores_scale(sources, targets, seed):
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(sources, targets))
    mask = xr.DataArray(rng.random(sources) < 0.5, dims="source")
    score = span_score(importance_density(scores(raw)), mask)
    size = int(mask.sum())
    assert 0 <= score <= size / np.log2(2 + size) + 1e-12
    assert span_score(importance_density(scores(raw * 1024)), mask) == pytest.approx(score)


def test_profile_by_hand():
    mask = xr.DataArray([True, False, False], dims="source")
    # on token 0: 10 of 18, 0 of 18, then two targets without any importance
    np.testing.assert_allclose(target_share(scores(RAW), mask), [10 / 18, 0, np.nan, np.nan])
    two = span_profile(scores(RAW), mask, bins=2)
    np.testing.assert_allclose(two, [(10 / 18 + 0) / 2, np.nan])
    np.testing.assert_allclose(two.position, [0.25, 0.75])
    np.testing.assert_allclose(span_profile(scores(RAW), mask, bins=8)[:5], [10 / 18, 10 / 18, 0, 0, np.nan])
    # three bins over four targets: the first holds target 0 and a third of target 1
    np.testing.assert_allclose(span_profile(scores(RAW), mask, bins=3)[:2], [10 / 18 * 3 / 4, 0])


def test_profile_of_everything_is_one():
    profile = span_profile(scores(np.abs(RAW[:2, :2]) + 1), xr.DataArray([True, True], dims="source"), bins=7)
    np.testing.assert_allclose(profile, 1)
