"""Linearity along alpha: by hand, a line, a step, a constant curve, its interval; and series made of two models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import itlens
from itlens import diff
from itlens.errors import ModelError, PairError, ProbeError, ResultError
from itlens.stats.linearity import NOT_BETWEEN, NOT_DEFINED, linearity, linearity_sentence
from itlens.study.series import checked_alphas, open_series
from tests.commands import Commands
from tests.study.studies import six_prompts
from tests.tiny import tiny_folder

ALPHAS = [0.0, 0.25, 0.5, 1.0, 1.5]


def test_linearity_by_hand() -> None:
    line = [2 + 3 * alpha for alpha in ALPHAS]
    # 0 0 1: the line is 0 .5 1, apart .25; mean 1/3, spread 2/3
    assert linearity(np.array([[0.0, 0.0, 1.0]]), [0, 0.5, 1]) == pytest.approx([1 - 0.25 / (2 / 3)])
    assert linearity(np.array([line]), ALPHAS) == pytest.approx([1.0])
    # 0 4 0: the line is 0 0 0, apart 16; mean 4/3, spread 32/3
    assert linearity(np.array([[0.0, 4.0, 0.0]]), [0, 0.5, 1]) == pytest.approx([1 - 16 / (32 / 3)])
    assert np.isnan(linearity(np.array([[5.0] * 5, [0.0] * 5]), ALPHAS)).all()
    # the order of alphas is that of the values
    assert linearity(np.array([[1.0, 0.0, 0.0]]), [1, 0, 0.5]) == pytest.approx([1 - 0.25 / (2 / 3)])


def test_alphas_without_ends_or_of_another_number() -> None:
    with pytest.raises(ResultError, match=r"got alphas 0, 0\.5; expected 0 and 1 among them"):
        linearity(np.ones((1, 2)), [0, 0.5])
    with pytest.raises(ResultError, match="got 3 values and 2 alphas"):
        linearity(np.ones((1, 3)), [0, 1])


def test_a_table_has_the_mean_curve_and_the_prompts_own() -> None:
    rng = np.random.default_rng(0)
    slopes, ids = rng.normal(1, 0.3, 30), [f"p{number}" for number in range(30)]
    results = {
        f"alpha {alpha:g}": pd.DataFrame(
            {"id": ids, "line": 1 + slopes * alpha, "step": (alpha >= 0.5) * slopes, "same": 2.0, "group": ""}
        )
        for alpha in ALPHAS
    }
    table = diff.linearity(results, ALPHAS).set_index("statistic")
    assert table.loc["line", "linearity"] == pytest.approx(1)
    assert table.loc["line", ["ci_low", "ci_high", "median"]].tolist() == pytest.approx([1, 1, 1])
    assert table.loc["line", "defined"] == 30
    # 0 0 1 1 1 (times a mean slope): from the line 0 .25 .5 1 1.5; mean .6
    assert table.loc["step", "linearity"] == pytest.approx(1 - (0.25**2 + 0.5**2 + 0.5**2) / (2 * 0.36 + 3 * 0.16))
    assert np.isnan(table.loc["same", "linearity"])
    assert (table.loc["same", "note"], table.loc["same", "defined"]) == (NOT_DEFINED, 0)
    assert linearity_sentence(table.reset_index(), "same") == f"Linearity of the same is {NOT_DEFINED}."


def numbers_at(alphas: list[float], prompts: int) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(3)
    ids = [f"p{number}" for number in range(prompts)]
    return {f"{a:g}": pd.DataFrame({"id": ids, "kl": rng.normal(a, 0.2, prompts), "group": ""}) for a in alphas}


def test_two_ends_alone_have_no_linearity() -> None:
    assert np.isnan(linearity(np.array([[3.0, 8.0]]), [0, 1])).all()
    table = diff.linearity(numbers_at([0, 1], 8), [0, 1])
    row = table.iloc[0]
    assert row[["linearity", "ci_low", "ci_high", "median"]].isna().all()
    assert (row["note"], row["defined"]) == (NOT_BETWEEN, 0)
    assert linearity_sentence(table, "kl") == f"Linearity of the kl is {NOT_BETWEEN}."


@pytest.mark.parametrize("prompts", [4, 5])
def test_an_interval_needs_five_prompts(prompts: int) -> None:
    row = diff.linearity(numbers_at([0, 0.5, 1], prompts), [0, 0.5, 1]).iloc[0]
    assert np.isfinite(row["linearity"])
    assert bool(np.isfinite([row["ci_low"], row["ci_high"]]).all()) == (prompts == 5)


def test_alphas_of_a_series() -> None:
    assert checked_alphas([0.5, 0.5, 1.5]) == [0.0, 0.5, 1.0, 1.5]
    with pytest.raises(ModelError, match="alpha=nan; expected a finite number"):
        checked_alphas([0, float("nan")])
    with pytest.raises(ProbeError, match="expected numbers of at least 0"):
        checked_alphas([-1, 0])
    for wrong in (0.5, "0.5", []):
        with pytest.raises(ProbeError, match="interpolate="):
            checked_alphas(wrong)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("linear")
    return tiny_folder(root / "base", "llama", seed=0), tiny_folder(root / "tuned", "llama", seed=1)


def test_a_series_between_two_models(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made = itlens.compare_series(
        folders, six_prompts()[:5], "attribution", tmp_path / "between", interpolate=[0.5], responses="base",
        max_new_tokens=3, progress=False,
    )  # fmt: skip
    assert made.alphas == (0.0, 0.5, 1.0)
    assert made.labels == ("alpha 0", "alpha 0.5", "alpha 1")
    assert made.first is not None
    means = made.first.models.set_index(["statistic", "group", "model"])["mean"]
    curve = np.array([[means["instruction_score", "all", label] for label in made.labels]])
    row = made.tables["linearity"].set_index(["statistic", "group"]).loc[("instruction_score", "all")]
    assert row["linearity"] == pytest.approx(linearity(curve, made.alphas)[0])
    assert row["n"] == 5
    assert any("Linearity of the instruction score in alpha" in answer for answer in made.answers)
    page = made.report_path.read_text(encoding="utf-8")
    assert "Linear in the weights?" in page
    bare = made.tables["linearity"].query("group != 'all'")["ci_low"].isna()
    assert bare.any(), "a constant curve, or a group of one prompt"
    assert "Groups without an interval (a single prompt, a constant curve) are in the CSV tables only." in page
    pd.testing.assert_frame_equal(open_series(made.out).tables["linearity"], made.tables["linearity"])
    lengths = made.tables["linearity"].set_index("statistic").loc["response_tokens", "linearity"]
    assert np.isnan(lengths).all(), "the base's responses are as long for every model"
    names = [made.comparison(label).study["models"]["tuned"]["name"] for label in made.labels[1:]]
    assert names == [f"{folders[0]} + 0.5 ({folders[1]} - base)", str(folders[1])]


def test_series_that_cannot_be(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(PairError, match="interpolate goes from one model to another, and got 3"):
        itlens.compare_series([*folders, folders[0]], out=tmp_path / "out", interpolate=[0.5])
    with pytest.raises(ProbeError, match="parts is of an interpolation"):
        itlens.compare_series(folders, out=tmp_path / "out", parts="mlp")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--interpolate", "0,half"), "--interpolate is '0,half'; expected numbers by commas"),
        (("--interpolate", "0,inf"), "alpha=inf; expected a finite number"),
        (("--parts", "mlp"), "--parts says what --interpolate moves; give --interpolate"),
        (("--interpolate", "0,1", "--parts", "heads"), "interpolate got parts with 'heads'"),
    ],
)
def test_the_command_says_what_is_wrong(
    words: tuple[str, ...],
    sentence: str,
    folders: tuple[Path, Path],
    tmp_path: Path,
    commands: Commands,
) -> None:
    assert sentence in commands.refused("compare", *folders, "--out", tmp_path / "out", *words)
