"""`itlens words`, and the attention part of `itlens compare`: what they print, write and refuse."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import itlens
from itlens.cli.words import head_table, print_words
from itlens.findings.attention.finding import FINDING
from itlens.findings.attention.probe import qk_energy, qk_word_pairs
from itlens.models.quiet import quiet
from itlens.study import open_comparison
from tests.commands import Commands, interrupted
from tests.study.studies import WORDS, vectors, vocabulary
from tests.tiny import tiny_folder

TOP_K = 30
# a file holds a word a line: everything but the line end can be in it
LISTED = [word for word in WORDS if "\n" not in word]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, tuned, words.txt and vectors.npz."""
    root = tmp_path_factory.mktemp("cli-words")
    for seed, which in enumerate(("base", "tuned")):
        tiny_folder(root / which, "llama", seed=seed)
    # a text file, unless its first line ends in a tab and a number
    (root / "words.txt").write_text("\n".join(LISTED), encoding="utf-8")
    np.savez(root / "vectors.npz", words=np.array(WORDS), vectors=vectors().vectors)
    return root


@pytest.fixture(scope="module")
def asked(folder: Path) -> list[object]:
    """The options that every command here has."""
    return ["--vocabulary", folder / "words.txt", "--vectors", folder / "vectors.npz", "--top-k", TOP_K]


@pytest.fixture(scope="module")
def alone(folder: Path) -> pd.DataFrame:
    """Head L1H2 of the base by the probe itself."""
    model = itlens.load_model(folder / "base")
    return qk_word_pairs(model, itlens.Vocabulary(LISTED), vectors=vectors(), layers=1, heads=2, top_k=TOP_K)


def test_words_as_csv_and_json_are_the_rows_of_the_probe(
    commands: Commands, folder: Path, asked: list[object], alone: pd.DataFrame
) -> None:
    head = ("words", folder / "base", "--layer", 1, "--head", 2, *asked)
    code, printed, err = commands.run(*head, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(printed, newline="")))
    assert (code, err) == (0, "") and len(rows) == len(alone) > 20
    assert [row["query"] for row in rows] == alone["query"].tolist()
    assert [row["key"] for row in rows] == alone["key"].tolist()
    assert {row["layer"] for row in rows} == {"1"} and {row["head"] for row in rows} == {"2"}
    assert [float(row["relatedness"]) for row in rows] == pytest.approx(alone["relatedness"].tolist(), rel=1e-6)
    code, printed, err = commands.run(*head, "--format", "json")
    content = json.loads(printed)
    assert (code, err) == (0, "") and content["attrs"]["n_heads"] == 4 and content["attrs"]["top_k"] == TOP_K
    assert [(row["query"], row["key"], row["dim"], row["rank"]) for row in content["pairs"]] == list(
        zip(alone["query"], alone["key"], alone["dim"], alone["rank"], strict=True)
    )


def test_words_saves_what_the_ending_says(
    commands: Commands, folder: Path, asked: list[object], alone: pd.DataFrame, tmp_path: Path
) -> None:
    head = ("words", folder / "base", "--layer", 1, "--head", 2, *asked)
    for name in ("new/pairs.parquet", "pairs.csv", "pairs.json"):
        assert commands.run(*head, "--out", tmp_path / name) == (0, f"Saved: {tmp_path / name}\n", "")
    saved = itlens.load(tmp_path / "new" / "pairs.parquet")
    assert isinstance(saved, pd.DataFrame) and saved.attrs["vectors_name"] == "vectors.npz"
    pd.testing.assert_frame_equal(saved, alone, check_categorical=False)
    assert itlens.load(tmp_path / "pairs.csv")["query"].tolist() == alone["query"].tolist()
    assert len(json.loads((tmp_path / "pairs.json").read_text(encoding="utf-8"))["pairs"]) == len(alone)
    assert commands.run(*head, "--format", "csv", "--out", tmp_path / "again.csv").code == 0
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "pairs.csv").read_bytes()


