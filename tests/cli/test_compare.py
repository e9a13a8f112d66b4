"""The command line: exit codes, what it prints, and what it does not import."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

import itlens
from itlens import cli
from itlens.cli.attribute import token_table
from itlens.findings import findings
from itlens.findings.options import options_of
from itlens.prompts import save_prompts
from itlens.report import terminal
from itlens.study import Comparison, open_comparison
from itlens.study.failure import Failure
from tests.commands import Commands, apart, interrupted
from tests.study.studies import WORDS as VOCABULARY
from tests.study.studies import Counted, registered
from tests.study.toy import Louder
from tests.tiny import tiny_folder

ROOT = Path(__file__).parents[2]
PROMPT = "Translate the word: cat."
WORDS = ("cat", "dog", "horse", "mouse", "apple", "pear")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("cli") / "base", "llama", seed=0)


@pytest.fixture(scope="module")
def pair(base: Path) -> list[str]:
    """What every `compare` here begins with."""
    tuned = tiny_folder(base.parent / "tuned", "llama", seed=1)
    prompts = base.parent / "prompts.jsonl"
    task = "Translate the word"
    save_prompts([itlens.Prompt(f"{task}: {word}.", task, id=word, group=word[0]) for word in WORDS], prompts)
    asked = ["--prompts", str(prompts), "--probes", "attribution", "--max-new-tokens", "3"]
    return [str(base), str(tuned), *asked]


@pytest.fixture(scope="module")
def finished(pair: list[str], base: Path) -> Path:
    out = base.parent / "finished"
    itlens.compare(*pair[:2], pair[3], out=out, max_new_tokens=3, probes="attribution")
    return out


def python(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)


def test_import_and_help_load_nothing_heavy() -> None:
    code = """
import sys
import itlens
light = set(sys.modules)
from itlens.cli import main
for words in (["--help"], ["compare", "--help"], ["demo", "--help"]):
    sys.argv = ["itlens", *words]
    try:
        main()
    except SystemExit as error:
        assert error.code == 0, error.code
print([name for name in ("torch", "transformers", "transformer_lens", "numpy", "pandas", "xarray") if name in light])
print([name for name in ("torch", "transformers", "transformer_lens") if name in sys.modules])
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"]
    assert done.stderr == ""
    for flag in ("--prompts", "--max-new-tokens", "--responses", "--sample", "--concept-vectors"):
        assert flag in done.stdout


