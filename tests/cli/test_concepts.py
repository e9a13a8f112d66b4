"""`itlens concepts`: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from rich.console import Console

import itlens
from itlens.cli.concepts import print_concepts
from itlens.models.quiet import quiet
from tests.commands import Commands
from tests.study.studies import WORDS
from tests.tiny import tiny_folder, tiny_hf_model, tiny_tokenizer

# a file holds a word a line: everything but the line end can be in it
LISTED = [word for word in WORDS if "\n" not in word]
COMPONENTS, TOP_K = 4, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gated and a plain model, and words.txt."""
    root = tmp_path_factory.mktemp("cli-concepts")
    for architecture in ("llama", "gpt2"):
        tiny_folder(root / architecture, architecture)
    (root / "words.txt").write_text("\n".join(LISTED), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def asked(folder: Path) -> list[object]:
    """The options that every command here has."""
    return ["--vocabulary", folder / "words.txt", "--components", COMPONENTS, "--words", TOP_K]


def alone(model: Path, **options: object) -> xr.Dataset:
    """Layer 1 by the probe itself."""
    size = {"layers": 1, "components": COMPONENTS, "top_k": TOP_K}
    return itlens.mlp_concepts(itlens.load_model(model), itlens.Vocabulary(LISTED), **size, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("side", ["value", "key", "gate"])
def test_csv_and_json_are_the_words_of_the_probe(
    commands: Commands, folder: Path, asked: list[object], side: str
) -> None:
    layer = ("concepts", folder / "llama", "--layer", 1, "--side", side, *asked)
    found = alone(folder / "llama", vectors=side).isel(layer=0)
    code, printed, err = commands.run(*layer, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(printed, newline="")))
    assert (code, err) == (0, "") and len(rows) == COMPONENTS * TOP_K
    for row in rows:
        place = {"component": int(row["component"]), "rank": int(row["rank"]) - 1}
        assert row["word"] == str(found["word"][place].item()) and row["layer"] == "1"
        assert float(row["score"]) == pytest.approx(float(found["score"][place]), rel=1e-5)
        assert float(row["explained"]) == pytest.approx(float(found["explained"][place["component"]]))
    code, printed, err = commands.run(*layer, "--format", "json")
    content = json.loads(printed)
    assert (
        (code, err) == (0, "") and content["attrs"]["vectors"] == side and content["attrs"]["components"] == COMPONENTS
    )
    assert [row["word"] for row in content["concepts"]] == [row["word"] for row in rows]
    assert [row["rank"] for row in content["concepts"]] == COMPONENTS * list(range(1, TOP_K + 1))


def test_signed_concepts_have_two_ends(commands: Commands, folder: Path, asked: list[object]) -> None:
    layer = ("concepts", folder / "llama", "--layer", 1, "--signed", *asked)
    found = alone(folder / "llama", signed=True).isel(layer=0)
    code, printed, err = commands.run(*layer, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(printed, newline="")))
    assert (code, err) == (0, "") and len(rows) == COMPONENTS * 2 * TOP_K
    for row in rows:
        place = found["word"].sel(component=int(row["component"]), pole=row["pole"], rank=int(row["rank"]) - 1)
        assert row["word"] == str(place.item())
    code, printed, err = commands.run(*layer)
    ends = [line.split() for line in printed.splitlines() if " to 0." in line]
    assert (code, err) == (0, "") and len(ends) == 2 * COMPONENTS
    assert [row[3] for row in ends[::2]] == ["+"] * COMPONENTS and [row[0] for row in ends[1::2]] == ["-"] * COMPONENTS


