"""Behaviour: numbers of texts by hand, paired tests, openings, links; two samples of one model show nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import itlens
from itlens import views
from itlens.errors import ResultError
from itlens.findings.attribution.finding import FINDING as ATTRIBUTION
from itlens.findings.behaviour import diff
from itlens.findings.behaviour.diff import behaviour_links, behaviour_openings, behaviour_tests, of_all
from itlens.findings.behaviour.finding import FINDING
from itlens.findings.behaviour.traits import GIVEN, NUMBERS, repeated_share, response_traits
from itlens.hooked.response import respond
from itlens.study.comparison import open_comparison
from itlens.tokenization import Response
from tests.study.studies import six_prompts
from tests.tiny import tiny_folder


def traits(text: str, ids: tuple[int, ...] = (5, 6), finish: str = "length") -> dict[str, object]:
    row = response_traits(Response(ids, text, finish, "generated"), "tuned").iloc[0]  # type: ignore[arg-type]
    return {str(name): value for name, value in row.items()}


def test_repeated_four_grams_by_hand() -> None:
    assert repeated_share((1, 2, 3, 4, 1, 2, 3, 4)) == pytest.approx(1 / 5)  # 1234 2341 3412 4123 1234
    assert repeated_share((7,) * 10) == pytest.approx(6 / 7)
    assert repeated_share((1, 2, 3, 4)) == 0.0
    assert repeated_share((1, 1, 1)) == 0.0
    assert repeated_share(()) == 0.0


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("A cat. A dog.", ()),
        ("Here:\n- a cat\n- a dog", ("has_list",)),
        ("1. cat\n2) dog", ("has_list",)),
        ("- a dash alone", ()),
        ("See:\n```\nx\n```", ("has_code",)),
        ("def f(x):\n    return x", ("has_code",)),
        ("int x = 1;\nint y = 2;", ("has_code",)),
        ("I return home; then I rest.", ()),
        ("Do you like it? Yes.", ("has_question",)),
        ('He asked "why?"', ("has_question",)),
        ("https://example.org/?q=1", ()),
    ],
)
def test_forms_by_hand(text: str, marks: tuple[str, ...]) -> None:
    row = traits(text)
    assert tuple(name for name in ("has_list", "has_code", "has_question") if row[name]) == marks


def test_length_end_and_first_words() -> None:
    row = traits("  Sure, here's the\nanswer.", (3, 4, 5), "eos")
    assert (row["length"], row["ended"], row["first_words"], row["writer"]) == (3.0, 1.0, "sure here's the", "tuned")
    assert traits("", (), "empty")["ended"] == 1.0
    assert traits("x", (1,), "length")["ended"] == 0.0
    given = response_traits(None, "base").iloc[0]
    assert given["writer"] == GIVEN
    assert given[list(NUMBERS)].isna().all()


def table(base: np.ndarray, tuned: np.ndarray, words: tuple[str, str] = ("the", "the")) -> pd.DataFrame:
    """Rows with these lengths; the other numbers are 0."""
    sides = []
    for model, length, first in (("base", base, words[0]), ("tuned", tuned, words[1])):
        rows = pd.DataFrame(dict.fromkeys(NUMBERS, 0.0), index=range(len(length))).assign(length=length)
        ids = [f"p{number}" for number in range(len(length))]
        sides.append(rows.assign(id=ids, group="", model=model, first_words=first, own=True, writer=model))
    return pd.concat(sides, ignore_index=True)


def test_differences_and_links_by_hand() -> None:
    base, moved = np.full(12, 20.0), np.arange(12.0) + 1
    rows = table(base, base + moved)
    length = of_all(behaviour_tests(rows)).set_index("statistic").loc["length"]
    assert (length["base_mean"], length["difference"]) == (20.0, pytest.approx(moved.mean()))
    assert length["p"] == pytest.approx(2 / 2**12)
    assert length["p_holm"] == pytest.approx(6 * 2 / 2**12)
    ids = [f"p{number}" for number in range(12)]
    changes = {
        "one": pd.DataFrame({"id": ids, "kl": moved**2}),  # the same order
        "two": pd.DataFrame({"id": ids[::-1], "gap": moved, "flat": 1.0}),  # the opposite one, by id
    }
    links = behaviour_links(rows, changes)
    assert links[["behaviour", "finding", "number"]].to_numpy().tolist() == [
        ["length", "one", "kl"],
        ["length", "two", "gap"],
    ]
    assert links["spearman"].tolist() == [pytest.approx(1), pytest.approx(-1)]
    assert (links["p_bh"] < 0.01).all()
    figure = views.behaviour_links(links)
    assert np.asarray(figure.data[0].z, dtype=float).ravel() == pytest.approx([1, -1])
    assert behaviour_links(rows, {}).empty
    with pytest.raises(ResultError, match="got no rows"):
        views.behaviour_links(links.head(0))
    with pytest.raises(ResultError, match="lacks first_words"):
        behaviour_tests(rows.drop(columns="first_words"))


def test_a_length_that_lacks_some_rows_is_still_the_length() -> None:
    base = np.random.default_rng(0).integers(1, 30, 20).astype(float)
    moved = np.random.default_rng(1).integers(-9, 9, 20).astype(float)
    ids = [f"p{number}" for number in range(20)]
    partly = np.where(np.arange(20) < 2, np.nan, moved)
    assert behaviour_links(table(base, base + moved), {"one": pd.DataFrame({"id": ids, "tokens": partly})}).empty


def test_lengths_of_responses_are_no_inner_changes() -> None:
    prompts = pd.DataFrame(
        {"id": ["p", "q"], "group": "", "base": [0.2, 0.5], "tuned": [0.3, 0.4], "base_targets": 5, "tuned_targets": 9}
    )
    plan = SimpleNamespace(frames=None, options=None)
    changes = ATTRIBUTION.changes({"prompts": prompts}, plan)  # type: ignore[arg-type]
    assert changes.to_dict("list") == {"id": ["p", "q"], "instruction_score": pytest.approx([0.1, -0.1])}


@pytest.mark.parametrize("name", ["ended", "has_list", "has_code", "has_question"])
def test_numbers_of_0_and_1_have_an_exact_test(name: str) -> None:
    rows = table(np.arange(80.0), np.arange(80.0))
    rows[name] = 0.0
    rows.loc[[*range(7), 80 + 15], name] = 1.0  # seven only in the base, one only in the tuned model
    row = of_all(behaviour_tests(rows)).set_index("statistic").loc[name]
    assert row["p"] == pytest.approx(2 * (1 + 8) / 2**8)  # 0 or 1 of 8, two-sided
    assert row["p_holm"] == pytest.approx(6 * 2 * (1 + 8) / 2**8)


def test_random_pairings_are_enough_for_all_links(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(diff, "rank_correlation_interval", lambda x, y, **options: (0.0, 0.0))
    monkeypatch.setattr(diff, "rank_correlation_p", lambda x, y, **options: drawn.append(options["draws"]) or 0.5)
    rng = np.random.default_rng(0)
    numbers = pd.DataFrame({f"n{place}": rng.normal(size=10) for place in range(60)}).assign(
        id=[f"p{number}" for number in range(10)]
    )
    rows = table(rng.normal(size=10), rng.normal(size=10))
    behaviour_links(rows, {"one": numbers})
    behaviour_links(rows, {"one": numbers[["id", "n0"]]})
    assert drawn == [60 * 40] * 60 + [2000]


def test_openings_by_hand() -> None:
    rows = table(np.ones(12), np.ones(12), ("the cat is", "sure here it"))
    found = behaviour_openings(rows)
    assert found["opening"].tolist() == ["sure", "the"]
    assert found[["base", "tuned", "only_base", "only_tuned"]].to_numpy().tolist() == [[0, 1, 0, 12], [1, 0, 12, 0]]
    assert found["p"].tolist() == [pytest.approx(2 / 2**12)] * 2
    same = behaviour_openings(table(np.ones(12), np.ones(12), ("the", "the")))
    assert same["p"].tolist() == [1.0]


def test_the_same_answers_show_exactly_nothing() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 40).astype(float)
    rows = table(lengths, lengths)
    tests = of_all(behaviour_tests(rows))
    assert tests["difference"].tolist() == [0.0] * len(NUMBERS)
    assert tests["p"].tolist() == [1.0] * len(NUMBERS)
    assert behaviour_links(rows, {"one": pd.DataFrame({"id": rows["id"][:40], "kl": lengths})}).empty
    tables = {
        "behaviour": rows,
        "behaviour_tests": behaviour_tests(rows),
        "behaviour_openings": behaviour_openings(rows),
    }
    verdict = FINDING.verdict(tables)
    assert (verdict.direction, verdict.short) == ("none", "no significant difference of the answers")


def linked(p_bh: list[float]) -> pd.DataFrame:
    rows = {"behaviour": "ended", "number": "instruction_score", "spearman": 0.4, "ci_low": 0.1, "ci_high": 0.6}
    return pd.DataFrame([{**rows, "p_bh": p} for p in p_bh])


@pytest.mark.parametrize(
    ("p_bh", "said"),
    [
        ([0.4], "The one rank correlation with a change inside is not significant."),
        ([0.4, 0.6], "None of the 2 rank correlations with changes inside is significant."),
        (
            [0.01, 0.6],
            "Of 2 rank correlations with changes inside 1 is significant, above all of the share that ends by itself "
            "with instruction score (+0.40 [+0.10, +0.60]).",
        ),
    ],
)
def test_the_verdict_is_a_sentence(p_bh: list[float], said: str) -> None:
    base, rng = np.arange(8, 48, dtype=float), np.random.default_rng(0)
    rows = table(base, base - 3 - rng.integers(0, 2, 40))
    rows["ended"] = (rows["model"] == "tuned").astype(float)
    verdict = FINDING.verdict({"behaviour_tests": behaviour_tests(rows), "behaviour_links": linked(p_bh)})
    assert verdict.sentence.startswith("The answers differ in the share that ends by itself (+100.0 points [")
    assert " and in length (−3." in verdict.sentence
    assert verdict.sentence.endswith(said)
    assert verdict.short == "answers differ in the share that ends by itself, length"
    assert verdict.numbers[0].name == "difference in the share that ends by itself"


@pytest.mark.long
def test_links_keep_their_level_over_200_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "_DRAWS", 199)
    monkeypatch.setattr(diff, "rank_correlation_interval", lambda x, y, **options: (0.0, 0.0))
    rng, first = np.random.default_rng(4), []
    ids = [f"p{number}" for number in range(25)]
    for _ in range(200):
        rows = table(rng.normal(size=25), rng.normal(size=25))
        links = behaviour_links(rows, {"one": pd.DataFrame({"id": ids, "kl": rng.normal(size=25)})}, seed=0)
        first.append(links["p"].iloc[0])
    assert 0.01 <= (np.array(first) <= 0.05).mean() <= 0.09


# ---- with models


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("behaviour")
    return tiny_folder(root / "base", "llama", seed=0), tiny_folder(root / "tuned", "llama", seed=1)


def test_one_model_twice_with_a_temperature_and_two_seeds_shows_nothing(folders: tuple[Path, Path]) -> None:
    model = itlens.load_model(folders[0], check=False)
    prompts, steps, stop = 60, 24, 2
    start = torch.randint(3, 300, (prompts, 4), generator=torch.Generator().manual_seed(9))
    sides = []
    for side, seed in (("base", 1), ("tuned", 2)):
        generator, tokens = torch.Generator().manual_seed(seed), start
        for _ in range(steps):
            with torch.no_grad():
                chances = torch.softmax(model(tokens)[:, -1] / 4.0, -1)
            tokens = torch.cat([tokens, torch.multinomial(chances, 1, generator=generator)], 1)
        for number, row in enumerate(tokens[:, 4:].tolist()):
            ids = tuple(row[: row.index(stop)] if stop in row else row)
            text = model.tokenizer.decode(ids)
            finish = "eos" if stop in row else "length"
            made = response_traits(Response(ids, text, finish, "generated"), side)  # type: ignore[arg-type]
            sides.append(made.assign(id=f"p{number}", group="", model=side))
    rows = pd.concat(sides, ignore_index=True)
    tests = of_all(behaviour_tests(rows))
    assert (rows["length"] > 4).mean() > 0.5
    assert not np.array_equal(*(rows[rows["model"] == side]["length"].to_numpy() for side in ("base", "tuned")))
    assert (tests["p_holm"] > 0.05).all()
    assert (behaviour_openings(rows)["p_bh"] > 0.05).all()


def test_a_study_measures_the_responses_that_it_has(folders: tuple[Path, Path], tmp_path: Path) -> None:
    options = {"prompts": six_prompts(), "max_new_tokens": 5, "progress": False, "seed": 1}
    run = itlens.compare(*folders, probes=["behaviour", "token_shift"], out=tmp_path / "own", **options)  # type: ignore[arg-type]
    rows = run.results["behaviour"]["behaviour"]
    assert rows["own"].all()
    model = itlens.load_model(folders[0], check=False)
    made = respond(model, six_prompts()[2].text, max_new_tokens=5, prepend_bos=None, name="third")
    row = rows[(rows["model"] == "base") & (rows["id"] == "p3")].iloc[0]
    assert (row["length"], row["ended"]) == (len(made.ids), float(made.finish != "length"))
    assert set(run.results["behaviour"]) >= {"behaviour_tests", "behaviour_openings"}
    assert list(open_comparison(run.out).verdicts) == ["token_shift", "behaviour"]
    changes = FINDING.changes(run.tables["behaviour"], SimpleNamespace())  # type: ignore[arg-type]
    assert changes is not None
    expected = rows[rows["model"] == "tuned"]["length"].to_numpy() - rows[rows["model"] == "base"]["length"].to_numpy()
    assert changes["length"].tolist() == expected.tolist()


def test_responses_of_one_model_are_not_compared(folders: tuple[Path, Path], tmp_path: Path) -> None:
    options = {"prompts": six_prompts(), "max_new_tokens": 3, "progress": False, "responses": "tuned"}
    run = itlens.compare(*folders, probes="behaviour", out=tmp_path / "tuned", **options)  # type: ignore[arg-type]
    verdict = run.verdicts["behaviour"]
    assert not verdict.tested
    assert (
        verdict.sentence
        == "Not tested: both models were read on the tuned model's responses, not each on its own (--responses own)."
    )
    assert set(run.results["behaviour"]) == {"behaviour"}