def test_the_console_script_is_main() -> None:
    declared = re.search(r'^itlens = "(.+):(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert declared is not None
    module, name = declared.groups()
    assert getattr(import_module(module), name) is cli.main


def test_compare_prints_verdict_table_and_where_the_report_is(
    commands: Commands, pair: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, printed, err = commands.run(
        "compare", *pair, "--out", out, "--limit", 5, "--probes", "attribution", "--seed", 4
    )
    assert (code, err) == (0, "")
    found = open_comparison(out)
    assert " ".join(found.verdict.split()) in " ".join(printed.split())
    assert f"Report: {out / 'report.html'}" in printed and (out / "report.html").exists()
    assert len(found.prompts) == 5 and found.study["settings"]["seed"] == 4
    row = next(line for line in printed.splitlines() if line.strip().startswith("all"))
    assert row.split()[:3] == ["all", "5", f"{found.diff.groups.iloc[0]['base_mean']:.3f}"]


def test_another_study_in_out_is_refused(commands: Commands, pair: list[str], finished: Path) -> None:
    sentence = commands.refused("compare", *pair[:-1], "4", "--out", finished)
    assert "another study" in sentence and "max_new_tokens: 3 there, 4 here" in sentence


def test_numbers_are_never_cut_in_a_narrow_terminal(finished: Path) -> None:
    found = open_comparison(finished)
    groups = found.tables["attribution"]["groups"]
    groups.loc[1, "group"] = "a family of tasks with a very long name"
    groups.loc[1, ["ci_low", "ci_high", "note"]] = [-1.234, 10.987, ""]
    groups.loc[1, ["p_paired", "p_holm", "effect_size"]] = [1e-5, 1e-5, -1.22]
    console = Console(file=io.StringIO(), width=80)
    terminal.print_page(found.page, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    for number in ("1.23", "10.99", "1.22", "0.001"):
        assert number in shown.replace("10.987", "10.99").replace("1.234", "1.23")
    assert max(map(len, shown.splitlines())) <= 80


def test_text_from_files_cannot_steer_the_terminal(commands: Commands, pair: list[str], tmp_path: Path) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J"
    prompt = itlens.Prompt(PROMPT, "Translate", id=f"{hostile}", group=f"{hostile}[bold]g", response="")
    save_prompts([prompt], tmp_path / "p.jsonl")
    code, printed, err = commands.run(
        "compare", *pair[:2], "--prompts", tmp_path / "p.jsonl", "--out", tmp_path / "run", "--probes", "attribution"
    )
    assert (code, err) == (0, "") and "owned" in printed
    assert "\x1b" not in printed and "\x07" not in printed
    assert (
        "\x1b" not in commands.run("attribute", pair[0], "--prompt", f"{PROMPT} {hostile}", "--response", hostile).out
    )


@pytest.mark.parametrize(("by", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_so_and_keeps_what_is_finished(
    by: signal.Signals, expected: int, commands: Commands, pair: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, printed, err = interrupted(
        lambda: len(list(out.glob("attribution/*/*.nc"))) >= 2, "compare", *pair, "--out", out, by=by
    )
    kept = {path: path.stat().st_mtime_ns for path in out.glob("attribution/*/*.nc")}
    assert (code, printed) == (expected, "") and 2 <= len(kept) < 12
    assert err.strip() == f"Stopped; {len(kept)} finished results are kept in {out}: the same command goes on."
    assert not list(out.rglob("*.part"))
    assert commands.run("compare", *pair, "--out", out).code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(out.glob("attribution/*/*.nc"))) == 12


def test_ctrl_c_before_anything_is_finished(
    commands: Commands, pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(findings()["attribution"]), "run", interrupted)
    code, printed, err = commands.run("compare", *pair, "--out", tmp_path / "run")
    assert (code, printed, err.strip()) == (130, "", "Stopped; nothing was finished.")
    assert not (tmp_path / "run").exists()


def test_attribute_in_three_formats(commands: Commands, base: Path) -> None:
    asked = ("attribute", base, "--prompt", PROMPT, "--response", ' Le "chat"\n, é.')
    found = itlens.attribute(itlens.load_model(base), PROMPT, ' Le "chat"\n, é.')
    table = token_table(found)
    code, printed, err = commands.run(*asked, "--format", "json")
    content = json.loads(printed)
    assert (code, err) == (0, "") and content["response"] == ' Le "chat"\n, é.'
    assert [row["token"] for row in content["tokens"]] == list(found.source_token.values)
    assert [row["score_sum"] for row in content["tokens"]] == pytest.approx(table["score_sum"].tolist(), rel=1e-6)
    code, printed, err = commands.run(*asked, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert (code, err) == (0, "") and "".join(row["token"] for row in rows) == PROMPT
    assert [float(row["importance_density"]) for row in rows] == pytest.approx(table["importance_density"].tolist())
    code, printed, err = commands.run(*asked, "--instruction", "Translate the word")
    mask = itlens.span_mask(found, itlens.Prompt(PROMPT, "Translate the word"), "instruction")
    score = itlens.span_score(itlens.importance_density(found), mask)
    assert (code, err) == (0, "") and PROMPT in printed
    assert f"Instruction score: {score:.3f}" in printed


def test_attribute_saves_scores_and_views(commands: Commands, base: Path, tmp_path: Path) -> None:
    asked = ("attribute", base, "--prompt", PROMPT, "--max-new-tokens", 3, "--format", "json")
    assert commands.run(*asked, "--out", tmp_path / "new" / "scores.nc").code == 0
    saved = itlens.load(tmp_path / "new" / "scores.nc")
    assert saved.sizes["target"] == 3 and saved.attrs["prompt_text"] == PROMPT
    assert commands.run(*asked, "--out", tmp_path / "view.html").code == 0
    assert "<html" in (tmp_path / "view.html").read_text(encoding="utf-8")
    assert "ends in .nc or .html" in commands.refused(*asked, "--out", tmp_path / "scores.txt")
    assert "it is a folder" in commands.refused(
        "attribute", base, "--prompt", PROMPT, "--out", folder(tmp_path / "a.nc")
    )


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_inspect_tells_shape_tokens_and_the_checks_figures(commands: Commands, base: Path) -> None:
    code, printed, err = commands.run("inspect", base)
    facts = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in printed.splitlines() if line.strip())
    assert (code, err) == (0, "")
    assert (facts["architecture"], facts["layers"], facts["vocabulary"]) == ("LlamaForCausalLM", "2", "300")
    assert (facts["bos"], facts["front"], facts["conversion"]) == ("<s>", "<s>", "itlens")
    assert float(facts["check relative difference"]) < 1e-4 and facts["check argmax agreement"] == "1"
    code, printed, err = commands.run("inspect", base, "--no-check", "--backend", "bridge")
    assert (code, err) == (0, "") and "check" not in printed and "bridge" in printed


def test_no_command_shows_the_help(commands: Commands) -> None:
    code, printed, err = commands.run()
    assert (code, err) == (2, "") and "compare" in printed


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["dance"], "No such command 'dance'"),
        (["compare"], "Missing argument"),
        (["compare", "a", "b", "--colour"], "No such option: --colour"),
        (["compare", "a", "b", "--dtype", "int3"], "'int3' is not one of"),
        (["compare", "a", "b", "--backend", "spoon"], "'spoon' is not one of"),
        (["compare", "a", "b", "--limit", "0"], "--limit"),
        (["compare", "a", "b", "--limit", "many"], "--limit"),
        (["compare", "a", "b", "--max-new-tokens", "0"], "--max-new-tokens"),
        (["compare", "a", "b", "--batch-size", "-3"], "--batch-size"),
        (["compare", "a", "b", "--seed", "-1"], "--seed"),
        (["attribute", "a"], "Missing option '--prompt'"),
        (["attribute", "a", "--prompt", "x", "--format", "xml"], "'xml' is not one of"),
        (["report"], "Missing argument"),
        (["inspect", "a", "b"], "unexpected extra argument"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_sentence(commands: Commands, words: list[str], named: str) -> None:
    assert named in commands.refused(*words)


def test_a_system_error_is_one_sentence(commands: Commands, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: object, **options: object) -> None:
        raise OSError(5, "Input/output error", "/dev/disk")

    monkeypatch.setattr(terminal, "print_page", failing)
    assert commands.refused("report", finished) == (
        "/dev/disk: the disk cannot be read or written; check it, or choose another one."
    )


def test_a_terminal_without_unicode_shows_escapes(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["itlens", "report", str(finished)])
    monkeypatch.setattr(Comparison, "study_notes", ["a café"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    sys.stdout.flush()
    assert not ended.value.code and b"Note: a caf\\xe9" in raw.getvalue()


@pytest.mark.long
def test_demo_runs_on_the_embedded_pair(commands: Commands, tmp_path: Path) -> None:
    """On the tuned model's responses; next to it, what each model's own give."""
    out = tmp_path / "run"
    code, printed, err = commands.run("demo", "--out", out, "--limit", 4, "--probes", "attribution,faithfulness")
    assert (code, err) == (0, "")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "demo tuned" in page
    found, own = open_comparison(out), open_comparison(out / "own-responses")
    assert len(found.base) == len(own.base) == 4
    assert found.study["reading"]["settings"]["responses"] == "tuned"
    assert own.study["reading"]["settings"]["responses"] == "own"
    (said,) = [note for note in found.notes if note.startswith("On each model's own responses")]
    assert own.verdicts["attribution"].sentence in said
    assert " ".join(said.split()) in " ".join(printed.split())
    assert list(own.verdicts) == ["attribution"], "what builds on other findings is compared once"


def test_demo_on_each_models_own_responses(commands: Commands, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("demo", "--out", out, "--limit", 2, "--probes", "attribution", "--responses", "own")
    assert commands.run(*words).code == 0
    assert open_comparison(out).study["reading"]["settings"]["responses"] == "own"
    assert not (out / "own-responses").exists()


def test_responses_of_one_model(commands: Commands, pair: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, _, err = commands.run("compare", *pair, "--limit", 2, "--responses", "base", "--out", out)
    assert (code, err) == (0, "")
    assert {result.attrs["response_of"] for result in open_comparison(out).tuned.values()} == {"base"}


def test_the_end_of_compare_is_the_table_of_findings_and_the_answer(commands: Commands, finished: Path) -> None:
    code, printed, err = commands.run("report", finished)
    found = open_comparison(finished)
    assert (code, err) == (0, "")
    end = " ".join(printed[printed.rindex("question") :].split())
    assert end.startswith("question answer")
    assert set(findings()["attribution"].question.split()) <= set(end.split())  # in a column of several lines
    assert found.page.answer in end
    assert end.endswith(f"Report: {finished / 'report.html'}")


def test_findings_are_listed_with_their_options(commands: Commands) -> None:
    code, printed, err = commands.run("findings")
    shown = " ".join(printed.split())
    assert (code, err) == (0, "")
    for name, finding in findings().items():
        assert name in shown
        for option in options_of(finding.Options):
            assert option.name in "".join(printed.split()), option.name


# ---- options of findings


@pytest.fixture(scope="module")
def concepts(pair: list[str], base: Path) -> list[object]:
    """What every comparison of concepts here begins with."""
    listed = [word for word in VOCABULARY if "\n" not in word]
    (base.parent / "words.txt").write_text("\n".join(listed), encoding="utf-8")
    options = ["--vocabulary", base.parent / "words.txt", "--components", 9, "--resamples", 2]
    return ["compare", *pair[:2], "--probes", "mlp", *options]


def test_options_reach_the_study_and_what_reads_weights_needs_no_prompts(
    commands: Commands, concepts: list[object], tmp_path: Path
) -> None:
    own = ["--side", "key, gate", "--concept-words", 7, "--labelled", 3, "--seed", 5, "--out", tmp_path / "run"]
    code, out, err = commands.run(*concepts, *own, "--prompts", "no-such-file.jsonl")
    assert (code, err) == (0, "")
    found = open_comparison(tmp_path / "run")
    expected = {"components": 9, "concept_words": 7, "resamples": 2, "labelled": 3, "resample_seed": 5}
    assert found.study["findings"]["mlp"]["settings"].items() >= expected.items()
    assert list(found.concepts) == ["key", "gate"]
    assert {len(results.base_labels) for results in found.concepts.values()} == {2 * 3}
    assert " ".join(found.verdict.split()) in " ".join(out.split())
    again = commands.run("report", tmp_path / "run")
    assert again == (0, out, "")


def test_ctrl_c_counts_units(
    commands: Commands, concepts: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Counted(patch, stop_at=3, error=KeyboardInterrupt())
        code, out, err = commands.run(*concepts, "--out", tmp_path / "run")
    said = f"Stopped; 3 finished results are kept in {tmp_path / 'run'}: the same command goes on."
    assert (code, out, err.strip()) == (130, "", said)
    counted = Counted(monkeypatch)
    assert commands.run(*concepts, "--out", tmp_path / "run").code == 0
    assert len(counted.units) == 5


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--side", "query"), "concept_vectors holds 'query'; expected some of value, key, gate."),
        (("--side", ""), "concept_vectors holds ''; expected some of"),
        (("--components", 0), "--components"),
        (("--components", 33), "components=33; the 56 centred vectors of width 32 have a rank of at most 32"),
        (("--resamples", -1), "--resamples"),
        (("--concept-words", 0), "--concept-words"),
        (("--labelled", 0), "--labelled"),
        (("--vocabulary", "missing.txt"), "missing.txt"),
    ],
    ids=lambda value: "_".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_is_not_there_is_refused_before_weights_are_loaded(
    commands: Commands,
    concepts: list[object],
    tmp_path: Path,
    options: tuple[object, ...],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = Counted(monkeypatch)
    assert named in commands.refused(*concepts, *options, "--out", tmp_path / "run")
    assert counted.loaded == []
    assert counted.units == []
    assert list(tmp_path.iterdir()) == []


def test_a_bug_of_a_finding_ends_with_exit_code_1_and_a_report(
    commands: Commands, pair: list[str], tmp_path: Path
) -> None:
    class Broken(Louder):
        name = "broken"

        def compare(self, saved: object, plan: object) -> dict[str, object]:
            raise ValueError("a bug of mine")

    with registered(Louder), registered(Broken):
        words = ("compare", *pair[:2], "--probes", "louder,broken", "--out", tmp_path / "run")
        code, printed, err = commands.run(*words)
    assert (code, err) == (1, "")
    assert "The finding 'broken' could not be compared: ValueError: a bug of mine" in " ".join(printed.split())
    assert (tmp_path / "run" / "report.html").exists()


def test_quiet_prints_nothing_and_writes_everything(commands: Commands, pair: list[str], tmp_path: Path) -> None:
    assert commands.run("compare", *pair, "--out", tmp_path / "run", "--quiet") == (0, "", "")
    assert (tmp_path / "run" / "report.html").exists()


def test_quiet_still_names_what_failed(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(failures=[Failure("attention", "run", ZeroDivisionError("spoon"))])
    monkeypatch.setattr("itlens.cli.compare._run", lambda *given: failed)
    code, printed, err = commands.run("compare", "a", "b", "--quiet")
    assert (code, printed) == (1, "")
    assert err == "itlens: The finding 'attention' could not be computed: ZeroDivisionError: spoon\n"


@pytest.mark.parametrize("flag", ["--prompt-format", "--format"])
def test_the_form_of_prompts_has_its_own_name_and_the_old_one(
    commands: Commands, pair: list[str], tmp_path: Path, flag: str
) -> None:
    out = tmp_path / "run"
    assert commands.run("compare", *pair, "--limit", 2, "--out", out, flag, "Q: {prompt}\nA:", "--quiet").code == 0
    assert open_comparison(out).prompts[0].text.startswith("Q: Translate")


def test_version_help_and_module(commands: Commands) -> None:
    assert commands.run("--version") == (0, f"itlens {itlens.__version__}\n", "")
    for words in (("-h",), ("--help",), ("compare", "-h")):
        code, printed, err = commands.run(*words)
        assert (code, err) == (0, "") and "Usage" in printed
    done = subprocess.run([sys.executable, "-m", "itlens", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"itlens {itlens.__version__}\n"


def test_attribute_shows_characters_once_and_nothing_that_steers(commands: Commands, base: Path) -> None:
    """A character of several tokens is one row's text; an escape sequence in a prompt is printed as an escape."""
    asked = ("attribute", base, "--prompt", "J'aime 🙂 数\x1b[31m\x9b\u202e.", "--response", " ไท", "--format")
    printed = {form: commands.run(*asked, form).out for form in ("table", "csv", "json")}
    for text in printed.values():
        assert "\ufffd" not in text and "🙂" in text and "数" in text
        assert not any(character in text for character in "\x1b\x9b\u202e")
    content = json.loads(printed["json"])
    assert "".join(row["token"] for row in content["tokens"]) == "J'aime 🙂 数\x1b[31m\x9b\u202e."
    assert content["response"] == " ไท"
    pieces = [(row["piece"], row["pieces"]) for row in content["tokens"] if row["pieces"] == 4]
    assert pieces == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert "🙂₂₃₄" in printed["table"]


def test_attribute_in_a_terminal_that_lacks_the_characters(base: Path) -> None:
    code, printed, err = apart("attribute", base, "--prompt", "a 🙂", "--response", "数", encoding="ascii")
    assert (code, err) == (0, "")
    assert "\\U0001f642234" in printed
    assert "\\u6570" in printed


def test_attribute_has_the_prompts_form_and_advice_for_an_empty_response(commands: Commands, base: Path) -> None:
    asked = ("attribute", base, "--prompt", "cat", "--response")
    code, printed, err = commands.run(*asked, "", "--format", "json")
    assert code == 0 and json.loads(printed)["response"] == "" and "--prompt-format chat" in err
    code, printed, err = commands.run(*asked, " x", "--format", "json", "--prompt-format", "Q: {prompt}\nA:")
    assert (code, err) == (0, "")
    assert "".join(row["token"] for row in json.loads(printed)["tokens"]) == "Q: cat\nA:"
    assert "the prompt's form is --prompt-format" in commands.refused(*asked, " x", "--format", "chat")