def test_the_table_sums_a_pair_over_its_dimensions(alone: pd.DataFrame) -> None:
    expected: dict[tuple[str, str], list[float]] = {}
    for _, row in alone.iterrows():
        held = expected.setdefault((row["query"], row["key"]), [float(row["relatedness"]), 0, 0.0])
        held[1] += 1
        held[2] += float(row["query_activation"]) * float(row["key_activation"])
    table = head_table(alone)
    found = {(row["query"], row["key"]): [row["relatedness"], row["dims"], row["score"]] for _, row in table.iterrows()}
    assert found.keys() == expected.keys() and max(row[1] for row in found.values()) > 1
    for pair, numbers in expected.items():
        assert found[pair] == pytest.approx(numbers, rel=1e-5)
    strength = (table["relatedness"] * table["score"]).tolist()
    assert strength == sorted(strength, reverse=True) and min(strength) > 0


def test_words_prints_a_table_a_person_can_read(
    commands: Commands, folder: Path, asked: list[object], alone: pd.DataFrame
) -> None:
    code, printed, err = commands.run("words", folder / "base", "--layer", 1, "--head", 2, *asked, "--rows", 7)
    lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
    table = head_table(alone)
    assert (code, err) == (0, "")
    assert lines[0] == f"Head L1H2 of {folder / 'base'}, which reads key head 1"  # four heads share two key heads
    assert lines[1].startswith(
        f"{len(table)} pairs of related words over 12 dimensions; {len(LISTED)} words (words.txt)"
    )
    assert "0 unknown to the tokenizer and 0 to the word vectors (vectors.npz)." in lines[1]
    assert lines[2].split() == ["query", "key", "relatedness", "dims", "score"]
    first = table.iloc[0]
    shown = [str(first[name]).replace("\t", "\\t") for name in ("query", "key")]
    assert lines[4].split()[-3:] == [f"{first['relatedness']:.2f}", str(first["dims"]), f"{first['score']:.3g}"]
    assert " ".join(lines[4].split()[:-3]) == " ".join(shown)
    assert f"{len(table) - 7} more pairs" in " ".join(printed.split()) and len(lines) < 20


def test_words_by_dimension_go_from_high_to_low_energy(
    commands: Commands, folder: Path, asked: list[object], alone: pd.DataFrame
) -> None:
    head = ("words", folder / "base", "--layer", 1, "--head", 2, *asked)
    code, printed, err = commands.run(*head, "--rows", 3, "--by-dimension")
    energy = qk_energy(itlens.load_model(folder / "base"), itlens.Vocabulary(LISTED), layers=1, heads=2)
    energy = energy.sort_values("order").head(3)
    share = (
        100
        * energy["energy"]
        / qk_energy(itlens.load_model(folder / "base"), itlens.Vocabulary(LISTED), layers=1, heads=2)["energy"].sum()
    )
    rows = [line.split() for line in printed.splitlines() if "%" in line]
    assert (code, err) == (0, "") and [int(row[0]) for row in rows] == energy["dim"].tolist()
    assert [float(row[1]) for row in rows] == pytest.approx(share.tolist(), abs=0.051)
    assert [int(row[3]) for row in rows] == [int((alone["dim"] == dim).sum()) for dim in energy["dim"]]


def test_odd_words_stay_on_their_line(alone: pd.DataFrame) -> None:
    table = alone.astype({"query": object, "key": object}).head(3).reset_index(drop=True)
    table.attrs = alone.attrs
    table["query"] = ["two\nlines", "\x1b[2J", "a\tb"]
    energy = pd.DataFrame({"dim": sorted(set(table["dim"])), "energy": 1.0})
    for by_dimension in (False, True):
        console = Console(file=io.StringIO(), width=100)
        print_words(table, energy, "table", by_dimension=by_dimension, console=console)
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert all(text in shown for text in ("two\\nlines", "\\x1b[2J", "a\\tb")) and "\x1b" not in shown


