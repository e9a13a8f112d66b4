"""The diff of attributions: planted and absent differences, alignment, lengths, groups, ratings, settings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens import Prompt
from itlens.diff import AttributionDiff, attributions, verdict
from itlens.errors import ResultError
from itlens.findings.attribution.diff_scores import count_score, level_counts
from itlens.results.density import importance_density, span_mask, span_profile, span_score
from itlens.stats.paired import PAIRED_COLUMNS

pytestmark = pytest.mark.filterwarnings("error")

WORDS = ["Name", " the", " colour", " of", " snow", "."]
TEXT = "".join(WORDS)
FAST = {"resamples": 500}


def prompt(k, group="", rating=None):
    return Prompt(TEXT, instruction=["Name the colour"], id=f"p{k}", group=group, rating=rating)


def attribution(k, score, model="base", **attrs):
    stop = np.cumsum([len(w) for w in WORDS])
    coords = {"source_start": ("source", stop - [len(w) for w in WORDS]), "source_stop": ("source", stop)}
    known = {"prompt_id": f"p{k}", "prompt_text": TEXT, "model": model, "method": "input_x_gradient", "finish": "eos"}
    return xr.Dataset({"score": (("source", "target"), np.asarray(score, float))}, coords, {**known, **attrs})


def maps(n, lean=0.0, targets=20, model="base", seed=0, first=0, noise=1.0):
    """n random maps, the scores of whose three instruction tokens are raised by `lean`."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(first, first + n):
        score = 1 + rng.random((len(WORDS), targets)) * noise
        score[:3] += lean
        made.append(attribution(k, score, model))
    return made


def prompts(n, groups=("a", "b")):
    return [prompt(k, groups[k % len(groups)]) for k in range(n)]


def test_a_planted_difference_is_found():
    diff = attributions(maps(30), maps(30, lean=0.5, model="tuned", seed=1), prompts(30), **FAST)
    row = diff.groups.iloc[0]
    assert row["difference"] > 0.05 and row["p_paired"] < 1e-6 and row["p_welch"] < 1e-6 and row["ci_low"] > 0
    assert diff.groups["group"].tolist() == ["all", "a", "b"] and diff.groups["n"].tolist() == [30, 15, 15]
    assert (diff.sensitivity.difference.sel(threshold=slice(3, 9)) > 0).all()
    assert (diff.profile.share.sel(model="tuned") > diff.profile.share.sel(model="base")).all()
    assert verdict(diff).startswith("The tuned model leans more on the instruction than the base")
    assert "It holds at equal response length and at" in verdict(diff)


def test_the_other_direction():
    diff = attributions(maps(20, lean=0.5), maps(20, seed=1), prompts(20), **FAST)
    assert diff.groups.iloc[0]["difference"] < 0 and diff.groups.iloc[0]["p_welch"] > 0.99
    assert verdict(diff).startswith("The tuned model leans less on the instruction")


def test_no_difference_is_not_found():
    diff = attributions(maps(20), maps(20, seed=1), prompts(20), **FAST)
    assert diff.groups.iloc[0]["p_paired"] > 0.05
    assert verdict(diff).startswith("No significant change of the instruction score: ")


def test_an_identical_pair():
    diff = attributions(maps(8), maps(8), prompts(8), **FAST)
    assert (diff.prompts["difference"] == 0).all() and (diff.groups["p_paired"].dropna() == 1).all()
    assert (diff.sensitivity.difference == 0).all() and (diff.sensitivity.p_paired == 1).all()
    assert diff.regression.set_index("term")["coefficient"]["intercept"] == 0
    assert verdict(diff) == "No change: the instruction score is the same in every prompt (8 prompts)."