def test_a_table_a_person_can_read(commands: Commands, folder: Path, asked: list[object]) -> None:
    found = alone(folder / "llama").isel(layer=0)
    code, printed, err = commands.run("concepts", folder / "llama", "--layer", 1, *asked)
    lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
    held = f"{100 * float(found['explained'].sum()):.1f} %"
    assert (code, err) == (0, "")
    assert lines[0] == f"Values (what neurons write) of layer 1 of {folder / 'llama'}"
    assert lines[1] == (
        f"{COMPONENTS} of 32 principal components hold {held} of the variance of 56 neurons; "
        f"{len(LISTED)} words (words.txt), 0 unknown to the tokenizer."
    )
    assert lines[2].split() == ["concept", "explained", "score", "words"]
    scores = found["score"].values[0]
    assert lines[4].split()[:2] == ["0", f"{100 * float(found['explained'][0]):.1f}"]
    assert f"{scores[0]:.2f} to {scores[-1]:.2f}" in lines[4]
    console = Console(file=io.StringIO(), width=500)
    print_concepts(found.expand_dims("layer"), "table", console=console)
    (row,) = [line for line in console.file.getvalue().splitlines() if line.split()[:1] == ["0"]]  # type: ignore[attr-defined]
    assert row.rstrip().endswith(", ".join(str(word).replace("\t", "\\t") for word in found["word"].values[0]))


def test_defaults_are_ten_concepts_of_fifteen_values(commands: Commands, folder: Path) -> None:
    layer = ("concepts", folder / "llama", "--layer", 0, "--vocabulary", folder / "words.txt", "--format", "json")
    content = json.loads(commands.run(*layer).out)
    said = content["attrs"]
    assert (said["vectors"], said["components"], said["top_k"], said["layers"]) == ("value", 10, 15, [0])
    assert len(content["concepts"]) == 150 and "pole" not in content["concepts"][0]


def test_out_saves_what_the_ending_says(commands: Commands, folder: Path, asked: list[object], tmp_path: Path) -> None:
    layer = ("concepts", folder / "llama", "--layer", 1, *asked)
    for name in ("new/concepts.nc", "concepts.csv", "concepts.json"):
        assert commands.run(*layer, "--out", tmp_path / name) == (0, f"Saved: {tmp_path / name}\n", "")
    saved, found = itlens.load(tmp_path / "new" / "concepts.nc"), alone(folder / "llama")
    assert isinstance(saved, xr.Dataset) and saved.attrs["vocabulary_name"] == "words.txt"
    np.testing.assert_array_equal(saved["direction"].values, found["direction"].values)
    assert saved["word"].values.tolist() == found["word"].values.tolist()
    assert itlens.load(tmp_path / "concepts.csv")["word"].tolist() == found["word"].values.ravel().tolist()
    assert len(json.loads((tmp_path / "concepts.json").read_text(encoding="utf-8"))["concepts"]) == COMPONENTS * TOP_K


def test_labels_are_those_of_the_fifteen_first_words(
    commands: Commands, folder: Path, asked: list[object], tmp_path: Path
) -> None:
    """However few words are shown."""
    layer = ("concepts", folder / "llama", "--layer", 1, "--signed", *asked, "--label")
    model = itlens.load_model(folder / "llama")
    wide = itlens.mlp_concepts(model, itlens.Vocabulary(LISTED), layers=1, components=COMPONENTS, top_k=15, signed=True)
    labels = itlens.annotate_concepts(wide, components=COMPONENTS, progress=False)
    of = {(row["component"], row["pole"]): row for row in labels.to_dict("records")}
    content = json.loads(commands.run(*layer, "--format", "json").out)
    assert content["attrs"]["labeller"] == "lexicon" and content["attrs"]["top_k"] == TOP_K
    assert len(content["concepts"]) == COMPONENTS * 2 * TOP_K
    for row in content["concepts"]:
        expected = of[row["component"], row["pole"]]
        assert [row[name] for name in ("description", "level", "confidence")] == [
            expected[name] for name in ("description", "level", "confidence")
        ]
        assert set(filter(None, row["tasks"].split(", "))) == {
            name.removeprefix("task_") for name, value in expected.items() if name.startswith("task_") and value
        }
    code, printed, err = commands.run(*layer)
    found = " ".join(printed.split())
    assert (code, err) == (0, "") and found.count("cannot tell") == sum(not row["known"] for row in of.values())
    assert commands.run(*layer, "--out", tmp_path / "labels.nc").code == 0
    saved = itlens.load(tmp_path / "labels.nc")
    assert saved["description"].values.ravel().tolist() == [row["description"] for row in of.values()]


