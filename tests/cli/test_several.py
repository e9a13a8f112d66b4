"""`itlens compare` with a chat template, with several models, and with the parts that run models; `itlens report`."""

from __future__ import annotations

from pathlib import Path

import pytest

from itlens.findings import findings
from itlens.prompts import save_prompts
from tests.commands import Commands
from tests.study.studies import six_prompts
from tests.tiny import tiny_folder, tiny_tokenizer

CHAT = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[assistant]"
SHORT = ("--probes", "attribution", "--max-new-tokens", 2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base and plain have no chat template, tuned has one; two prompts."""
    root = tmp_path_factory.mktemp("cli-several")
    for seed, name in enumerate(("base", "tuned", "plain")):
        tiny_folder(root / name, "llama", seed=seed)
    tiny_tokenizer(chat_template=CHAT).save_pretrained(root / "tuned")
    save_prompts(six_prompts()[:2], root / "two.jsonl")
    return root


def test_both_templates(commands: Commands, files: Path, tmp_path: Path) -> None:
    asked = ("compare", files / "base", files / "tuned", "--prompts", files / "two.jsonl", "--out", tmp_path / "run")
    code, out, err = commands.run(*asked, *SHORT, "--template", "both")
    assert (code, err) == (0, "")
    assert "Weights or template?" in out
    assert "instruction score" in out
    assert out.rstrip().endswith(f"{tmp_path / 'run'}/report.html")
    (tmp_path / "run" / "report.html").unlink()
    again = commands.run("report", tmp_path / "run")
    assert again == (0, out, "") and (tmp_path / "run" / "report.html").exists()


def test_the_template_for_both_models(commands: Commands, files: Path, tmp_path: Path) -> None:
    asked = ("compare", files / "base", files / "tuned", "--prompts", files / "two.jsonl", *SHORT)
    assert commands.run(*asked, "--template", "on", "--out", tmp_path / "on").code == 0
    read = (tmp_path / "on" / "prompts.jsonl").read_text()
    assert read.count("[user] Translate") == 2 and read.count("[assistant]") == 2
    assert commands.run(*asked, "--template", "off", "--out", tmp_path / "off").code == 0
    assert "[user]" not in (tmp_path / "off" / "prompts.jsonl").read_text()


def test_a_series(commands: Commands, files: Path, tmp_path: Path) -> None:
    models = [files / name for name in ("base", "tuned", "plain")]
    asked = (*models, "--labels", "base, sft,dpo", "--prompts", files / "two.jsonl", "--out", tmp_path / "run")
    code, out, err = commands.run("compare", *asked, *SHORT)
    assert (code, err) == (0, "")
    assert "Compared with the first model" in out
    assert "instruction score" in out
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "2-sft", "3-dpo", "series.json", "index.jsonl", "tables", "report.html", "findings.json"
    }  # fmt: skip
    again = commands.run("report", tmp_path / "run")
    assert again == (0, out, "")
    one = commands.run("report", tmp_path / "run" / "3-dpo")
    assert one.code == 0 and "dpo" in (tmp_path / "run" / "3-dpo" / "report.html").read_text()


def test_the_running_models(commands: Commands, files: Path, tmp_path: Path) -> None:
    asked = ("compare", files / "base", files / "tuned", "--prompts", files / "two.jsonl", "--out", tmp_path / "run")
    code, out, err = commands.run(
        *asked, "--probes", "patching,faithfulness", "--max-new-tokens", 2, "--sample", 1, "--seed", 4
    )
    assert (code, err) == (0, "")
    for name in ("patching", "faithfulness"):
        assert findings()[name].question in out
    assert len(list((tmp_path / "run" / "faithfulness" / "base").glob("*.nc"))) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("base", "plain", "--template", "on"), "no chat template; use"),
        (("base", "plain", "--template", "on"), "; on the command line: --template off."),
        (("base", "plain", "--template", "both"), "; on the command line: --template off."),
        (("base", "tuned", "--template", "both", "--format", "Q: {prompt}"), "leave --prompt-format out"),
        (("base", "tuned", "--template", "on", "--format", "chat"), "leave --prompt-format out"),
        (("base", "tuned", "plain", "--template", "both"), "compares two models, got 3"),
        (
            ("base", "tuned", "--template", "both", "--probes", "attention"),
            "add a finding that reads prompts to the probes",
        ),
        (("base", "tuned", "--labels", "a,b,c"), "--labels names 3 models, and there are 2"),
        (("base", "tuned", "plain", "--labels", "a,b"), "--labels names 2 models, and there are 3"),
        (("base", "tuned", "plain", "--labels", "a,b,b"), "'b' is empty or is given twice"),
        (("base", "tuned", "plain", "--adapter", "x"), "--adapter belongs to one tuned model"),
        (("base",), "Give TUNED (one or several models), or --adapter"),
        (("base", "tuned", "nowhere"), "nowhere"),
    ],
)
def test_wrong_input_is_one_sentence(
    commands: Commands, files: Path, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    models = [files / word if (files / word).exists() else word for word in words]
    sentence = commands.refused("compare", *models, "--prompts", files / "two.jsonl", "--out", tmp_path / "run")
    assert says in sentence and not (tmp_path / "run").exists()


def test_no_such_template(commands: Commands, files: Path) -> None:
    assert "'off', 'on', 'both'" in commands.refused("compare", files / "base", files / "tuned", "--template", "maybe")


def test_a_folder_of_several_that_is_broken(commands: Commands, files: Path, tmp_path: Path) -> None:
    (tmp_path / "series.json").write_text('{"labels": ["a"]}')
    assert "does not name the models of a series" in commands.refused("report", tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "template.json").write_text("[]")
    assert "template.json is damaged" in commands.refused("report", tmp_path / "other")