def test_too_few_prompts():
    diff = attributions(maps(2), maps(2, lean=0.5, seed=1), prompts(2), **FAST)
    assert diff.groups["note"].str.startswith("too few prompts for a test").all()
    assert diff.groups.loc[0, "note"] == "too few prompts for a test (n=2, at least 5 needed)"
    tests = [c for c in diff.groups if c.startswith(("t_", "p_", "w_", "ci_", "effect"))]
    assert diff.groups[tests].isna().all().all() and diff.groups["difference"].notna().all()
    assert diff.sensitivity[["t_paired", "p_paired", "p_welch"]].to_array().isnull().all()
    assert diff.regression["p"].isna().all() and "too few" in diff.regression.attrs["note"]
    assert verdict(diff).startswith("Not tested: too few prompts for a test (n=2, at least 5 needed); mean difference ")


def test_a_doubtful_difference_says_so():
    base = maps(20, targets=8)
    more = maps(20, lean=2, targets=24, seed=1)  # only what comes after the base response's length leans more
    tuned = [xr.concat([b, m], "target", coords="minimal", compat="override") for b, m in zip(base, more, strict=True)]
    diff = attributions(base, tuned, prompts(20), **FAST)
    assert diff.groups.loc[0, "p_paired"] < 0.05 and diff.equal_length.loc[0, "difference"] == 0
    assert "It does not hold at equal response length (p = 1.00, +0.00)" in verdict(diff)


def test_a_difference_that_turns_round_at_equal_length_says_so():
    """The base writes fifty times as much, which raises its density; token for token the tuned model leans more."""
    tuned = maps(30, lean=0.5, targets=4, model="tuned", seed=1)
    diff = attributions(maps(30, targets=200), tuned, prompts(30), **FAST)
    assert diff.groups.loc[0, "difference"] < 0 and diff.groups.loc[0, "p_paired"] < 0.01
    assert diff.equal_length.loc[0, "difference"] > 0 and diff.equal_length.loc[0, "p_paired"] < 0.01
    sentence = verdict(diff)
    assert sentence.startswith("Whether the tuned model leans more on the instruction depends on how much the models")
    assert "base 200.0 tokens, tuned 4.0 on average" in sentence
    assert sentence.index("is lower over whole responses (") < sentence.index(
        "and higher over the same number of tokens ("
    )


def test_a_difference_of_length_says_so():
    rng = np.random.default_rng(0)
    base, tuned = maps(40, targets=20), []
    for k in range(40):  # the longer the tuned response, the more it leans; at equal length (20) not at all
        targets = int(rng.integers(20, 80))
        score = 1 + rng.random((len(WORDS), targets))
        score[:3] += np.log(targets / 20) / 2
        tuned.append(attribution(k, score))
    diff = attributions(base, tuned, prompts(40), **FAST)
    terms = diff.regression.set_index("term")
    assert terms["coefficient"]["log_length_ratio"] > 0 and terms["p"]["intercept"] > 0.05
    assert diff.groups.loc[0, "p_paired"] < 0.05 and "with response lengths as controls (p = " in verdict(diff)


def test_prompt_scores_are_those_of_density():
    base, tuned = maps(6), maps(6, lean=0.3, seed=2, targets=33)
    diff = attributions(base, tuned, prompts(6), threshold=5, p=3, **FAST)
    for k in range(6):
        for name, ds in (("base", base[k]), ("tuned", tuned[k])):
            mask = span_mask(ds, prompt(k))
            expected = span_score(importance_density(ds, threshold=5, p=3), mask)
            assert diff.prompts.loc[k, name] == pytest.approx(expected, rel=1e-9)
    sizes = diff.prompts[["base_targets", "tuned_targets", "instruction_tokens", "prompt_tokens"]]
    assert (sizes == [20, 33, 3, 6]).all().all() and (diff.prompts["tuned_finish"] == "eos").all()


def test_counting_levels_is_the_same_as_norms():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 11, (7, 40))
    mask = rng.random(7) < 0.5
    score = xr.DataArray(levels, dims=("source", "target"), attrs={"levels": 10})
    for b in range(10):
        for p in (1, 2, 4, 8):
            direct = span_score(importance_density(score, threshold=b, p=p), xr.DataArray(mask, dims="source"))
            assert count_score(level_counts(levels, 10), mask, b, p) == pytest.approx(direct, rel=1e-9)


