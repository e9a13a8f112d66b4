"""Help that teaches, what a run says before it starts, `--json`, `--quiet`, `itlens findings`, shell completion."""

from __future__ import annotations

import io
import json
import re
import shlex
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import itlens
from itlens import cli
from itlens.cli.examples import examples
from itlens.findings import findings
from itlens.findings.options import options_of
from itlens.prompts import save_prompts
from itlens.report import terminal
from itlens.study import open_comparison
from itlens.study.catalogue import finding_facts
from itlens.study.preview import Pending, duration, estimate
from tests.commands import Commands
from tests.study.studies import registered
from tests.study.toy import Louder
from tests.tiny import tiny_folder

WORDS = ("cat", "dog", "horse", "mouse", "apple", "pear")
NAMES = ("demo", "compare", "report", "findings", "attribute", "attend", "words", "concepts", "inspect", "selftest")
NAMES += ("bench",)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What every `compare` here begins with: two tiny models, six prompts, three tokens."""
    folder = tmp_path_factory.mktemp("teaching")
    models = [str(tiny_folder(folder / name, "llama", seed=seed)) for seed, name in enumerate(("base", "tuned"))]
    task = "Translate the word"
    prompts = [itlens.Prompt(f"{task}: {word}.", task, id=word) for word in WORDS]
    save_prompts(prompts, folder / "prompts.jsonl")
    asked = ["--prompts", str(folder / "prompts.jsonl"), "--probes", "attribution", "--max-new-tokens", "3"]
    return [*models, *asked]


@pytest.fixture(scope="module")
def finished(pair: list[str]) -> Path:
    out = Path(pair[0]).parent / "finished"
    itlens.compare(*pair[:2], pair[3], out=out, max_new_tokens=3, probes="attribution", progress=False)
    return out


@pytest.fixture(scope="module")
def application() -> Any:
    return cli.application()


# ---- help


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_two_examples_that_its_parser_takes(name: str, application: Any) -> None:
    command = application.commands[name]
    shown = examples()[name]
    assert len(shown) >= 2
    for line in shown:
        words = shlex.split(line.split(" > ")[0])
        assert words[:2] == ["itlens", name]
        command.make_context(name, words[2:])  # raises for an option, a value or a number of arguments that is wrong


def test_every_command_has_its_examples(application: Any) -> None:
    assert set(application.commands) == set(NAMES)
    assert set(examples()) == {"", *NAMES}


def test_help_ends_with_the_examples(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    code, printed, err = commands.run("words", "--help")
    assert (code, err) == (0, "")
    for line in examples()["words"]:
        assert line in printed


def test_help_of_compare_groups_options_by_finding(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    printed = commands.run("compare", "--help").out
    assert "Options of attribution, faithfulness" in printed
    assert printed.index("Options of attribution, faithfulness") < printed.index("--objective")


# ---- what a run says before it starts


@pytest.fixture
def first(commands: Commands, pair: list[str], tmp_path: Path) -> dict[str, str]:
    """What a new run says before it starts."""
    assert commands.run("compare", *pair, "--out", tmp_path / "run", "--limit", 5).code == 0
    return commands.preview


def test_a_run_says_before_it_starts_what_it_will_do(first: dict[str, str], tmp_path: Path) -> None:
    assert list(first) == ["models", "device", "prompts", "folder", "to do", "time"]
    assert first["models"] == "base (base) and tuned (tuned): 2 layers, 4 heads, d_model 32"
    assert first["device"] == "cpu, float32"
    assert first["prompts"] == "5, each model on its own responses (at most 3 new tokens)"
    assert first["folder"] == f"{tmp_path / 'run'}, nothing is finished yet"
    assert first["to do"] == "attribution (5 prompts of each model); tables and report"
    assert re.fullmatch(
        r"attribution: the first prompt took \d+\.\d s, so about \d+ seconds? for the 9 that are left, and the report",
        first["time"],
    )


def test_a_run_that_goes_on_says_what_is_finished(
    commands: Commands, first: dict[str, str], pair: list[str], tmp_path: Path
) -> None:
    commands.run("compare", *pair, "--out", tmp_path / "run")
    again = commands.preview
    assert again["folder"] == f"{tmp_path / 'run'}, 10 of 12 results are finished and kept"
    assert again["to do"] == "attribution (1 of 6 prompts of each model); tables and report"


def test_a_finished_run_says_that_only_tables_and_report_are_left(
    commands: Commands, pair: list[str], finished: Path
) -> None:
    assert commands.run("compare", *pair, "--out", finished).code == 0
    assert commands.preview["to do"] == "tables and report"
    assert "time" not in commands.preview


def test_one_result_is_said_in_the_singular() -> None:
    """1 result, 4 results, 1 of 4 results: as one would say it."""
    known = findings()
    said = [Pending(known["activation"], n, {"pair": left}).words for n, left in ((1, 1), (4, 4), (4, 1))]
    amounts = [words.removeprefix("activation (").split(",")[0] for words in said]
    assert amounts == ["1 result", "4 results", "1 of 4 results"]


def test_the_estimate_is_the_measured_time_times_what_is_left() -> None:
    """2 s for the first of 60 prompts of both models: 119 x 2 s."""
    known = findings()
    measured = Pending(known["attribution"], 60, {"base": 60, "tuned": 60})
    other = Pending(known["patching"], 1, {"pair": 1})
    finished = Pending(known["mlp"], 3, {"base": 0, "tuned": 0})
    said = estimate(2.0, measured, [measured, other, finished])
    assert "the first prompt took 2.0 s, so about 4 minutes for the 119 that are left; patching and the report" in said


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 second"), (40, "40 seconds"), (720, "12 minutes"), (9000, "2.5 hours")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_python_says_nothing_without_progress(
    pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"max_new_tokens": 3, "probes": "attribution", "limit": 1, "progress": False}
    itlens.compare(*pair[:2], pair[3], out=tmp_path / "run", **asked)
    assert capsys.readouterr() == ("", "")


# ---- --json and --quiet


def test_compare_json_is_findings_json_and_nothing_else(commands: Commands, pair: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, printed, err = commands.run("compare", *pair, "--out", out, "--json")
    assert code == 0
    assert json.loads(printed) == json.loads((out / "findings.json").read_text(encoding="utf-8"))
    assert f"Report: {out / 'report.html'}" in err
    assert "Instruction score" in err


def test_quiet_json_leaves_standard_error_empty(commands: Commands, finished: Path) -> None:
    code, printed, err = commands.run("report", finished, "--json", "--quiet")
    assert (code, err) == (0, "")
    assert list(json.loads(printed)["findings"]) == ["attribution"]


def test_quiet_prints_nothing(commands: Commands, pair: list[str], finished: Path, tmp_path: Path) -> None:
    assert commands.run("report", finished, "-q") == (0, "", "")
    assert commands.run("compare", *pair, "--out", tmp_path / "run", "--limit", 1, "--quiet") == (0, "", "")


def test_attribute_json_is_format_json(commands: Commands, pair: list[str]) -> None:
    asked = ("attribute", pair[0], "--prompt", "Translate the word: cat.", "--response", " a b")
    assert commands.run(*asked, "--json") == commands.run(*asked, "--format", "json")
    assert "--json and --format csv do not go together" in commands.refused(*asked, "--json", "--format", "csv")


def test_inspect_json(commands: Commands, pair: list[str]) -> None:
    code, printed, err = commands.run("inspect", pair[0], "--no-check", "--json")
    assert (code, err) == (0, "")
    assert json.loads(printed)["layers"] == 2


def test_wrong_input_with_json_is_one_sentence_and_no_json(commands: Commands, pair: list[str]) -> None:
    assert "holds no study" in commands.refused("report", Path(pair[0]), "--json")


# ---- the table of findings


def test_the_last_table_is_the_first_of_the_report(finished: Path) -> None:
    """Answers and numbers, row by row, as the page's first table has them."""
    page = open_comparison(finished).page
    html = (finished / "report.html").read_text(encoding="utf-8")
    table = html[html.index("<table") : html.index("</table>")]
    console = Console(file=io.StringIO(), width=160)
    terminal.print_page(page, console)
    last = console.file.getvalue().rsplit("\n\n", 3)  # type: ignore[attr-defined]
    printed = " ".join("".join(last[1:]).split())
    words = " ".join(unescape(re.sub(r"<[^>]*>", " ", table)).split())
    for row in page.rows:
        for text in (row.question, row.word, row.number):
            assert text in words
            assert text in printed


