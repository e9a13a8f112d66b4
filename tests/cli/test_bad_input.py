"""Wrong input, all of it: one sentence and exit code 2 on the command line, an ItlensError in Python, nothing left."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import itlens
from itlens import files
from itlens.errors import ItlensError, ModelError, PairError, ProbeError, PromptError, ResultError, StoreError
from itlens.results.store import load, save
from itlens.study import open_comparison
from tests.commands import Commands
from tests.tiny import tiny_folder, tiny_tokenizer

TASK = "Translate the word"
LINE = {"id": "a", "prompt": f"{TASK}: cat.", "instruction": TASK}
SIX_WORDS = Path(__file__).parents[1] / "data" / "six_words.txt"
QUICK = ("--max-new-tokens", "2", "--probes", "attribution")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints by name: two good ones, and what can be wrong with one."""
    root = tmp_path_factory.mktemp("bad")
    made = {name: tiny_folder(root / name, "llama", seed=n) for n, name in enumerate(("base", "tuned"))}
    made["deeper"] = tiny_folder(root / "deeper", "llama", num_hidden_layers=3)
    made["other_words"] = tiny_folder(root / "other_words", "llama", tokenizer=tiny_tokenizer("metaspace"))
    made["qwen"] = tiny_folder(root / "qwen", "qwen2")
    made["short"] = tiny_folder(root / "short", "llama", max_position_embeddings=12)
    for name in ("nan", "truncated", "no_weights", "no_tokenizer", "no_config", "broken_config"):
        made[name] = Path(shutil.copytree(made["tuned"], root / name))
    weights = load_file(made["nan"] / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][2, 3] = np.nan
    save_file(weights, made["nan"] / "model.safetensors", metadata={"format": "pt"})
    whole = (made["truncated"] / "model.safetensors").read_bytes()
    (made["truncated"] / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    (made["no_weights"] / "model.safetensors").unlink()
    for path in made["no_tokenizer"].glob("*token*"):
        path.unlink()
    (made["no_config"] / "config.json").unlink()
    (made["broken_config"] / "config.json").write_text('{"model_type": ')
    made["file"] = root / "weights.bin"
    made["file"].write_bytes(b"weights")
    made["missing"] = root / "missing"
    made["good_prompts"] = lines(root / "good.jsonl", LINE)
    return made


def lines(path: Path, *records: dict[str, Any] | str | bytes) -> Path:
    """A prompt file of these lines."""
    raw = [
        record if isinstance(record, bytes) else (record if isinstance(record, str) else json.dumps(record)).encode()
        for record in records
    ]
    path.write_bytes(b"\n".join(raw))
    return path


def both_ways(
    commands: Commands,
    error: type[ItlensError],
    base: Path | str,
    tuned: Path | str,
    prompts: Path | str,
    out: Path,
    **options: Any,
) -> str:
    """Refused on the command line and in Python, with the same sentence, and nothing left behind; that sentence.

    Of six words: all 20,000 would be read by a good model's tokenizer before its refusal, each time.
    """
    options = {"vocabulary": SIX_WORDS} | options
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    before = sorted(out.parent.rglob("*"))
    sentence = commands.refused("compare", base, tuned, "--prompts", prompts, "--out", out, *words)
    assert sorted(out.parent.rglob("*")) == before
    with pytest.raises(error) as caught:
        itlens.compare(base, tuned, prompts, out=out, **options)
    assert sorted(out.parent.rglob("*")) == before
    assert " ".join(str(caught.value).split()) == sentence
    return sentence


# Models.


@pytest.mark.parametrize(
    ("broken", "error", "named"),
    [
        ("missing", ModelError, "There is no model at"),
        ("no_config", ModelError, "has no config.json"),
        ("broken_config", ModelError, "config.json"),
        ("no_weights", ModelError, "weights"),
        ("truncated", ModelError, "cannot be loaded"),
        ("nan", ModelError, "model.layers.1.mlp.up_proj.weight of"),
        ("no_tokenizer", ModelError, "No tokenizer"),
        ("file", ModelError, "is a file, not a model"),
        ("deeper", PairError, "layers 2 and 3"),
        ("other_words", PairError, "tokens have other ids"),
        ("qwen", PairError, "architecture LlamaForCausalLM and Qwen2ForCausalLM"),
    ],
)
def test_models_that_cannot_be_compared(
    commands: Commands, models: dict[str, Path], tmp_path: Path, broken: str, error: type[ItlensError], named: str
) -> None:
    out, prompts = tmp_path / "run", models["good_prompts"]
    if error is PairError:
        assert named in both_ways(commands, error, models["base"], models[broken], prompts, out)
    assert named.replace("2 and 3", "3 and 2").replace(
        "LlamaForCausalLM and Qwen2ForCausalLM", "Qwen2ForCausalLM and LlamaForCausalLM"
    ) in both_ways(commands, error, models[broken], models["tuned"], prompts, out)
    if error is ModelError:  # also where the base could have run all its prompts first
        assert named in both_ways(commands, error, models["base"], models[broken], prompts, out)
        sentence = commands.refused("attribute", models[broken], "--prompt", "x", "--out", tmp_path / "x.nc")
        assert named in sentence and not (tmp_path / "x.nc").exists()
        assert named in commands.refused("inspect", models[broken])


def test_every_difference_is_named_at_once(commands: Commands, models: dict[str, Path], tmp_path: Path) -> None:
    other = tiny_folder(
        tmp_path / "other", "llama", num_hidden_layers=3, intermediate_size=40, tokenizer=tiny_tokenizer("metaspace")
    )
    sentence = both_ways(commands, PairError, models["base"], other, models["good_prompts"], tmp_path / "run")
    assert "layers 2 and 3" in sentence and "d_mlp 56 and 40" in sentence and "have other ids" in sentence


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "my model",
        "../../nowhere",
        "nobody/nothing",
        "a/b/c",
        "~nobody-at-all/m",
        "x" * 400,
        "-",
        "\x1b[31m",
        "ü/ö",
        ".",
    ],
    ids=["empty", "blank", "spaces", "up", "hub", "deep", "home", "long", "dash", "escape", "unicode", "here"],
)
def test_names_that_lead_nowhere(
    commands: Commands, models: dict[str, Path], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    both_ways(commands, ModelError, models["base"], name, models["good_prompts"], tmp_path / "run")


def test_a_nul_in_a_name(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a folder"):
        itlens.load_model("a\0b")
    with pytest.raises(PromptError):
        itlens.load_prompts("a\0b")
    with pytest.raises(StoreError, match="NUL"):
        itlens.compare(models["base"], models["tuned"], [itlens.Prompt("a b", "a")], out="a\0b")


def test_no_tuned_model(commands: Commands, models: dict[str, Path], tmp_path: Path) -> None:
    assert "Give TUNED (one or" in commands.refused("compare", models["base"], "--out", tmp_path / "run")
    asked = ("--prompts", models["good_prompts"], "--out", tmp_path / "run")
    sentence = commands.refused("compare", models["base"], "--adapter", models["tuned"], *asked)
    assert "adapter_config.json" in sentence and list(tmp_path.iterdir()) == []


# Prompts.

BINARY = bytes(range(256)) * 4


@pytest.mark.parametrize(
    ("records", "named"),
    [
        ([], "is empty"),
        (["", "   "], "is empty"),
        ([LINE, '{"prompt": "broken'], "line 2: broken JSON"),
        ([LINE, '["a list"]'], "line 2: a list stands where"),
        ([BINARY], "is a binary file"),
        ([b"\xff\xfeP\x00r\x00"], "is a binary file"),
        ([b'{"prompt": "caf\xe9"}'], "is not UTF-8"),
        ([{"id": "a", "instruction": "x"}], 'line 1: the field "prompt" is missing'),
        ([LINE | {"instructoin": "x"}], 'unknown field "instructoin"'),
        ([LINE | {"instruction": "Translate a word"}], 'the nearest text there is "Translate the word'),
        ([LINE | {"instruction": [[3, 900]]}], "span (3, 900) does not fit"),
        ([LINE | {"instruction": ""}], "empty text"),
        ([{"id": "a", "prompt": "No instruction."}], '"instruction"'),
        ([LINE | {"prompt": "   "}], "its text is empty"),
        ([LINE | {"prompt": 5}], "must be text"),
        ([LINE, LINE], "give every prompt its own id"),
        ([LINE | {"id": None, "rating": "good"}], "its rating must be a number"),
        (['{"prompt": "a \\ud800", "instruction": "a"}'], "surrogate"),
        (["[" * 100_000], "broken JSON"),
    ],
    ids=[
        *(
            "empty",
            "blank",
            "broken",
            "list",
            "binary",
            "utf16",
            "latin1",
            "no-prompt",
            "unknown-field",
            "span-not-there",
        ),
        *("span-outside", "span-empty", "no-instruction", "spaces", "number", "same-id", "rating", "surrogate", "deep"),
    ],
)
def test_prompt_files(
    commands: Commands, models: dict[str, Path], tmp_path: Path, records: list[Any], named: str
) -> None:
    prompts = lines(tmp_path / "p.jsonl", *records)
    assert named in both_ways(commands, PromptError, models["base"], models["tuned"], prompts, tmp_path / "run")


def test_a_span_that_does_not_occur_names_the_prompt(
    commands: Commands, models: dict[str, Path], tmp_path: Path
) -> None:
    prompts = lines(tmp_path / "p.jsonl", LINE, LINE | {"id": "french-07", "instruction": "Summarize"})
    sentence = both_ways(commands, PromptError, models["base"], models["tuned"], prompts, tmp_path / "run")
    assert 'Prompt "french-07"' in sentence and "line 2" in sentence


def test_prompt_files_that_are_not_there(commands: Commands, models: dict[str, Path], tmp_path: Path) -> None:
    pair = models["base"], models["tuned"]
    lines(tmp_path / "prompts.jsonl", LINE)
    sentence = both_ways(commands, PromptError, *pair, tmp_path / "promts.jsonl", tmp_path / "run")
    assert "There is no prompt file" in sentence and str(tmp_path / "prompts.jsonl") in sentence
    assert "is a folder" in both_ways(commands, PromptError, *pair, tmp_path, tmp_path / "run")
    assert "no prompt file" in both_ways(commands, PromptError, *pair, "Builtin", tmp_path / "run")
    both_ways(commands, PromptError, *pair, "x" * 400, tmp_path / "run")
    both_ways(commands, PromptError, *pair, "", tmp_path / "run")


def test_a_prompt_longer_than_the_context(commands: Commands, models: dict[str, Path], tmp_path: Path) -> None:
    prompts = lines(tmp_path / "p.jsonl", LINE | {"id": "long one"})
    sentence = both_ways(commands, PromptError, models["short"], models["short"], prompts, tmp_path / "run")
    assert "Prompt 'long one' is 18 tokens long; the base model reads at most 12" in sentence
    sentence = commands.refused("attribute", models["short"], "--prompt", LINE["prompt"])
    assert "the prompt is 18 tokens long" in sentence and "reads at most 12" in sentence
    prompts = lines(tmp_path / "p.jsonl", LINE | {"prompt": "Say it", "instruction": "Say", "response": " yes" * 20})
    assert "at most 12" in both_ways(commands, PromptError, models["short"], models["short"], prompts, tmp_path / "run")


def test_a_template_that_is_not_there(commands: Commands, models: dict[str, Path], tmp_path: Path) -> None:
    asked = models["base"], models["tuned"], models["good_prompts"], tmp_path / "run"
    assert "has no chat template" in both_ways(commands, PromptError, *asked, format="chat")
    assert "exactly once" in both_ways(commands, PromptError, *asked, format="no placeholder")
    assert "2 times" in both_ways(commands, PromptError, *asked, format="{prompt} {prompt}")
    assert "exactly once" in both_ways(commands, PromptError, *asked, format="")


def test_an_empty_response_scores_0_and_is_said_so(commands: Commands, models: dict[str, Path], tmp_path: Path) -> None:
    prompts = lines(tmp_path / "p.jsonl", LINE, LINE | {"id": "silent", "response": ""})
    asked = (models["base"], models["tuned"], "--prompts", prompts, "--out", tmp_path / "run", *QUICK)
    code, printed, err = commands.run("compare", *asked)
    said = "The tuned model gave an empty response to 1 of 2 prompts (scored 0): silent."
    assert (code, err) == (0, "") and said in " ".join(printed.split())
    assert open_comparison(tmp_path / "run").diff.prompts.set_index("id").loc["silent", ["base", "tuned"]].tolist() == [
        0,
        0,
    ]


# Options.


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"probes": "attenton"}, ProbeError, "Unknown probe 'attenton'; known are attribution, attention, mlp"),
        ({"probes": ""}, ProbeError, "Unknown probe"),
        ({"method": "guess"}, ProbeError, "method='guess'; expected one of input_x_gradient"),
        ({"objective": "beauty"}, ProbeError, "objective='beauty'; expected one of prob"),
        ({"device": "abacus"}, ModelError, "The device 'abacus' is not available"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_names_of_options(
    commands: Commands, models: dict[str, Path], tmp_path: Path, options: dict[str, str], error: Any, named: str
) -> None:
    asked = models["base"], models["tuned"], models["good_prompts"], tmp_path / "run"
    assert named in both_ways(commands, error, *asked, **options)


# The folder for the results.


def test_out_is_a_file_or_holds_other_things(commands: Commands, models: dict[str, Path], tmp_path: Path) -> None:
    asked = models["base"], models["tuned"], models["good_prompts"]
    file, full = tmp_path / "file", tmp_path / "full"
    file.write_text("mine")
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    assert "is a file; give a folder" in both_ways(commands, StoreError, *asked, file)
    assert "a part of its path is a file" in both_ways(commands, StoreError, *asked, file / "below")
    assert "holds mine.txt and no study" in both_ways(commands, StoreError, *asked, full)
    assert "its name is too long" in both_ways(commands, StoreError, *asked, tmp_path / ("x" * 300))
    assert file.read_text() == "mine"
    sentence = commands.refused(
        "attribute", models["base"], "--prompt", "x", "--max-new-tokens", 2, "--out", file / "x.nc"
    )
    assert "Cannot write" in sentence


@pytest.fixture(scope="module")
def finished(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one prompt."""
    out = tmp_path_factory.mktemp("bad-finished") / "run"
    itlens.compare(models["base"], models["tuned"], models["good_prompts"], "attribution", out, max_new_tokens=2)
    return out


def test_another_studys_results(commands: Commands, models: dict[str, Path], finished: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    other = lines(tmp_path / "p.jsonl", LINE | {"prompt": f"{TASK}: dog."})
    both = models["base"], models["tuned"]
    sentence = both_ways(commands, StoreError, *both, other, finished, max_new_tokens=2)
    assert "holds the results of another study (prompts that changed: 'a')" in sentence
    sentence = both_ways(commands, StoreError, both[0], both[0], models["good_prompts"], finished, max_new_tokens=2)
    assert "tuned model: 'sha256:" in sentence
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def changed_study(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    study = json.loads((folder / "study.json").read_text())
    change(study)
    (folder / "study.json").write_text(json.dumps(study))


def not_finite(folder: Path) -> None:
    path = folder / "attribution" / "base" / "0001-a.nc"
    result = load(path)
    save(result.assign(score=result.score * np.nan), path)


SPOILED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no study": (lambda run: (run / "study.json").unlink(), "holds no study"),
    "broken study": (lambda run: (run / "study.json").write_text("{"), "is not a JSON file"),
    "other JSON": (lambda run: (run / "study.json").write_text('{"a": 1}'), "is not a study of itlens"),
    "poor study": (lambda run: changed_study(run, lambda study: study["settings"].clear()), "is not a study of itlens"),
    "odd number": (
        lambda run: changed_study(run, lambda s: s["findings"]["attribution"]["options"].update(levels="x")),
        "levels='x'; expected",
    ),
    "odd label": (lambda run: changed_study(run, lambda s: s["models"].update(base=5)), "is not a study of itlens"),
    "no results": (lambda run: shutil.rmtree(run / "attribution"), "Only 0 of 1 prompts of the finding"),
    "half": (lambda run: shutil.rmtree(run / "attribution" / "tuned"), "Only 0 of 1 prompts of the finding"),
    "broken result": (
        lambda run: (run / "attribution/base/0001-a.nc").write_bytes(b"CDF"),
        "Only 0 of 1 prompts of the finding",
    ),
    "no prompts": (lambda run: (run / "prompts.jsonl").unlink(), "There is no prompt file"),
    "not finite": (not_finite, "NaN"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_report_of_a_spoiled_folder(commands: Commands, finished: Path, tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    spoil, named = SPOILED[kind]
    (folder / "index.jsonl").unlink()  # as of somebody who wants the change to be believed
    spoil(folder)
    shutil.rmtree(folder / "tables")
    (folder / "report.html").unlink()
    before = sorted(folder.rglob("*"))
    assert named in commands.refused("report", folder)
    with pytest.raises((StoreError, PromptError, ProbeError, ResultError)):
        open_comparison(folder)
    assert sorted(folder.rglob("*")) == before


def test_report_of_no_folder(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    assert "holds no study" in commands.refused("report", tmp_path / "empty")
    assert "is no folder" in commands.refused("report", tmp_path / "file")
    assert "is no folder" in commands.refused("report", tmp_path / "missing")
    assert "too long" in commands.refused("report", "x" * 400)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "file"]


# A disk without space, a folder without permission.


def full_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full from the given write on."""
    left, fsync = [writes], os.fsync

    def filling(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(files.os, "fsync", filling)


@pytest.mark.parametrize("writes", [0, 3, 6, 9, 12, 15, 18, 21, 24])
def test_a_full_disk_leaves_whole_files_or_nothing(
    commands: Commands, models: dict[str, Path], tmp_path: Path, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it happens: at the study, the prompts, the index, a response, a result or a table."""
    out = tmp_path / "run"
    asked = ("compare", models["base"], models["tuned"], "--prompts", models["good_prompts"], "--out", out, *QUICK)
    with monkeypatch.context() as patch:
        full_after(writes, patch)
        sentence = commands.refused(*asked)
    assert sentence.startswith("Cannot write") and "no space is left on the disk" in sentence
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("report.html"))
    results = list(out.glob("attribution/*/*.nc"))
    for path in results:
        load(path)
    assert out.exists() == bool(results)
    assert bool(results) == (writes > 14)
    if writes == 18:
        assert commands.run(*asked).code == 0 and (out / "report.html").exists()


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user whom rights hold back: root is let through everywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="rights of POSIX systems")
def test_folders_without_permission(commands: Commands, models: dict[str, Path], finished: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for model in ("base", "tuned"):
            shutil.copytree(models[model], root / model)
        prompts = lines(root / "p.jsonl", LINE)
        locked, hidden = root / "locked", root / "hidden"
        run = Path(shutil.copytree(finished, locked / "run"))
        hidden.mkdir()
        for path in (root, *root.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        locked.chmod(0o555)
        run.chmod(0o555)
        hidden.chmod(0)
        asked = ("compare", root / "base", root / "tuned", "--prompts", prompts, *QUICK, "--out")
        with unprivileged():
            assert "there is no permission" in commands.refused(*asked, locked / "new" / "run")
            assert "there is no permission" in commands.refused(*asked, hidden / "run")
            assert "there is no permission" in commands.refused(*asked, hidden)
            assert "there is no permission" in commands.refused(*asked, run)
            assert "there is no permission" in commands.refused(*asked, run, "--no-resume")
            assert "there is no permission" in commands.refused("report", run)
            assert "there is no permission" in commands.refused("report", hidden / "run")
            assert "there is no permission" in commands.refused("inspect", hidden / "model")
            assert "Permission denied" in commands.refused(*asked[:4], hidden / "p.jsonl", "--out", root / "x")
        hidden.chmod(0o755)
        assert [path.name for path in locked.iterdir()] == ["run"] and not list(hidden.iterdir())
        assert (run / "report.html").exists() and (run / "study.json").exists()


# What an attacker, or an unlucky user, would try.

ODD_IDS = (
    *("../../etc/passwd", "/etc/passwd", "..", ".", "a/b\\c", "CON", "case", "CASE", "Case", "two words", " ", "-rf"),
    *(
        "x" * 500,
        "ü" * 300,
        "日本語",
        "\N{FAMILY}\u200d\N{DOG FACE}",
        "new\nline",
        "nul\0nul",
        "\x1b[2J",
        "</script>",
        "%2e%2e",
        "$(id)",
    ),
)


def test_odd_ids_stay_inside_the_folder(models: dict[str, Path], tmp_path: Path) -> None:
    prompts = [itlens.Prompt(LINE["prompt"], TASK, response=" Yes.", id=id, group=id[:1]) for id in ODD_IDS]
    out = tmp_path / "inside" / "run"
    found = itlens.compare(models["base"], models["tuned"], prompts, "attribution", out)
    assert list(found.base) == list(ODD_IDS) == list(open_comparison(out).tuned)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert [path.name for path in out.parent.iterdir()] == ["run"]
    results = sorted(out.glob("attribution/base/*"))
    assert len(results) == len(ODD_IDS) == len({path.name.lower() for path in results})
    assert all(path.name.isascii() and len(path.name) < 80 and " " not in path.name for path in results)
    assert itlens.load(out / "tables" / "prompts.parquet")["id"].tolist() == list(ODD_IDS)
    assert found.diff.groups["group"].tolist()[1:] == list(dict.fromkeys(id[:1] for id in ODD_IDS))


ODD_TEXTS = {
    "nul": f"{TASK}: \0 nul",
    "separator": f"{TASK}\u2028line",
    "bom": f"\ufeff{TASK}",
    "combining": f"{TASK} " + "\u0301" * 50,
    "special tokens": f"{TASK} </s><s><pad>",
}


def test_odd_texts_are_read_as_they_are(commands: Commands, models: dict[str, Path], tmp_path: Path) -> None:
    records = [{"id": name, "prompt": text, "instruction": TASK, "response": " ok"} for name, text in ODD_TEXTS.items()]
    prompts = lines(tmp_path / "p.jsonl", *records)
    asked = (models["base"], models["tuned"], "--prompts", prompts, "--out", tmp_path / "run", *QUICK)
    code, _, err = commands.run("compare", *asked)
    assert (code, err) == (0, "")
    found = open_comparison(tmp_path / "run").base
    for name, text in ODD_TEXTS.items():
        assert found[name].attrs["prompt_text"] == text and found[name].attrs["response_text"] == " ok"
        assert int(found[name].source_stop.max()) == len(text)


def test_a_control_token_without_an_embedding_is_one_sentence(commands: Commands, tmp_path: Path) -> None:
    """No notice of how the token is read comes before the refusal."""
    tokenizer = tiny_tokenizer()
    folder = tiny_folder(tmp_path / "model", "llama", tokenizer=tokenizer)
    tokenizer.add_tokens([f"<f{number}>" for number in range(300 - len(tokenizer))])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|x|>"]})
    tokenizer.save_pretrained(folder)
    sentence = commands.refused("attribute", folder, "--prompt", "<|x|> the dog", "--max-new-tokens", 2)
    assert "the token '<|x|>' (id 300)" in sentence
