"""The finding: tables of tokens, groups and themes, the verdict, and what is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from itlens import ProbeError, ResultError, diff, views
from itlens.findings.base import Plan
from itlens.findings.logit_diff.diff import group_changes, token_changes, token_themes
from itlens.findings.logit_diff.finding import FINDING, LogitDiffOptions
from itlens.report.blocks import Card, Figure, Table, Text
from itlens.report.numbers import percent

WORDS = ["<b>", " sure", " of", "z", "<0xCA>", " the"]
MEANS = np.array([0.5, 2.0, -1.5, 0.1, 3.0, -0.2])


def made(texts: int = 12, p: float = 1e-3, groups: tuple[str, ...] = ("a", "b"), themes: int = 2) -> xr.Dataset:
    """A result of `itlens.logit_diff` of six tokens: the fifth moves most, and no model would say it."""
    p_values = np.where(np.abs(MEANS) > 0.3, p, 0.4)
    tested = np.full(6, np.nan) if texts < 5 else p_values
    likely = np.array([0.1, 0.4, 0.2, 0.1, 0.0, 0.5])
    numbers = {
        "mean": MEANS, "risen": np.clip(MEANS, 0, None) / 4, "fallen": np.clip(-MEANS, 0, None) / 4,
        "text_mean": MEANS, "text_low": MEANS - 0.1, "text_high": MEANS + 0.1, "share_texts": (MEANS > 0).astype(float),
        "share_below": (MEANS < 0).astype(float),
        "p": tested, "p_bh": tested, "likely_base": likely, "likely_tuned": likely,
    }  # fmt: skip
    by_group = (
        np.stack([MEANS + number * np.eye(6)[0] for number in range(len(groups))]) if groups else np.zeros((0, 6))
    )
    return xr.Dataset(
        {name: ("token", values) for name, values in numbers.items()}
        | {
            "word": ("token", np.array(WORDS, dtype=object)),
            "group_mean": (("group", "token"), by_group),
            "group_share": (("group", "token"), (by_group > 0).astype(float)),
            "group_below": (("group", "token"), (by_group < 0).astype(float)),
            "group_p": (("group", "token"), np.full(by_group.shape, p)),
            "group_p_bh": (("group", "token"), np.full(by_group.shape, p)),
            "theme_word": (("theme", "theme_rank"), np.array([[" sure", "<b>"], ["z", ""]], dtype=object)[:themes]),
            "theme_share": ("theme", np.array([0.8, 0.2])[:themes]),
            "theme_group": (("theme", "group"), np.array([[0.9, 0.7], [0.1, 0.3]])[:themes, : len(groups)]),
        },
        coords={
            "token": np.arange(6), "group": np.array(groups, dtype=object), "theme": np.arange(1, themes + 1),
            "group_texts": ("group", np.full(len(groups), texts // 2)),
        },
        attrs={"probe": "logit_diff", "texts": texts, "positions": 10 * texts, "top": 2, "vocabulary": 6},
    )  # fmt: skip


def plan(**changes: Any) -> Plan:
    return Plan(LogitDiffOptions(), {}, seed=3, side="pair", **changes)


def tables(ld: xr.Dataset) -> Any:
    return FINDING.compare({"pair": {"tokens": ld}}, plan())


@pytest.fixture(scope="module")
def found() -> Any:
    return tables(made())


def test_tokens_that_no_model_would_say_are_not_listed(found: Any) -> None:
    changes = found["token_changes"]
    assert changes["word"].tolist() == [" sure", "<b>", "z", " of", " the"]
    assert changes["change"].tolist() == ["risen"] * 3 + ["fallen"] * 2
    assert [changes.attrs[name] for name in ("rose", "fell", "tokens", "rose_all", "tokens_all")] == [2, 1, 5, 3, 6]
    everything = token_changes(made(), likely=False, most=1)
    assert everything["word"].tolist() == ["<0xCA>", " of"]


def test_tokens_whose_share_is_printed_as_zero_in_both_models_are_not_listed() -> None:
    """One position of 10,000 prints as 0.0 %; half of a thousandth as 0.1 %."""
    for share, listed in ((0.0001, False), (0.00049, False), (0.0005, True)):
        changes = token_changes(with_numbers(made(), likely_tuned=[0.1, 0.4, 0.2, 0.1, share, 0.5]))
        assert ("<0xCA>" in changes["word"].tolist()) is listed, share
        assert (percent(share) != "0.0") is listed, share
        shown = group_changes(with_numbers(made(), likely_tuned=[0.1, 0.4, 0.2, 0.1, share, 0.5]))["risen"]
        assert ("<0xCA>" in shown.iloc[0]) is listed, share


def test_groups_show_what_rose_more_than_elsewhere(found: Any) -> None:
    groups = found["group_changes"].set_index("group")
    assert groups.loc["b", "risen"] == "sure · <b> · z"
    assert (groups.loc["a", "own"], groups.loc["b", "own"]) == ("", "<b>")
    assert groups["rose"].tolist() == [3, 3]


def test_themes_name_the_group_where_they_are_largest(found: Any) -> None:
    themes = found["token_themes"]
    assert themes["words"].tolist() == ["sure · <b>", "z"]
    assert themes["where"].tolist() == ["a", "b"]
    assert themes["where_share"].tolist() == [0.9, 0.3]


def test_the_verdict_says_how_many_and_which(found: Any) -> None:
    verdict = FINDING.verdict(found)
    assert verdict.direction == "changed"
    assert verdict.sentence == (
        "Of 5 tokens that a model would say, 2 rise and 1 falls consistently (sign test, Benjamini-Hochberg; 120 "
        "positions of 12 texts). "
        "Most risen: “ sure” by +2.00 logits [+1.90, +2.10], p = 0.001, then “<b>”; most fallen: “ of” by −1.50 logits "
        "[−1.60, −1.40], p = 0.001."
    )
    assert [number.value for number in verdict.numbers] == [2.0, -1.5, pytest.approx(60)]
    assert verdict.short == "tuning raises “ sure”, “<b>” most", "“z” is not significant"


def test_nothing_significant_and_too_few_texts() -> None:
    nothing = FINDING.verdict(tables(made(p=0.3)))
    assert (nothing.direction, nothing.tested) == ("none", True)
    assert nothing.sentence == (
        "No significant change: of 5 tokens that a model would say, none is significant (sign test, "
        "Benjamini-Hochberg; 120 positions of 12 texts)."
    )
    assert nothing.short == "no significant change of a token's logit"
    few = FINDING.verdict(tables(made(texts=4)))
    assert not few.tested
    assert few.sentence == "Not tested: too few texts for a test (n=4, at least 6 needed), 40 positions of 4 texts."


def test_one_text_has_no_plural() -> None:
    one = FINDING.verdict(tables(made(texts=1).assign_attrs(positions=1)))
    assert one.sentence.endswith(", 1 position of 1 text.")


def with_numbers(ld: xr.Dataset, **numbers: Any) -> xr.Dataset:
    """Replace numbers of tokens."""
    return ld.assign({name: ("token", np.array(values, dtype=float)) for name, values in numbers.items()})


def test_the_side_of_most_texts_decides_and_not_the_longest_text() -> None:
    """The first token is below 0 in nearly all texts; one long text raises its mean over positions."""
    ld = with_numbers(made(), share_texts=[0.1, 1, 0, 0.5, 1, 0], share_below=[0.9, 0, 1, 0.5, 0, 1])
    changes = token_changes(ld).set_index("word")["change"]
    assert changes["<b>"] == "fallen"
    assert "z" not in changes, "it is above 0 as often as below"
    groups = group_changes(ld.assign(group_share=1 - ld["group_share"], group_below=1 - ld["group_below"]))
    assert groups["risen"].tolist() == ["the · of"] * 2


def test_significant_tokens_come_first() -> None:
    ld = with_numbers(made(), p_bh=[1e-3, 0.4, 1e-3, 1e-3, 1e-3, 0.4])
    changes = token_changes(ld, most=1)
    assert changes["word"].tolist() == ["<b>", " of"]


def test_sentences_are_built_of_what_is_significant() -> None:
    fallen = FINDING.verdict(tables(with_numbers(made(), p_bh=[0.4, 0.4, 1e-3, 0.4, 0.4, 0.4])))
    assert ". Most fallen: “ of” by −1.50 logits" in fallen.sentence
    assert fallen.short == "tuning lowers “ of” most"
    unlikely = with_numbers(made(), p_bh=[0.4, 1e-3, 0.4, 0.4, 0.4, 0.4], likely_tuned=[0.1, 0, 0.2, 0.1, 0, 0.5])
    verdict = FINDING.verdict(tables(unlikely))
    assert verdict.sentence.endswith(" 12 texts). The risen one is not likely under the tuned model.")
    assert verdict.short == "tuning raises 1 and lowers 0 of the tokens that a model would say"


def test_too_few_texts_for_so_many_tokens_are_not_a_finding_of_nothing() -> None:
    """One of six tokens has one sign in all of six texts: p = 2^-5, times 6 above 0.05; eight texts could show it."""
    half = {"share_texts": [1, *[0.5] * 5], "share_below": [0, *[0.5] * 5]}
    ld = with_numbers(made(texts=6, p=0.4), **half)
    assert token_changes(ld).attrs["needed"] == 8
    verdict = FINDING.verdict(tables(ld))
    assert not verdict.tested
    assert verdict.sentence == (
        "Not tested: 6 texts cannot show a single token among so many that differ, about 8 could (sign test, "
        "Benjamini-Hochberg; 60 positions of 6 texts)."
    )
    assert FINDING.verdict(tables(with_numbers(made(texts=8, p=0.4), **half))).tested


def test_the_section_shows_what_there_is(found: Any) -> None:
    kinds = [type(block) for block in FINDING.show(found)]
    assert kinds == [*[Card] * 3, Text, Figure, Table, Table, Table, Table]
    bare = [type(block) for block in FINDING.show(tables(made(groups=(), themes=0)))]
    assert bare == [*[Card] * 3, Text, Figure, Table, Table]


def test_the_figure_draws_both_ends_and_escapes(found: Any) -> None:
    fig = views.logit_diff(found["token_changes"])
    risen, fallen = (trace for trace in fig.data if trace.type == "bar")
    assert risen.x.tolist() == [2.0, 0.5, 0.1]
    assert fallen.x.tolist() == [-1.5, -0.2]
    assert risen.marker.opacity.tolist() == [1, 1, 0.35], "the third is not significant"
    assert fig.layout.yaxis.ticktext[1] == "“&lt;b&gt;”"


def test_other_results_are_refused() -> None:
    for function in (token_changes, group_changes, token_themes):
        with pytest.raises(ResultError, match=r"takes a Dataset of itlens\.logit_diff; got a str"):
            function("nothing")  # type: ignore[operator]
    with pytest.raises(ResultError, match=r"needs share_below, .* run itlens\.logit_diff again"):
        token_changes(made().drop_vars("share_below"))
    with pytest.raises(ResultError, match="another kind of result"):
        diff.token_changes(xr.Dataset())
    with pytest.raises(ResultError, match=r"views\.logit_diff needs the columns"):
        views.logit_diff(1)  # type: ignore[arg-type]


def test_notes_and_distances(found: Any) -> None:
    assert FINDING.notes(found, plan()) == []
    said = {"note": "1 of 2 texts are cut, to 3 tokens", "note_themes": "themes need scikit-learn"}
    notes = FINDING.notes({**found, "logit_diff": found["logit_diff"].assign_attrs(said)}, plan())
    assert notes == [
        "Logit difference: 1 of 2 texts are cut, to 3 tokens.",
        "Logit difference: themes need scikit-learn.",
    ]
    (fewer,) = FINDING.notes(found, plan(prompts=tuple(range(13))))
    assert fewer.startswith("Logit difference covers 12 of 13 prompts: the response to the others is empty")
    assert FINDING.distances(found) == {"moved_tokens": pytest.approx(0.6)}
    with pytest.raises(ProbeError, match=r"plan\.reading is None"):
        FINDING.run(None, "tokens", plan())  # type: ignore[arg-type]
