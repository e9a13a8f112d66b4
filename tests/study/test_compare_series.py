"""Series: each model against the first and its neighbour, distances, what is computed once, and what is refused."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import itlens
from itlens.report.blocks import Table, Text
from itlens.report.terminal import print_page
from itlens.study import SeriesComparison
from itlens.study import comparison as comparison_module
from itlens.study import pair as pair_module
from itlens.study.numbers import OTHER_TOKENS
from itlens.study.several_outcome import series_page, write_again
from tests.study.studies import Counted, six_prompts, vectors, vocabulary
from tests.tiny import tiny_folder

ATTRIBUTED: dict[str, Any] = {"probes": "attribution", "max_new_tokens": 3, "seed": 3, "progress": False}


@pytest.fixture(scope="module")
def line(pair_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> SeriesComparison:
    """base, tuned, and the base once more."""
    root = tmp_path_factory.mktemp("series")
    last = Path(shutil.copytree(pair_folders[0], root / "last"))
    models = {"base": pair_folders[0], "sft": pair_folders[1], "back again": last}
    words: dict[str, Any] = {"vocabulary": vocabulary(), "vectors": vectors(), "top_k": 5, "components": 8}
    asked = ATTRIBUTED | {"probes": ["attribution", "attention", "mlp"], "resamples": 0}
    return itlens.compare_series(models, six_prompts(), out=root / "run", **asked, **words)


def test_a_pair_is_the_series_of_two(line: SeriesComparison) -> None:
    pair = line.comparison("sft")
    assert pair.diff is not None and line.first is not None
    groups = pair.diff.groups.set_index("group")
    rows = line.first.differences
    rows = rows[(rows["statistic"] == "instruction_score") & (rows["model"] == "sft")].set_index("group")
    for name in ("difference", "ci_low", "ci_high", "p_paired", "base_mean", "tuned_mean"):
        np.testing.assert_allclose(rows.loc["all", name], groups.loc["all", name], rtol=1e-9, err_msg=name)


def test_differences_against_the_first_and_between_neighbours(line: SeriesComparison) -> None:
    table = line.tables["differences"]
    score = table[(table["statistic"] == "instruction_score") & (table["group"] == "all")]
    found = {(row.against, row.reference, row.model): row.difference for row in score.itertuples()}
    assert found["first", "base", "back again"] == 0
    assert found["neighbour", "sft", "back again"] == pytest.approx(-found["first", "base", "sft"], rel=1e-9)
    assert set(found) == {
        ("first", "base", "sft"), ("first", "base", "back again"),
        ("neighbour", "base", "sft"), ("neighbour", "sft", "back again"),
    }  # fmt: skip


def test_distances_of_weights(line: SeriesComparison) -> None:
    rows = line.distances.set_index(["against", "model"])
    same, other = rows.loc[("first", "back again")], rows.loc[("first", "sft")]
    assert same["word_pair_overlap"] == 1 and same["value_overlap"] == pytest.approx(1, abs=1e-6)
    pair = line.comparison("sft")
    assert pair.words is not None
    assert other["word_pair_overlap"] == pytest.approx(float(pair.words["overlap"].mean()))
    back = rows.loc[("neighbour", "back again")]
    assert back["word_pair_overlap"] == pytest.approx(other["word_pair_overlap"])
    assert back["value_overlap"] == pytest.approx(other["value_overlap"], rel=1e-5)


@pytest.mark.parametrize("given", [4, 3, 0])
@pytest.mark.usefixtures("no_page")
def test_activations_are_in_the_series_where_all_models_read_the_same(
    pair_folders: tuple[Path, Path], tmp_path: Path, given: int
) -> None:
    """Of prompts with responses: each model's own `activation_scores`, and the base is the same in every pair."""
    texts = [" is a word"] * given + [None] * (4 - given)
    prompts = [prompt.replace(response=text) for prompt, text in zip(six_prompts()[:4], texts, strict=True)]
    models = dict(zip(("a", "b", "c"), [*pair_folders, pair_folders[0]], strict=True))
    asked = ATTRIBUTED | {"probes": ["attribution", "activation"] if given else "activation"}
    found = itlens.compare_series(models, prompts, out=tmp_path / "run", **asked)
    said = [
        note
        for note in found.notes
        if note == OTHER_TOKENS.format(topic="Activations on the same tokens", same=given, all=4)
    ]
    assert len(said) == (given < 4)
    if not given:
        assert found.first is None
        return
    assert found.first is not None
    rows = found.first.differences.query("group == 'all'").set_index(["statistic", "model"])
    assert rows.loc[("instruction_score", "c"), "n"] == 4
    alone = itlens.activations(itlens.load_model(pair_folders[1]), prompts[:given], progress=False)
    own = itlens.diff.activation_scores(alone)
    for name in ("attention_to_instruction", "attention_entropy", "active_neurons", "commitment_layer"):
        assert rows.loc[(name, "b"), "n"] == given
        assert rows.loc[(name, "b"), "tuned_mean"] == pytest.approx(own[name].mean(), rel=1e-6)
        assert rows.loc[(name, "c"), "difference"] == 0, "the base once more"


