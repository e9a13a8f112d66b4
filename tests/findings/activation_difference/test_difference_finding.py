"""The finding: tests by position, words against their nulls, the dial, the verdict and what is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from itlens import ProbeError, ResultError, diff, views
from itlens.findings.activation_difference.columns import PLACE_COLUMNS
from itlens.findings.activation_difference.diff import dial_effects, difference_places, difference_words
from itlens.findings.activation_difference.finding import FINDING, ActivationDifferenceOptions
from itlens.findings.activation_difference.probe import difference_numbers
from itlens.findings.base import Plan
from itlens.prompts.texts import load_texts
from itlens.report.blocks import Card, Figure, Table, Text
from itlens.stats.p_values import share_interval
from itlens.stats.paired import paired_cells

LENSES = ("base", "tuned", "patchscope")


def plan(**changes: Any) -> Plan:
    texts = load_texts(limit=3)
    return Plan(ActivationDifferenceOptions(texts=texts), {}, seed=3, side="pair", layers=(0, 1, 2, 3), **changes)


def made(base: np.ndarray, tuned: np.ndarray, *, percentile: float = 0.9, draws: int = 40) -> xr.Dataset:
    """A result of `itlens.activation_difference` on these streams (text, position, d_model)."""
    numbers = difference_numbers(base, tuned, seed=0)
    names = list(numbers.directions)
    shape = (len(LENSES), len(names))
    null = np.tile(np.linspace(0.3, 0.7, draws), (3, 1))
    there = bool(numbers.difference.any())
    texts = np.array([f"text-{number:04d}" for number in range(len(base))], dtype=object)
    words = np.full((*shape, 2), "", dtype=object)
    words[...] = [" write", "<b>"] if there else ["", ""]
    return xr.Dataset(
        {
            "difference": (("position", "d_model"), numbers.difference),
            "text_norm": (("text", "position"), numbers.text_norm),
            "base_norm": (("text", "position"), numbers.base_norm),
            **{f"{side}_projection": (("text", "place"), values) for side, values in numbers.projections.items()},
            "norm": ("place", numbers.norm),
            "half_cosine": ("place", numbers.half_cosine),
            "constant_norm": ("place", numbers.constant_norm),
            "half_norm": (("half", "place"), numbers.half_norm),
            "spectrum": ("component", numbers.spectrum),
            "spectrum_texts": ("component", numbers.spectrum_texts),
            "word": (("lens", "direction", "rank"), words),
            "instruction_share": (("lens", "direction"), np.full(shape, 0.5 if there else np.nan)),
            "instruction_percentile": (("lens", "direction"), np.full(shape, percentile if there else np.nan)),
            **{f"{name}_share": (("lens", axis), 0 * null) for name, axis in (("random", "draw"), ("half", "part"))},
            **{f"{name}_percentile": (("lens", axis), null) for name, axis in (("random", "draw"), ("half", "part"))},
            "instruction_tokens": ((), 30),
        },
        coords={
            "text": texts,
            "position": np.arange(base.shape[1]),
            "place": np.array(["mean", *map(str, range(base.shape[1]))], dtype=object),
            "component": np.arange(1, len(numbers.spectrum) + 1),
            "lens": np.array(LENSES, dtype=object),
            "direction": np.array(names, dtype=object),
        },
        attrs={"probe": "activation_difference", "layer": 2, "layers": 4, "positions": base.shape[1], "first": 0,
               "texts": len(base), "note": ""},
    )  # fmt: skip


def streams(texts: int = 40, shift: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Base streams by chance, tuned ones with some noise and `shift` more in the first dimension."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((texts, 3, 8)) + 5
    tuned = base + 0.5 * rng.standard_normal(base.shape)
    tuned[:, :, 0] += shift
    return base, tuned


def dial(gain: float = 0.3, prompts: int = 8) -> xr.Dataset:
    """The base gains `gain` nats a unit of strength beyond random directions, the tuned model loses nothing."""
    rng = np.random.default_rng(1)
    strengths = np.array([0.0, 0.5, 1, 2])
    noise = 0.01 * rng.standard_normal((prompts, 2, 3, 4))
    noise[..., 0] = 0
    values = rng.normal(-3, 1, (prompts, 1, 1, 1)) + noise
    values[:, 0, 0] += gain * strengths
    coords = {
        "prompt": [f"p{number}" for number in range(prompts)],
        "model": np.array(["base", "tuned"], dtype=object),
        "direction": np.array(["difference", "random 1", "random 2"], dtype=object),
        "strength": strengths,
    }
    axes = ("prompt", "model", "direction", "strength")
    ds = xr.Dataset({"logprob": (axes, values), "kl": (axes, -values)}, coords=coords)
    return ds.assign_attrs(probe="difference_dial", note="")


def test_the_score_is_tested_on_the_prompts_that_have_one() -> None:
    turned = dial()
    score = xr.where(np.arange(8)[:, None, None, None] < 6, 0.5 + 0.1 * turned["logprob"], np.nan)
    turned = turned.assign(score=score.assign_attrs(turned["logprob"].attrs)).assign_attrs(turned.attrs)
    found = tables(made(*streams()), turned)
    row = found["dial_effects"].set_index(["statistic", "model", "strength"]).loc[("score", "base", 1.0)]
    logprob = turned["logprob"].sel(model="base", direction="difference").values[:6]
    assert row["n"] == 6
    assert row["change"] == pytest.approx(0.1 * (logprob[:, 2] - logprob[:, 0]).mean())
    assert row["plain"] == pytest.approx(0.5 + 0.1 * logprob[:, 0].mean())
    verdict = FINDING.verdict(found)
    (headline,) = [each for each in verdict.numbers if each.name.startswith("instruction score, base with")]
    assert (headline.value, headline.n) == (pytest.approx(row["change"]), 6)
    blocks = FINDING.show(found)
    (table,) = [each for each in blocks if isinstance(each, Table) and each.title.startswith("The instruction score")]
    assert set(table.data["statistic"]) == {"score"}
    titles = [note.text for note in views.difference_dial(found["dial_effects"]).layout.annotations]
    assert "instruction score (6 prompts)" in titles


def tables(ad: xr.Dataset, turned: xr.Dataset | None = None) -> Any:
    saved = {"difference": ad} | ({} if turned is None else {"dial": turned})
    return FINDING.compare({"pair": saved}, plan())


@pytest.fixture(scope="module")
def found() -> Any:
    return tables(made(*streams()), dial())


def test_the_direction_is_tested_on_texts_that_did_not_choose_it(found: Any) -> None:
    row = found["difference_places"].iloc[0]
    assert (row["place"], row["n"]) == ("mean", 20)
    assert row["difference"] == pytest.approx(2.0, abs=0.2)
    assert row["ci_low"] < row["difference"] < row["ci_high"]
    assert row["relative"] == pytest.approx(row["norm"] / row["base_size"])
    assert row["half_cosine"] > 0.98
    assert row["norm"] > row["half_high"]


def test_percentiles_have_the_p_of_their_null() -> None:
    table = difference_words(made(*streams(), percentile=0.69))
    row = table.iloc[0]
    assert row["words"] == "write · <b>"
    assert row["p_percentile"] == pytest.approx((1 + 1) / 41), "one of 40 draws from 0.3 to 0.7 is as high as 0.69"
    assert row["p_share"] == pytest.approx(1 / 41)
    assert row["random_percentile"] == pytest.approx(0.5)
    assert row["p_bh"] >= row["p_percentile"]


def test_the_larger_p_of_both_nulls_counts() -> None:
    """All random directions are below 0.7, and a quarter of the differences between halves above 0.9."""
    ad = made(*streams(), percentile=0.9)
    ad["half_percentile"] = ("lens", "other"), np.tile([0.2, 0.4, 0.6, 0.95], (3, 5))
    row = difference_words(ad).iloc[0]
    assert row["p_percentile"] == pytest.approx((1 + 5) / 21)
    assert "rank not significantly higher there than under" in FINDING.verdict(tables(ad)).sentence


def test_positions_show_the_p_that_is_corrected_over_them(found: Any) -> None:
    places = found["difference_places"].assign(p_paired=[0.012, 0.013, 0.014, 0.015], p_holm=[np.nan, 0.04, 0.05, 0.06])
    (column,) = (column for column in PLACE_COLUMNS if column.heading == "p")
    assert [column.format(row) for _, row in places.iterrows()] == ["0.012", "0.040", "0.050", "0.060"]
    fig = views.activation_difference(places, found["difference_spectrum"])
    assert "p 0.040 (Holm over positions)" in fig.data[0].customdata[0]


def test_the_dial_is_tested_against_the_plain_model(found: Any) -> None:
    rows = found["dial_effects"].set_index(["statistic", "model", "strength"])
    one = rows.loc[("logprob", "base", 1.0)]
    assert one["change"] == pytest.approx(0.3, abs=0.02)
    assert one["random_change"] == pytest.approx(0, abs=0.02)
    assert one["change_p_holm"] < 0.001
    assert rows.loc[("logprob", "tuned", 1.0), "change_p_holm"] > 0.05
    assert rows.loc[("kl", "base", 2.0), "change"] == pytest.approx(-0.6, abs=0.02)


def test_random_directions_are_a_range_and_no_test() -> None:
    """Of two random directions one moves every prompt by +0.1, the other by +0.5."""
    turned = dial()
    turned["logprob"][:] = turned["logprob"].isel(strength=0)
    turned["logprob"][:, 0, 1, 2], turned["logprob"][:, 0, 2, 2] = (
        turned["logprob"][:, 0, 0, 0] + change for change in (0.1, 0.5)
    )
    row = dial_effects(turned).set_index(["statistic", "model", "strength"]).loc[("logprob", "base", 1.0)]
    ends = [row[f"random_change{end}"] for end in ("_low", "", "_high")]
    np.testing.assert_allclose(ends, [0.1, 0.3, 0.5])
    assert not {"contrast", "p_holm"} & set(row.index), "three fixed directions are no sample"


def test_the_same_change_in_every_prompt_is_said() -> None:
    turned = dial()
    turned["logprob"].values[:, 0, 0] = turned["logprob"].values[:, 0, 0, :1] + [0, 0.25, 0.5, 1.0]
    sentence = FINDING.verdict(tables(made(*streams()), turned)).sentence
    assert "log-probability by +0.500 nats [+0.500, +0.500], the same in every prompt (random" in sentence


def test_the_verdict_says_size_words_and_effect(found: Any) -> None:
    verdict = FINDING.verdict(found)
    assert verdict.direction == "changed"
    energy = found["difference_spectrum"]["share"][0]
    assert energy == pytest.approx(4.25 / 6, abs=0.03), "2 in one of 8 dimensions, with noise of 0.5 in all"
    assert verdict.sentence.startswith(
        "The streams differ at the first positions of 40 unrelated texts, before block 2, with a constant part of "
        f"14.0 % of the base's length, mostly in one direction ({100 * energy:.1f} % of the energy in the first "
        "direction, cosine of two halves of the texts 0.99; projection +1.9"
    )
    null = "random directions and differences between halves of the texts within the base"
    test = "one test, uncorrected p = 0.024"
    assert f"Instruction words rank significantly higher there than under {null} ({test})" in verdict.sentence
    assert "log-probability by +0.29" in verdict.sentence
    assert verdict.sentence.count(". ") == 1, "two sentences at most"
    assert [number.unit for number in verdict.numbers] == ["", "%", "%", "%", "nats"]


@pytest.mark.parametrize("length", [0.0, 1.0, 1.5])
def test_noise_does_not_lengthen_the_constant_part(length: float) -> None:
    """In 512 dimensions the noise of 200 texts makes the mean difference 1.6 long by itself."""
    rng = np.random.default_rng(0)
    base = 2 * rng.standard_normal((200, 1, 512))
    tuned = base + rng.standard_normal(base.shape)
    tuned[:, :, 0] += length
    found = tables(made(base, tuned))
    row = found["difference_places"].iloc[0]
    assert row["constant"] * row["base_size"] == pytest.approx(length, abs=0.45)
    assert row["norm"] > 1.5
    verdict = FINDING.verdict(found)
    assert verdict.direction == ("changed" if length else "none")
    assert "one direction" not in verdict.sentence


def test_the_same_difference_in_every_text_is_significant() -> None:
    """Whole numbers, so that differences are exactly equal: the t test has no p then."""
    base = np.random.default_rng(0).integers(-8, 8, (40, 3, 16)).astype(float)
    found = tables(made(base, base + 4 * np.eye(16)[3]))
    assert np.isnan(found["difference_places"]["p_paired"][0])
    verdict = FINDING.verdict(found)
    assert verdict.direction == "changed"
    assert "mostly in one direction (100.0 % of the energy in the first direction" in verdict.sentence
    assert "projection +4.00 [+4.00, +4.00], the same in every text)" in verdict.sentence


def test_equal_models_have_not_changed() -> None:
    base, _ = streams()
    verdict = FINDING.verdict(tables(made(base, base)))
    assert (verdict.direction, verdict.tested) == ("none", True)
    assert verdict.sentence == (
        "No significant difference at the first positions of 40 unrelated texts, before block 2 (the streams are the "
        "same, n = 20 texts that did not choose the direction)."
    )


def test_few_texts_are_not_tested() -> None:
    verdict = FINDING.verdict(tables(made(*streams(texts=6))))
    assert not verdict.tested
    assert verdict.sentence.startswith("Not tested: too few texts for a test (n=3, at least 5 needed), at the first")


def test_exchanged_models_keep_five_percent() -> None:
    """Which model is called base is drawn for each text: there is no direction then."""
    rng, small, tests = np.random.default_rng(2), 0, []
    for draw in range(200):
        base, tuned = streams(shift=1.0, seed=draw)
        swapped = rng.random(len(base)) < 0.5
        base[swapped], tuned[swapped] = tuned[swapped], base[swapped].copy()
        numbers = difference_numbers(base, tuned, seed=draw)
        sides = (numbers.projections[side] for side in ("base", "tuned"))
        p = paired_cells(*sides, resamples=2)["p_paired"]
        tests.append((p < 0.05).sum())
        small += p.size
    low, high = share_interval(np.array(tests), np.full(200, small // 200))
    assert low < 0.06, f"[{low:.3f}, {high:.3f}] of the p-values are below 0.05"
    assert high > 0.03, f"[{low:.3f}, {high:.3f}] of the p-values are below 0.05"


def test_the_section_shows_cards_figures_and_tables(found: Any) -> None:
    kinds = [type(block) for block in FINDING.show(found)]
    assert kinds == [*[Card] * 4, Text, Figure, Table, Figure, Table, Table, Table, Table]
    without = [type(block) for block in FINDING.show(tables(made(*streams())))]
    assert without == [*[Card] * 3, Text, Figure, Table, Table, Table, Table]


def test_the_figures_draw_the_numbers(found: Any) -> None:
    fig = views.activation_difference(found["difference_places"], found["difference_spectrum"])
    bars = next(trace for trace in fig.data if trace.type == "bar")
    np.testing.assert_allclose(bars.y, found["difference_places"]["norm"][1:])
    shares = next(trace for trace in fig.data if trace.type == "scatter" and trace.name == "tuned − base")
    np.testing.assert_allclose(shares.y, 100 * found["difference_spectrum"]["share"])
    turned = views.difference_dial(found["dial_effects"])
    line = next(trace for trace in turned.data if trace.name == "added to the base")
    np.testing.assert_allclose(line.y, [0, 0.15, 0.3, 0.6], atol=0.03)


def test_other_results_are_refused() -> None:
    for function in (difference_places, difference_words, diff.difference_spectrum):
        with pytest.raises(ResultError, match=r"takes a Dataset of itlens\.activation_difference; got a str"):
            function("nothing")  # type: ignore[operator]
    with pytest.raises(ResultError, match=r"needs constant_norm, .* run itlens\.activation_difference again"):
        difference_places(made(*streams()).drop_vars("constant_norm"))
    with pytest.raises(ResultError, match="dial_effects takes"):
        dial_effects(xr.Dataset())
    with pytest.raises(ResultError, match=r"views\.activation_difference needs the columns"):
        views.activation_difference(1, 2)  # type: ignore[arg-type]


def test_notes_and_layers_that_are_not_there(found: Any) -> None:
    assert FINDING.notes(found, plan()) == []
    ad = found["activation_difference"].assign_attrs(note="1 of 3 texts are left out")
    notes = FINDING.notes({**found, "activation_difference": ad.assign(instruction_tokens=((), 0))}, plan())
    assert notes[0] == "Activation difference: 1 of 3 texts are left out."
    assert "no instruction verb is one token" in notes[1]
    beyond = Plan(ActivationDifferenceOptions(texts=load_texts(limit=3), difference_layer=4), {}, layers=(0, 1, 2, 3))
    with pytest.raises(ProbeError, match="difference_layer=4 is not there; the models have layers 0 to 3"):
        FINDING.check(beyond)
    with pytest.raises(ProbeError, match=r"plan\.reading is None"):
        FINDING.run(None, "difference", plan())  # type: ignore[arg-type]