def test_a_head_without_pairs_says_so(commands: Commands, folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", words=np.array(WORDS[:3]), vectors=np.eye(3))  # nothing is related
    asked = ["--vocabulary", folder / "words.txt", "--vectors", tmp_path / "v.npz"]
    code, printed, err = commands.run("words", folder / "base", "--layer", 0, "--head", 0, *asked)
    assert (code, err) == (0, "") and "No pair of its top words is related" in printed
    assert f"{len(LISTED)} words (words.txt), 0 unknown to the tokenizer and {len(LISTED) - 3} to" in printed
    run = ["compare", folder / "base", folder / "tuned", "--probes", "attention", "--out", tmp_path / "run"]
    code, printed, err = commands.run(*run, *asked)
    assert (code, err) == (0, "")
    verdict = open_comparison(tmp_path / "run").verdicts["attention"]
    assert not verdict.tested
    assert " ".join(verdict.sentence.split()) in " ".join(printed.split())


def test_compare_with_attention_alone_reads_no_prompts(
    commands: Commands, folder: Path, asked: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    pair = (folder / "base", folder / "tuned")
    words = ["compare", *pair, "--probes", "attention", "--prompts", "no-such-file.jsonl", "--out", out, *asked]
    code, printed, err = commands.run(*words)
    assert (code, err) == (0, "")
    assert FINDING.question in printed
    assert "lean on the instruction" not in printed
    assert f"Report: {out / 'report.html'}" in printed
    found = open_comparison(out)
    assert " ".join(found.verdict.split()) in " ".join(printed.split()) and found.diff is None
    assert found.study["findings"]["attention"]["settings"]["top_k"] == TOP_K
    assert found.study["prompts"] == 0
    again = commands.run("report", out)
    assert (again.code, again.err) == (0, "") and again.out == printed


def test_ctrl_c_keeps_the_finished_layers(commands: Commands, folder: Path, tmp_path: Path) -> None:
    """Of models deep enough, and with words enough, to be met in the middle."""
    out, pair, listed = tmp_path / "run", [], tmp_path / "words.txt"
    listed.write_text("\n".join(itlens.Vocabulary.load("builtin", 2000).words), encoding="utf-8")
    for seed, which in enumerate(("base", "tuned")):
        pair.append(str(tiny_folder(tmp_path / which, "llama", seed=seed, num_hidden_layers=8)))
    words = ["compare", *pair, "--probes", "attention", "--vocabulary", str(listed), "--out", str(out)]
    code, printed, err = interrupted(lambda: len(list(out.glob("attention/*/layer-*"))) >= 2, *words)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("attention/*/layer-*")}
    assert (code, printed) == (130, "") and 2 <= len(kept) < 16
    assert err.strip() == f"Stopped; {len(kept)} finished results are kept in {out}: the same command goes on."
    assert not list(out.rglob("*.part"))
    assert commands.run(*words).code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(out.glob("attention/*/layer-*"))) == 16


# Bad input: one sentence, exit code 2, and nothing is loaded or left behind.


def odd_files(root: Path) -> dict[str, Path]:
    words = np.array(LISTED[:4])
    arrays = {
        "short": (words, np.ones((3, 2))),
        "nan": (words, np.array([[1, 2], [3, np.nan], [5, 6], [7, 8]])),
        "elsewhere": (np.array(["xyzzy"]), np.ones((1, 2))),
    }
    made = {name: root / f"{name}.npz" for name in arrays}
    for name, (own, values) in arrays.items():
        np.savez(made[name], words=own, vectors=values)
    texts = {"empty": "", "one": "elephantine", "ragged": "cat 1 2 3\ndog 1 2\n"}
    for name, text in texts.items():
        made[name] = root / f"{name}.txt"
        made[name].write_text(text, encoding="utf-8")
    made["broken"] = root / "broken.npz"
    made["broken"].write_bytes(b"PK")
    made["missing"] = root / "missing.txt"
    return made


WRONG_WORDS: dict[str, tuple[list[str], str]] = {
    "vectors and words of different length": (["--vectors", "short"], "4 words and 3 vectors"),
    "NaN vectors": (["--vectors", "nan"], f"the vector of {LISTED[1]!r} holds NaN"),
    "no word is known to the vectors": (["--vectors", "elsewhere"], "has no vector for any word"),
    "a vocabulary unknown to the vectors": (["--vocabulary", "one"], "has no vector for any word"),
    "an empty vocabulary": (["--vocabulary", "empty"], "empty.txt"),
    "no such vocabulary": (["--vocabulary", "missing"], "missing.txt"),
    "no such vectors": (["--vectors", "missing"], "missing.txt"),
    "broken vectors": (["--vectors", "broken"], "broken.npz"),
    "ragged vectors": (["--vectors", "ragged"], "ragged.txt"),
    "top-k": (["--top-k", "0"], "--top-k"),
}


