"""Template x weights: the cells, what both comparisons share, pages that are written again, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import itlens
from itlens.files import minus
from itlens.prompts import frame_prompts
from itlens.study import TemplateComparison, open_series, open_templates
from itlens.study.several_outcome import write_again
from tests.study.studies import Counted, six_prompts, vectors, vocabulary
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


def test_the_cells_are_those_of_the_four_readings(both: TemplateComparison, chat_folders: tuple[Path, Path]) -> None:
    framed = frame_prompts(six_prompts(), "chat", tiny_tokenizer(chat_template=CHAT))
    assert [prompt.text for prompt in both.on.prompts] == [frame.prompt.text for frame in framed]
    assert [prompt.text for prompt in both.off.prompts] == [prompt.text for prompt in six_prompts()]
    cells = {(which, "off"): getattr(both.off, which) for which in ("base", "tuned")}
    cells |= {(which, "on"): getattr(both.on, which) for which in ("base", "tuned")}
    expected = itlens.diff.template_effects(cells, six_prompts(), framed, seed=3)
    own = both.effects.effects[both.effects.effects["statistic"].isin(["instruction_score", "response_tokens"])]
    pd.testing.assert_frame_equal(own.reset_index(drop=True), expected.effects.reset_index(drop=True))
    assert both.verdict == minus(itlens.diff.template_verdict(expected.effects))


def test_activations_are_taken_apart_as_well(both: TemplateComparison) -> None:
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


def test_the_page_and_tables_can_be_made_again(both: TemplateComparison, tmp_path: Path) -> None:
    out = Path(shutil.copytree(both.out, tmp_path / "run"))
    (out / "report.html").unlink()
    shutil.rmtree(out / "tables")
    again = write_again(out, "template")
    assert again.answers == both.answers and "off/report.html" in (out / "report.html").read_text()
    assert {path.name for path in (out / "tables").iterdir()} >= {"effects.csv", "template_share.parquet"}
    assert open_templates(out).notes == both.notes


@pytest.mark.usefixtures("no_page")
def test_a_second_run_computes_nothing(
    both: TemplateComparison, chat_folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    asked = ATTRIBUTED | {"probes": ["attribution", "activation"]}
    again = itlens.compare_templates(*chat_folders, six_prompts(), out=both.out, **asked)
    assert counted.units == [] and counted.loaded == [] and again.answers == both.answers


@pytest.mark.usefixtures("no_page")
def test_weights_are_probed_once(chat_folders: tuple[Path, Path], tmp_path: Path) -> None:
    words: dict[str, Any] = {"vocabulary": vocabulary(), "vectors": vectors(), "top_k": 5}
    asked = ATTRIBUTED | {"probes": ["attribution", "attention"], "limit": 2}
    found = itlens.compare_templates(*chat_folders, six_prompts(), out=tmp_path / "run", **asked, **words)
    assert found.off.words is not None and found.on.words is None and len(found.on.prompts) == 2


def test_a_model_without_a_template(chat_folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, _ = chat_folders
    with pytest.raises(itlens.PromptError, match="chat template"):
        itlens.compare_templates(base, base, six_prompts(), out=tmp_path / "run", **ATTRIBUTED)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"format": "chat"}, "leave format out"),
        ({"probes": "attention"}, "add a finding that reads prompts to the probes"),
    ],
)
def test_what_does_not_go_together(
    chat_folders: tuple[Path, Path], tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(itlens.ProbeError, match=says):
        itlens.compare_templates(*chat_folders, six_prompts(), out=tmp_path / "run", **ATTRIBUTED | options)


def test_a_folder_of_other_things(both: TemplateComparison, chat_folders: tuple[Path, Path]) -> None:
    with pytest.raises(itlens.StoreError, match="another study"):
        itlens.compare_templates(*chat_folders, six_prompts()[:3], out=both.out, **ATTRIBUTED)
    with pytest.raises(itlens.StoreError, match="holds no series study"):
        open_series(both.out)