def test_concepts_of_an_adapter_are_those_of_the_merged_model(
    commands: Commands, folder: Path, asked: list[object], tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft", reason="the peft extra is not installed")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(tiny_hf_model("llama"), config)
    with quiet():
        adapted.save_pretrained(tmp_path / "adapter")
        adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
        tiny_tokenizer().save_pretrained(tmp_path / "merged")
    layer = ("--layer", 1, *asked, "--label", "--format", "json")
    content = json.loads(commands.run("concepts", folder / "llama", "--adapter", tmp_path / "adapter", *layer).out)
    merged = json.loads(commands.run("concepts", tmp_path / "merged", *layer).out)
    bare = json.loads(commands.run("concepts", folder / "llama", *layer).out)
    assert content["attrs"]["model"] == f"{folder / 'llama'} + {tmp_path / 'adapter'}"
    for one, other in zip(content["concepts"], merged["concepts"], strict=True):
        assert {**one, "score": 0, "explained": 0} == {**other, "score": 0, "explained": 0}
        assert [one["score"], one["explained"]] == pytest.approx([other["score"], other["explained"]], abs=1e-5)
    assert [row["word"] for row in bare["concepts"]] != [row["word"] for row in content["concepts"]]
    sentence = commands.refused("concepts", folder / "llama", "--adapter", folder / "gpt2", "--layer", 1, *asked)
    assert "adapter_config.json" in sentence


def test_odd_words_stay_on_their_line(folder: Path) -> None:
    found = alone(folder / "llama")
    found["word"][0, 0, :3] = ["two\nlines", "\x1b[2J", "a\tb"]
    console = Console(file=io.StringIO(), width=100)
    print_concepts(found, "table", console=console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(text in shown for text in ("two\\nlines", "\\x1b[2J", "a\\tb")) and "\x1b" not in shown


# Bad input: one sentence, exit code 2, and nothing is loaded.


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--layer", 2), "layer 2 is not there; the model has layers 0 to 1."),
        (("--layer=-1",), "layer -1 is not there; the model has layers 0 to 1."),
        ((), "Missing option '--layer'"),
        (("--layer", "x"), "--layer"),
        (("--layer", 0, "--components", 0), "--components"),
        (
            ("--layer", 0, "--components", 33),
            "components=33; the 56 centred vectors of width 32 have a rank of at most 32",
        ),
        (("--layer", 0, "--words", 0), "--words"),
        (("--layer", 0, "--side", "query"), "'query' is not one of"),
        (("--layer", 0, "--format", "xml"), "'xml' is not one of"),
        (("--layer", 0, "--format", "nc"), "--format nc is no text for a terminal; give a file with --out."),
        (("--layer", 0, "--out", "concepts.txt"), "ends in .csv, .json, .nc"),
        (("--layer", 0, "--format", "csv", "--out", "concepts.nc"), "leave one of them out"),
        (("--layer", 0, "--vocabulary", "missing.txt"), "missing.txt"),
    ],
    ids=lambda value: "_".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_is_not_there_is_refused_before_weights_are_loaded(
    commands: Commands, folder: Path, options: tuple[object, ...], named: str, no_weights: None
) -> None:
    assert named in commands.refused("concepts", folder / "llama", *options)


def test_a_plain_layer_has_no_gates(commands: Commands, folder: Path, asked: list[object]) -> None:
    sentence = commands.refused("concepts", folder / "gpt2", "--layer", 0, "--side", "gate", *asked)
    assert "have no W_gate; expected" in sentence
    assert commands.run("concepts", folder / "gpt2", "--layer", 0, "--side", "key", *asked).code == 0


def test_a_vocabulary_that_the_tokenizer_does_not_know(commands: Commands, tmp_path: Path) -> None:
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    model = tokenizers.models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "cat": 3}, unk_token="<unk>")
    plain = tokenizers.Tokenizer(model)
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    with quiet():
        own = tiny_folder(tmp_path / "model", "llama", tokenizer=wrapped)
    (tmp_path / "dogs.txt").write_text("dog\nhorse\n", encoding="utf-8")
    words = ["--vocabulary", tmp_path / "dogs.txt"]
    assert "knows none of the 2 words" in commands.refused("concepts", own, "--layer", 0, *words)