@pytest.mark.parametrize("kind", WRONG_WORDS)
def test_wrong_words_are_refused(
    commands: Commands, folder: Path, asked: list[object], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = odd_files(tmp_path)
    (option, value), named = WRONG_WORDS[kind]
    words = [*asked, option, files.get(value, value)]  # the last of an option counts
    assert named in (sentence := commands.refused("words", folder / "base", "--layer", 0, "--head", 0, *words))
    out = tmp_path / "out"
    run = ("compare", folder / "base", folder / "tuned", "--probes", "attention", "--out", out)
    assert commands.refused(*run, *words) == sentence and not out.exists()


def test_a_vocabulary_that_the_tokenizer_does_not_know(commands: Commands, folder: Path, tmp_path: Path) -> None:
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    model = tokenizers.models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "cat": 3}, unk_token="<unk>")
    plain = tokenizers.Tokenizer(model)
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    with quiet():
        own = tiny_folder(tmp_path / "model", "llama", tokenizer=wrapped)
    (tmp_path / "dogs.txt").write_text("dog\nhorse\n", encoding="utf-8")
    words = ["--vocabulary", tmp_path / "dogs.txt", "--vectors", folder / "vectors.npz"]
    for command in (
        ["words", own, "--layer", 0, "--head", 0],
        ["compare", own, own, "--probes", "attention", "--out", tmp_path / "run"],
    ):
        sentence = commands.refused(*command, *words)
        assert "known both to the tokenizer (0 words) and to the word vectors (2 words)" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        (("--layer", 2, "--head", 0), "layer 2 is not there; the model has layers 0 to 1."),
        (("--layer=-1", "--head", 0), "layer -1 is not there; the model has layers 0 to 1."),
        (("--layer", 0, "--head", 4), "head 4 is not there; the model has heads 0 to 3."),
        (("--layer", 0), "Missing option '--head'"),
        (("--layer", "x", "--head", 0), "--layer"),
        (("--layer", 0, "--head", 0, "--rows", 0), "--rows"),
        (("--layer", 0, "--head", 0, "--format", "xml"), "'xml' is not one of"),
        (("--layer", 0, "--head", 0, "--format", "parquet"), "give a file with --out"),
        (("--layer", 0, "--head", 0, "--out", "pairs.txt"), "ends in .csv, .parquet, .json"),
        (("--layer", 0, "--head", 0, "--format", "csv", "--out", "pairs.json"), "leave one of them out"),
    ],
    ids=lambda value: "_".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_head_that_is_not_there_is_refused_before_weights_are_loaded(
    commands: Commands, folder: Path, numbers: tuple[object, ...], named: str, no_weights: None
) -> None:
    assert named in commands.refused("words", folder / "base", *numbers)


def test_other_words_in_a_finished_folder_are_refused(
    commands: Commands, folder: Path, asked: list[object], tmp_path: Path
) -> None:
    run = ["compare", folder / "base", folder / "tuned", "--probes", "attention", "--out", tmp_path / "run"]
    assert commands.run(*run, *asked).code == 0
    fewer = tmp_path / "fewer.txt"
    fewer.write_text("\n".join(LISTED[:-1]), encoding="utf-8")
    assert "another study (vocabulary: 'sha256:" in commands.refused(*run, *asked, "--vocabulary", fewer)
    assert vocabulary().fingerprint != itlens.Vocabulary(LISTED).fingerprint


def test_models_of_two_shapes_are_refused(commands: Commands, folder: Path, tmp_path: Path) -> None:
    deeper = tiny_folder(tmp_path / "deeper", "llama", num_hidden_layers=3)
    run = ["compare", folder / "base", deeper, "--probes", "attention", "--out", tmp_path / "run"]
    assert "layers 2 and 3" in commands.refused(*run) and not (tmp_path / "run").exists()