# ---- itlens findings


def test_the_list_says_what_each_finding_asks_and_reads(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip() for line in commands.run("findings").out.splitlines()]
    for finding in findings().values():
        assert finding.name in lines
        assert f"reads {finding_facts(finding)['reads']}" in lines
        assert finding.question[:60] in " ".join(lines)


@pytest.mark.parametrize("name", list(findings()))
def test_one_finding_with_all_its_options(name: str, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, printed, err = commands.run("findings", name)
    finding = findings()[name]
    assert (code, err) == (0, "")
    assert finding.question in printed
    assert finding_facts(finding)["measures"][:60] in " ".join(printed.split())
    for each in finding_facts(finding)["options"]:
        assert (each["flag"] or f"{each['name']}=") in printed


def test_findings_json(commands: Commands) -> None:
    listed = json.loads(commands.run("findings", "--json").out)
    assert [each["name"] for each in listed] == list(findings())
    one = json.loads(commands.run("findings", "patching", "--json").out)
    assert [each["name"] for each in one["options"]] == [
        each.name for each in options_of(findings()["patching"].Options)
    ]


def test_an_unknown_finding_names_the_closest(commands: Commands) -> None:
    assert commands.refused("findings", "patchin") == "There is no finding 'patchin'; did you mean 'patching'?"


# ---- shell completion


def completed(commands: Commands, monkeypatch: pytest.MonkeyPatch, words: str) -> list[str]:
    """What the shell offers for a line, the last word being begun."""
    monkeypatch.setenv("_ITLENS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    return commands.run().out.split()


def test_the_shell_completes_commands_flags_and_findings(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed(commands, monkeypatch, "itlens comp") == ["compare"]
    assert completed(commands, monkeypatch, "itlens findings pat") == ["patching"]
    assert completed(commands, monkeypatch, "itlens compare a b --probes patching,at") == [
        "patching,attribution",
        "patching,attention",
    ]
    assert "--max-new-tokens" in completed(commands, monkeypatch, "itlens compare a b --max")


def test_the_completion_script_can_be_printed(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda *args: ("bash", "/bin/bash"))
    assert "_ITLENS_COMPLETE=complete_bash" in commands.run("--show-completion").out


@dataclass
class Unhashable(Louder):
    """A finding as a dataclass, which compares by its fields and has no hash."""

    name = "unhashable"
    shortcut_names = ()


def test_the_command_line_is_made_once_for_each_set_of_findings() -> None:
    before = cli.application()
    assert cli.application() is before
    with registered(Unhashable):
        other = cli.application()
        assert other is not before
        assert cli.application() is other
    assert cli.application() is not other