def test_the_grid_holds_the_main_test():
    diff = attributions(maps(12), maps(12, lean=0.2, seed=3), prompts(12), **FAST)
    cell, row = diff.sensitivity.sel(threshold=7, power=4), diff.groups.iloc[0]
    assert dict(diff.sensitivity.sizes) == {"threshold": 10, "power": 3}
    for name in ("difference", "base_mean", "tuned_mean", "t_paired", "p_paired", "effect_size", "t_welch", "p_welch"):
        assert float(cell[name]) == pytest.approx(row[name])


def test_alignment_is_by_id_and_never_by_position():
    base, tuned = maps(6), maps(6, lean=0.4, seed=1)
    there = attributions(base, tuned, prompts(6), **FAST).prompts.set_index("id")
    mixed = attributions(
        {d.attrs["prompt_id"]: d for d in reversed(base)}, iter(tuned), list(reversed(prompts(9))), **FAST
    )
    pd.testing.assert_frame_equal(mixed.prompts.set_index("id").loc[there.index], there)


def test_what_does_not_match():
    with pytest.raises(ResultError, match=r"1 prompts have base results but no tuned ones: p2"):
        attributions(maps(3), maps(2))
    with pytest.raises(ResultError, match=r"7 prompts have tuned .* p1, p2, p3, p4, p5 and 2 more"):
        attributions(maps(1), maps(8))
    with pytest.raises(ResultError, match=r"results but no prompt: p1, p2"):
        attributions(maps(3), maps(3), prompts(1))
    with pytest.raises(ResultError, match="'p0' twice"):
        attributions(maps(1) * 2, maps(1))
    with pytest.raises(ResultError, match="the id 'p0'"):
        attributions(maps(1), maps(1), [prompt(0), prompt(0)])
    with pytest.raises(ResultError, match="under 'x' belongs to the prompt 'p0'"):
        attributions({"x": maps(1)[0]}, maps(1))
    with pytest.raises(ResultError, match="no attrs"):
        attributions([attribution(0, np.ones((6, 2)), prompt_id="")], maps(1))
    with pytest.raises(ResultError, match="one Dataset"):
        attributions(maps(1)[0], maps(1))
    with pytest.raises(ResultError, match="both sides are empty"):
        attributions([], [])
    with pytest.raises(ResultError, match=r"differ in method \(input_x_gradient, saliency\)"):
        attributions(maps(1), [maps(1)[0].assign_attrs(method="saliency")])
    with pytest.raises(ResultError, match="p0: pass prompts="):
        attributions(maps(1), maps(1))
    with pytest.raises(ResultError, match="p0 has no instruction tokens"):
        attributions(maps(1), maps(1), [Prompt(TEXT, id="p0")])
    with pytest.raises(ResultError, match="p0: This result was computed on"):
        attributions(maps(1), maps(1), [Prompt("x" + TEXT, instruction=["x"], id="p0")])


def test_masks_may_come_with_the_results():
    inside = ("source", [True] * 3 + [False] * 3)
    base, tuned = ([d.assign_coords(instruction=inside) for d in maps(5, seed=s)] for s in (0, 1))
    with_masks, with_prompts = attributions(base, tuned, **FAST), attributions(base, tuned, prompts(5), **FAST)
    pd.testing.assert_series_equal(with_masks.prompts["difference"], with_prompts.prompts["difference"])
    assert with_masks.groups["group"].tolist() == ["all"]


def test_an_empty_response_scores_zero():
    tuned = [attribution(0, np.zeros((6, 0)), finish="empty"), *maps(7, seed=1, first=1)]
    diff = attributions(maps(8), tuned, prompts(8), **FAST)
    assert diff.prompts.loc[0, "tuned"] == 0 and diff.prompts.loc[0, "tuned_finish"] == "empty"
    assert diff.groups.loc[0, "n"] == 8
    assert diff.equal_length.loc[0, "n"] == diff.regression.attrs["n"] == 7
    assert diff.profile.n.sel(model="tuned").values.tolist() == [7] * 20