@pytest.mark.usefixtures("no_page")
def test_the_base_is_computed_once(
    line: SeriesComparison, pair_folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    found = itlens.compare_series(
        [*pair_folders, pair_folders[1]],
        six_prompts()[:2],
        labels=["a", "b", "c"],
        out=tmp_path / "run",
        **ATTRIBUTED,
    )
    assert [side for _, side, _ in counted.units] == ["base", "base", *["tuned"] * 4]
    assert found.labels == ("a", "b", "c") and found.comparison("c").study["models"]["tuned"]["label"] == "c"


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The run folders that are compared, in order."""
    folders: list[str] = []
    of_folder = comparison_module.compared

    def counted(folder: Any, *args: Any, **options: Any) -> Any:
        folders.append(folder.path.name)
        return of_folder(folder, *args, **options)

    for module in (comparison_module, pair_module):
        monkeypatch.setattr(module, "compared", counted)
    return folders


@pytest.mark.usefixtures("no_page")
def test_each_pair_is_compared_once(pair_folders: tuple[Path, Path], tmp_path: Path, compared: list[str]) -> None:
    models = dict(zip(("a", "b", "c"), [*pair_folders, pair_folders[0]], strict=True))
    itlens.compare_series(models, six_prompts()[:1], out=tmp_path / "run", **ATTRIBUTED)
    assert compared == ["2-b", "3-c"]
    del compared[:]
    write_again(tmp_path / "run", "series")
    assert compared == ["2-b", "3-c"]


@pytest.mark.usefixtures("no_page")
def test_a_finding_that_has_no_numbers_to_give_costs_the_later_models_nothing(
    pair_folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: list[str]
) -> None:
    def broken(self: Any, tables: Any, plan: Any) -> Any:
        raise ValueError("no numbers")

    monkeypatch.setattr(type(itlens.findings.findings()["attribution"]), "per_prompt", broken)
    models = dict(zip(("a", "b", "c"), [*pair_folders, pair_folders[0]], strict=True))
    found = itlens.compare_series(models, six_prompts()[:1], out=tmp_path / "run", **ATTRIBUTED)
    assert compared == ["2-b", "3-c"]
    assert found.first is None
    assert any("no numbers" in note for note in found.notes)


@pytest.mark.usefixtures("no_page")
def test_the_base_of_another_study_is_not_taken(
    line: SeriesComparison, pair_folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    asked = ATTRIBUTED | {"max_new_tokens": 2}
    itlens.compare(*pair_folders, six_prompts()[:1], out=tmp_path / "run", base_from=line.folders[0], **asked)
    assert [side for _, side, _ in counted.units] == ["base", "tuned"]


def test_the_page_and_tables_can_be_made_again(line: SeriesComparison, tmp_path: Path) -> None:
    out = Path(shutil.copytree(line.out, tmp_path / "run"))
    (out / "report.html").unlink()
    again = write_again(out, "series")
    page = (out / "report.html").read_text()
    assert again.answers == line.answers and "2-sft/report.html" in page
    for words in ("residual change", "nats per token", "heads recover", "with the first model only"):
        assert words in page


def test_the_page_leaves_groups_without_a_test_to_the_tables(line: SeriesComparison) -> None:
    assert line.first is not None
    assert set(line.first.trend["group"]) == {"all", "even", "odd"}
    names = ("Compared with the first model", "Trend along the series")
    shown = [section for section in series_page(line).sections if section.question in names]
    assert len(shown) == 2
    for section in shown:
        (table,) = [block for block in section.blocks if isinstance(block, Table)]
        (text,) = [block for block in section.blocks if isinstance(block, Text)]
        assert set(table.data["group"]) == {"all"}
        assert "Groups with too few prompts for a test are in the CSV tables only." in text.text


def test_distances_fit_into_a_terminal(line: SeriesComparison) -> None:
    numbers = dict.fromkeys(("value_overlap", "key_overlap", "gate_overlap", "residual_change"), 0.81234)
    numbers |= {"gap": 5.902349, "heads_recover": 0.911595}
    written = io.StringIO()
    changed = replace(line, distances=line.distances.assign(**numbers))
    print_page(series_page(changed), Console(width=80, file=written))
    printed = written.getvalue().split("How far apart")[1]
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    for number in ("0.812", "5.902", "0.912"):
        assert printed.count(number) >= 3, "a row for each pair"
    for label in ("sft", "back again"):
        assert label in printed


@pytest.mark.parametrize(
    ("labels", "count", "says"),
    [
        (None, 1, "two or more models, got 1"),
        (["a", "b"], 3, "3 models and 2 labels"),
        (["a", "b", "a"], 3, "'a' is empty or is given twice"),
        (["a", "b", " "], 3, "' ' is empty or is given twice"),
    ],
)
def test_labels_and_models(
    pair_folders: tuple[Path, Path], tmp_path: Path, labels: list[str] | None, count: int, says: str
) -> None:
    models = [*pair_folders, pair_folders[0]][:count]
    with pytest.raises(itlens.PairError, match=says):
        itlens.compare_series(models, six_prompts(), labels=labels, out=tmp_path / "run", **ATTRIBUTED)


def test_a_wrong_option_does_not_spoil_the_folder(pair_folders: tuple[Path, Path], tmp_path: Path) -> None:
    asked = ATTRIBUTED | {"limit": 1}
    with pytest.raises(itlens.ProbeError, match="nope"):
        itlens.compare_series(pair_folders, six_prompts(), out=tmp_path / "run", **asked, method="nope")
    found = itlens.compare_series(pair_folders, six_prompts(), labels=["a", "b"], out=tmp_path / "run", **asked)
    assert found.labels == ("a", "b")


def test_models_of_another_shape_are_refused_before_any_work(pair_folders: tuple[Path, Path], tmp_path: Path) -> None:
    models = {"base": pair_folders[0], "sft": pair_folders[1], "odd": tiny_folder(tmp_path / "odd", "gpt2")}
    with pytest.raises(itlens.PairError, match="base and odd: "):
        itlens.compare_series(models, six_prompts(), out=tmp_path / "run", **ATTRIBUTED)
    assert not (tmp_path / "run").exists()
