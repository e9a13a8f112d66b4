"""Template x weights and series as studies: the cells, what is shared between folders, what is refused."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import itlens
from itlens.prompts import frame_prompts
from itlens.study import SeriesComparison, TemplateComparison, open_series, open_templates
from itlens.study.series_numbers import OTHER_TOKENS
from itlens.study.several_pages import series_sections, write_several
from itlens.terminal import print_several
from tests.study.runs import Counted, six_prompts
from tests.study.word_runs import vectors, vocabulary
from tests.tiny import tiny_folder, tiny_tokenizer

CHAT = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[assistant]"
ATTRIBUTED: dict[str, Any] = {"probes": "attribution", "max_new_tokens": 3, "seed": 3, "progress": False}


@pytest.fixture(scope="module")
def chat_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base without a chat template and a tuned model with one."""
    root = tmp_path_factory.mktemp("chat-pair")
    base, tuned = tiny_folder(root / "base", "llama", seed=0), tiny_folder(root / "tuned", "llama", seed=1)
    tiny_tokenizer(chat_template=CHAT).save_pretrained(tuned)
    return base, tuned


@pytest.fixture(scope="module")
def both(chat_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> TemplateComparison:
    out = tmp_path_factory.mktemp("templates") / "run"
    asked = ATTRIBUTED | {"probes": ["attribution", "activation"]}
    return itlens.compare_templates(*chat_folders, six_prompts(), out=out, **asked)


class TestTemplates:
    def test_the_cells_are_those_of_the_four_readings(
        self, both: TemplateComparison, chat_folders: tuple[Path, Path]
    ) -> None:
        framed = frame_prompts(six_prompts(), "chat", tiny_tokenizer(chat_template=CHAT))
        assert [prompt.text for prompt in both.on.prompts] == [one.prompt.text for one in framed]
        assert [prompt.text for prompt in both.off.prompts] == [prompt.text for prompt in six_prompts()]
        cells = {(which, "off"): getattr(both.off, which) for which in ("base", "tuned")}
        cells |= {(which, "on"): getattr(both.on, which) for which in ("base", "tuned")}
        expected = itlens.diff.template_effects(cells, six_prompts(), framed, seed=3)
        own = both.effects.effects[both.effects.effects["statistic"].isin(["instruction_score", "response_tokens"])]
        pd.testing.assert_frame_equal(own.reset_index(drop=True), expected.effects.reset_index(drop=True))
        assert both.verdict == itlens.diff.template_verdict(expected.effects)

    def test_activations_are_taken_apart_as_well(self, both: TemplateComparison) -> None:
        effects = both.effects.effects.set_index(["statistic", "group", "effect"])
        entropy = effects.loc[("attention_entropy", "all", "weights")]
        assert both.off.activation is not None and both.on.activation is not None
        means = {
            f"{which}_{state}": float(getattr(found.activation, which)["attention_entropy_share"].mean())
            for state, found in (("off", both.off), ("on", both.on))
            for which in ("base", "tuned")
        }
        for cell, value in means.items():
            assert entropy[cell] == pytest.approx(value, rel=1e-5)
        weights = (means["tuned_off"] - means["base_off"] + means["tuned_on"] - means["base_on"]) / 2
        assert entropy["mean"] == pytest.approx(weights, rel=1e-4)

    def test_the_page_and_tables_can_be_made_again(self, both: TemplateComparison, tmp_path: Path) -> None:
        out = Path(shutil.copytree(both.out, tmp_path / "run"))
        (out / "report.html").unlink()
        shutil.rmtree(out / "tables")
        again = write_several(out, "template")
        assert again.answers == both.answers and "off/report.html" in (out / "report.html").read_text()
        assert {path.name for path in (out / "tables").iterdir()} >= {"effects.csv", "template_share.parquet"}
        assert open_templates(out).notes == both.notes

    def test_a_second_run_computes_nothing(
        self, both: TemplateComparison, chat_folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counted = Counted(monkeypatch)
        asked = ATTRIBUTED | {"probes": ["attribution", "activation"]}
        again = itlens.compare_templates(*chat_folders, six_prompts(), out=both.out, **asked)
        assert counted.attributed == [] and counted.loaded == [] and again.answers == both.answers

    def test_weights_are_probed_once(self, chat_folders: tuple[Path, Path], tmp_path: Path) -> None:
        words: dict[str, Any] = {"vocabulary": vocabulary(), "vectors": vectors(), "top_k": 5}
        asked = ATTRIBUTED | {"probes": ["attribution", "attention"], "limit": 2}
        found = itlens.compare_templates(*chat_folders, six_prompts(), out=tmp_path / "run", **asked, **words)
        assert found.off.words is not None and found.on.words is None and len(found.on.prompts) == 2

    def test_a_model_without_a_template(self, chat_folders: tuple[Path, Path], tmp_path: Path) -> None:
        base, _ = chat_folders
        with pytest.raises(itlens.PromptError, match="chat template"):
            itlens.compare_templates(base, base, six_prompts(), out=tmp_path / "run", **ATTRIBUTED)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("options", "says"),
        [({"format": "chat"}, "leave format out"), ({"probes": "attention"}, "add attribution to the probes")],
    )
    def test_what_does_not_go_together(
        self, chat_folders: tuple[Path, Path], tmp_path: Path, options: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(itlens.ProbeError, match=says):
            itlens.compare_templates(*chat_folders, six_prompts(), out=tmp_path / "run", **ATTRIBUTED | options)

    def test_a_folder_of_other_things(self, both: TemplateComparison, chat_folders: tuple[Path, Path]) -> None:
        with pytest.raises(itlens.StoreError, match="another study"):
            itlens.compare_templates(*chat_folders, six_prompts()[:3], out=both.out, **ATTRIBUTED)
        with pytest.raises(itlens.StoreError, match="holds no series study"):
            open_series(both.out)


@pytest.fixture(scope="module")
def line(pair_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> SeriesComparison:
    """base, tuned, and the base once more."""
    root = tmp_path_factory.mktemp("series")
    last = Path(shutil.copytree(pair_folders[0], root / "last"))
    models = {"base": pair_folders[0], "sft": pair_folders[1], "back again": last}
    words: dict[str, Any] = {"vocabulary": vocabulary(), "vectors": vectors(), "top_k": 5, "components": 8}
    asked = ATTRIBUTED | {"probes": ["attribution", "attention", "mlp"], "resamples": 0}
    return itlens.compare_series(models, six_prompts(), out=root / "run", **asked, **words)


class TestSeries:
    def test_a_pair_is_the_series_of_two(self, line: SeriesComparison) -> None:
        pair = line.comparison("sft")
        assert pair.diff is not None and line.first is not None
        groups = pair.diff.groups.set_index("group")
        rows = line.first.differences
        rows = rows[(rows["statistic"] == "instruction_score") & (rows["model"] == "sft")].set_index("group")
        for name in ("difference", "ci_low", "ci_high", "p_paired", "base_mean", "tuned_mean"):
            np.testing.assert_allclose(rows.loc["all", name], groups.loc["all", name], rtol=1e-9, err_msg=name)

    def test_differences_against_the_first_and_between_neighbours(self, line: SeriesComparison) -> None:
        table = line.tables["differences"]
        score = table[(table["statistic"] == "instruction_score") & (table["group"] == "all")]
        found = {(row.against, row.reference, row.model): row.difference for row in score.itertuples()}
        assert found["first", "base", "back again"] == 0
        assert found["neighbour", "sft", "back again"] == pytest.approx(-found["first", "base", "sft"], rel=1e-9)
        assert set(found) == {
            ("first", "base", "sft"), ("first", "base", "back again"),
            ("neighbour", "base", "sft"), ("neighbour", "sft", "back again"),
        }  # fmt: skip

    def test_distances_of_weights(self, line: SeriesComparison) -> None:
        rows = line.distances.set_index(["against", "model"])
        same, other = rows.loc[("first", "back again")], rows.loc[("first", "sft")]
        assert same["word_pair_overlap"] == 1 and same["value_overlap"] == pytest.approx(1, abs=1e-6)
        pair = line.comparison("sft")
        assert pair.words is not None
        assert other["word_pair_overlap"] == pytest.approx(float(pair.words["overlap"].mean()))
        back = rows.loc[("neighbour", "back again")]
        assert back["word_pair_overlap"] == pytest.approx(other["word_pair_overlap"])
        assert back["value_overlap"] == pytest.approx(other["value_overlap"], rel=1e-5)

    @pytest.mark.parametrize("given", [6, 5, 0])
    def test_activations_stand_in_the_series_where_all_models_read_the_same(
        self, pair_folders: tuple[Path, Path], tmp_path: Path, given: int
    ) -> None:
        """Of prompts with responses: each model's own `activation_scores`, and the base is the same in every pair."""
        texts = [" is a word"] * given + [None] * (6 - given)
        prompts = [prompt.replace(response=text) for prompt, text in zip(six_prompts(), texts, strict=True)]
        models = dict(zip(("a", "b", "c"), [*pair_folders, pair_folders[0]], strict=True))
        asked = ATTRIBUTED | {"probes": ["attribution", "activation"] if given else "activation"}
        found = itlens.compare_series(models, prompts, out=tmp_path / "run", **asked)
        said = [note for note in found.notes if note == OTHER_TOKENS.format(same=given, all=6)]
        assert len(said) == (given < 6)
        if not given:
            assert found.first is None
            return
        assert found.first is not None
        rows = found.first.differences.query("group == 'all'").set_index(["statistic", "model"])
        assert rows.loc[("instruction_score", "c"), "n"] == 6
        alone = itlens.activations(itlens.load_model(pair_folders[1]), prompts[:given], progress=False)
        own = itlens.diff.activation_scores(alone)
        for name in ("attention_to_instruction", "attention_entropy", "active_neurons", "commitment_layer"):
            assert rows.loc[(name, "b"), "n"] == given
            assert rows.loc[(name, "b"), "tuned_mean"] == pytest.approx(own[name].mean(), rel=1e-6)
            assert rows.loc[(name, "c"), "difference"] == 0, "the base once more"

    def test_the_base_is_computed_once(
        self, line: SeriesComparison, pair_folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counted = Counted(monkeypatch)
        found = itlens.compare_series(
            [*pair_folders, pair_folders[1]],
            six_prompts()[:2],
            labels=["a", "b", "c"],
            out=tmp_path / "run",
            **ATTRIBUTED,
        )
        assert [name for name, _ in counted.attributed] == ["base", "base", *["tuned"] * 4]
        assert found.labels == ("a", "b", "c") and found.comparison("c").study["models"]["tuned"]["label"] == "c"

    def test_the_base_of_another_study_is_not_taken(
        self, line: SeriesComparison, pair_folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counted = Counted(monkeypatch)
        asked = ATTRIBUTED | {"max_new_tokens": 2}
        itlens.compare(*pair_folders, six_prompts()[:1], out=tmp_path / "run", base_from=line.folders[0], **asked)
        assert [name for name, _ in counted.attributed] == ["base", "tuned"]

    def test_the_page_and_tables_can_be_made_again(self, line: SeriesComparison, tmp_path: Path) -> None:
        out = Path(shutil.copytree(line.out, tmp_path / "run"))
        (out / "report.html").unlink()
        again = write_several(out, "series")
        page = (out / "report.html").read_text()
        assert again.answers == line.answers and "2-sft/report.html" in page
        for words in ("residual_change", "nats per token", "heads_recover", "with the first model only"):
            assert words in page

    def test_the_page_leaves_groups_without_a_test_to_the_tables(self, line: SeriesComparison) -> None:
        assert line.first is not None and set(line.first.trend["group"]) == {"all", "even", "odd"}
        shown = [found for name in ("Against the first model", "Trend along the series")
                 for found in series_sections(line) if found.heading == name]  # fmt: skip
        assert len(shown) == 2
        for section in shown:
            assert section.table is not None and set(section.table["group"]) == {"all"} and "note" in section.table
            assert "Groups with too few prompts for a test are in the CSV tables only." in section.text

    def test_distances_fit_into_a_terminal(self, line: SeriesComparison) -> None:
        numbers = dict.fromkeys(("value_overlap", "key_overlap", "gate_overlap", "residual_change"), 0.81234)
        numbers |= {"gap": 5.902349, "heads_recover": 0.911595}
        written = io.StringIO()
        print_several(replace(line, distances=line.distances.assign(**numbers)), Console(width=80, file=written))
        printed = written.getvalue().split("How far apart")[1].split("\n", 2)[2].splitlines()
        assert printed[0].split() == ["word", "pair", "value", "key", "gate", "residual", "heads"]
        assert printed[1].split() == ["models", *["overlap"] * 4, "change", "gap", "recover"]
        cells = [row.split() for row in printed[3:]]
        assert cells[0][:2] == ["base", "->"] and cells[0][-2:] == ["+5.9", "+0.912"] and ["again"] in cells

    @pytest.mark.parametrize(
        ("labels", "count", "says"),
        [
            (None, 1, "two or more models, got 1"),
            (["a", "b"], 3, "3 models and 2 labels"),
            (["a", "b", "a"], 3, "'a' is empty or stands twice"),
            (["a", "b", " "], 3, "' ' is empty or stands twice"),
        ],
    )
    def test_labels_and_models(
        self, pair_folders: tuple[Path, Path], tmp_path: Path, labels: list[str] | None, count: int, says: str
    ) -> None:
        models = [*pair_folders, pair_folders[0]][:count]
        with pytest.raises(itlens.PairError, match=says):
            itlens.compare_series(models, six_prompts(), labels=labels, out=tmp_path / "run", **ATTRIBUTED)

    def test_a_wrong_option_does_not_spoil_the_folder(self, pair_folders: tuple[Path, Path], tmp_path: Path) -> None:
        asked = ATTRIBUTED | {"limit": 1}
        with pytest.raises(itlens.ProbeError, match="nope"):
            itlens.compare_series(pair_folders, six_prompts(), out=tmp_path / "run", **asked, method="nope")
        found = itlens.compare_series(pair_folders, six_prompts(), labels=["a", "b"], out=tmp_path / "run", **asked)
        assert found.labels == ("a", "b")

    def test_models_of_another_shape_are_refused_before_any_work(
        self, pair_folders: tuple[Path, Path], tmp_path: Path
    ) -> None:
        models = {"base": pair_folders[0], "sft": pair_folders[1], "odd": tiny_folder(tmp_path / "odd", "gpt2")}
        with pytest.raises(itlens.PairError, match="base and odd: "):
            itlens.compare_series(models, six_prompts(), out=tmp_path / "run", **ATTRIBUTED)
        assert not (tmp_path / "run").exists()