def test_equal_length_cuts_the_longer_response():
    base = maps(8, targets=30)
    tuned = [b.isel(target=slice(12)) for b in base]  # the same start: no difference at equal length
    diff = attributions(base, tuned, prompts(8), **FAST)
    assert (diff.prompts["difference"] != 0).any()
    assert diff.equal_length.loc[0, "difference"] == 0 and diff.equal_length.loc[0, "p_paired"] == 1
    direct = [span_score(importance_density(t), span_mask(t, prompt(0))) for t in tuned]
    assert diff.equal_length.loc[0, "base_mean"] == pytest.approx(np.mean(direct))


def test_holm_is_over_the_groups_only():
    diff = attributions(maps(18), maps(18, lean=0.15, seed=5), prompts(18, ("a", "b", "c")), **FAST)
    p = diff.groups["p_paired"].to_numpy()
    order = np.argsort(p[1:])
    expected = np.maximum.accumulate(np.minimum(1, p[1:][order] * [3, 2, 1]))
    np.testing.assert_allclose(diff.groups["p_holm"].to_numpy()[1:][order], expected)
    assert np.isnan(diff.groups["p_holm"][0])
    assert [c for c in diff.groups if c != "p_holm"] == ["group", *PAIRED_COLUMNS]


def test_profile_is_the_mean_over_prompts():
    base, tuned = maps(6), maps(6, lean=0.3, seed=1, targets=7)
    profile = attributions(base, tuned, prompts(6), **FAST).profile
    expected = np.mean([span_profile(t, span_mask(t, prompt(0))) for t in tuned], axis=0)
    np.testing.assert_allclose(profile.share.sel(model="tuned"), expected)
    assert ((profile.ci_low <= profile.share) & (profile.share <= profile.ci_high)).all()
    assert float(profile.uniform_share) == 0.5 and profile.share.dims == ("model", "position")


def test_ratings():
    rated = [prompt(k, rating=[4, 2, 1, None][k % 4]) for k in range(40)]
    tuned = [maps(1, lean=0.0 if k % 4 == 2 else 0.5, seed=k, first=k)[0] for k in range(40)]
    tuned[0] = tuned[0].isel(target=slice(4))  # under five tokens: left out
    table = attributions(maps(40), tuned, rated, **FAST).ratings
    assert table["model"].tolist() == ["tuned"] and table["followed_n"].tolist() == [19]
    assert table.loc[0, "unfollowed_n"] == 10 and table.loc[0, "difference"] > 0 and table.loc[0, "p_welch"] < 1e-3
    few = attributions(maps(5), tuned[:5], rated[:5], **FAST).ratings
    assert "too few" in few.loc[0, "note"] and np.isnan(few.loc[0, "p_welch"])
    assert attributions(maps(5), tuned[:5], prompts(5), **FAST).ratings is None
    own = [d.assign_attrs(rating=2 - k % 2) for k, d in enumerate(maps(12))]
    assert attributions(own, tuned[:12], prompts(12), **FAST).ratings["model"].tolist() == ["base"]


def test_results_are_reproducible_and_carry_provenance(tmp_path):
    first, second = (attributions(maps(9), maps(9, seed=1, model="t"), prompts(9), seed=7, **FAST) for _ in range(2))
    pd.testing.assert_frame_equal(first.groups, second.groups)
    for result in first:
        if result is not None:
            assert result.attrs["probe"] == "diff.attributions" and result.attrs["tuned_model"] == "t"
            assert (result.attrs["seed"], result.attrs["threshold"], result.attrs["power"]) == (7, 7, 4)
            suffix = ".parquet" if isinstance(result, pd.DataFrame) else ".nc"
            back = itlens.load(itlens.save(result, tmp_path / f"x{suffix}"))
            assert back.equals(result) and back.attrs == result.attrs


def test_it_prints_as_plain_text():
    diff = attributions(maps(6, model="<b>"), maps(6, seed=1), prompts(6, ("<script>",)), **FAST)
    assert isinstance(diff, AttributionDiff)
    assert not hasattr(diff, "_repr_html_")
    assert repr(diff).startswith(verdict(diff))
    assert "<script>" in repr(diff)
    assert len(repr(diff).splitlines()) == 2 + 1 + len(diff.groups)
