"""A .gguf file read in bulk holds the same values, and its converted copy is the same model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from itlens.errors import ModelError
from itlens.models import checkpoint, fingerprint, load_model, load_pair, source_of
from itlens.models import gguf_copy as copying
from itlens.models.checkpoint import load_tokenizer
from itlens.models.gguf_bulk import read_in_bulk
from itlens.models.locate import locate, read_config
from itlens.models.tokenizer_file import TEXTS
from tests.commands import Commands
from tests.models.test_gguf import LLAMA3, rotary_factors, write
from tests.tiny import tiny_hf_model

gguf = pytest.importorskip("gguf", reason="the gguf extra is not installed")
IDS = torch.tensor([[1, 7, 30, 12, 99, 4]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model = tiny_hf_model("llama", rope_parameters=LLAMA3)

    def more(writer: Any) -> None:
        writer.add_eot_token_id(7)
        writer.add_array("test.numbers", [1, -2, 3])
        writer.add_array("test.fractions", [0.5, 0.25])
        writer.add_array("test.texts", ["", "é", "a b"])
        writer.add_array("test.flags", [True, False])

    return write(tmp_path / "model.gguf", model, more, rope_freqs__weight=rotary_factors(LLAMA3))


def test_what_is_read_in_bulk_is_what_the_package_reads(path: Path) -> None:
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    plain, expected = gguf.GGUFReader(str(path)), load_gguf_checkpoint(str(path))
    with read_in_bulk():
        assert gguf.GGUFReader is not type(plain)
        bulk, read = gguf.GGUFReader(str(path)), load_gguf_checkpoint(str(path))
    assert gguf.GGUFReader is type(plain)
    assert list(bulk.fields) == list(plain.fields)
    for name, field in plain.fields.items():
        assert bulk.fields[name].types == field.types, name
        assert bulk.fields[name].contents() == field.contents(), name
    places = [[(tensor.name, tensor.data_offset) for tensor in reader.tensors] for reader in (bulk, plain)]
    assert places[0] == places[1]
    assert read == expected


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_the_copy_computes_what_the_file_computes(dtype: str, path: Path) -> None:
    direct = load_model(path, dtype=dtype, cache=False)
    assert not copying.cache_folder().exists()
    first, later = load_model(path, dtype=dtype), load_model(path, dtype=dtype)
    assert copying.copy_of(locate(path), "model") is not None
    for name, model in (("first", first), ("later", later)):
        assert torch.equal(logits(model), logits(direct)), name
        for key, tensor in direct.state_dict().items():
            assert torch.equal(model.state_dict()[key], tensor), (name, key)
        own, expected = source_of(model), source_of(direct)
        assert own.stop == expected.stop == (2, 7)
        assert (own.name, own.revision, own.front) == (expected.name, fingerprint(path), expected.front)
        assert own.parameters == expected.parameters


def test_the_copy_reads_texts_as_the_file_does(path: Path) -> None:
    with copying.copies(False):
        direct, config = load_tokenizer(locate(path)), read_config(locate(path))
    load_model(path)
    copied = load_tokenizer(locate(path))
    assert copied.get_vocab() == direct.get_vocab()
    assert copied.special_tokens_map == direct.special_tokens_map
    for text in TEXTS:
        assert copied(text)["input_ids"] == direct(text)["input_ids"], text
    again = read_config(locate(path))
    assert again.rope_parameters == config.rope_parameters
    assert again.vocab_size == config.vocab_size


def test_a_pair_is_checked_from_copies(path: Path) -> None:
    other = write(path.with_name("other.gguf"), tiny_hf_model("llama", seed=1))
    plain = load_pair(path, other, cache=False).check()
    assert not copying.cache_folder().exists()
    load_model(path), load_model(other)
    assert load_pair(path, other).check() == plain


def test_a_damaged_copy_is_made_again(path: Path) -> None:
    expected = logits(load_model(path))
    copied = copying.copy_of(locate(path), "model")
    assert copied is not None
    weights = copied.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    assert copying.copy_of(locate(path), "model") is None
    assert torch.equal(logits(load_model(path)), expected)
    assert copying.copy_of(locate(path), "model") is not None


def test_another_file_at_the_same_path_has_its_own_copy(path: Path) -> None:
    before = logits(load_model(path))
    write(path, tiny_hf_model("llama", seed=5))
    after = load_model(path)
    assert not torch.equal(logits(after), before)
    assert torch.equal(logits(after), logits(load_model(path, cache=False)))


def test_a_broken_file_leaves_no_copy(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(ModelError):
        load_model(path)
    assert not list(copying.cache_folder().glob("*/model"))


def test_a_cache_that_cannot_be_written_is_no_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = logits(load_model(path, cache=False))
    path.with_name("file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(path.with_name("file")))
    assert torch.equal(logits(load_model(path)), expected)


def test_a_disk_that_fills_up_is_no_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def full(*args: Any, **options: Any) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    expected = logits(load_model(path, cache=False))
    monkeypatch.setattr(checkpoint, "save_file", full)
    assert torch.equal(logits(load_model(path)), expected)
    assert copying.copy_of(locate(path), "model") is None
    assert not list(copying.cache_folder().glob("*/.model-*"))


def test_a_copy_leaves_its_size_free(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    size = sum(value.numel() for value in tiny_hf_model("llama", rope_parameters=LLAMA3).parameters()) * 4
    free = {"bytes": 2 * size - 1}
    monkeypatch.setattr(copying, "_LEAST", 1)
    monkeypatch.setattr(copying.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free["bytes"]))
    caplog.set_level("INFO", "itlens")
    load_model(path, check=False)
    assert copying.copy_of(locate(path), "model") is None
    said = [line for line in caplog.messages if line.startswith(f"No converted copy of {path} is kept")]
    assert "GB are free" in said[0]
    free["bytes"] += 1
    load_model(path, check=False)
    assert copying.copy_of(locate(path), "model") is not None


def test_what_other_versions_and_ended_processes_left_is_removed(path: Path) -> None:
    load_model(path, check=False)
    folder = next(copying.cache_folder().glob("*/model")).parent
    digest = folder.name.partition("-")[0]
    other, older, another = (copying.cache_folder() / name for name in (f"{digest}-old1.0", "abc-old1.0", "abc-new"))
    left, new = another / ".model-left", another / ".model-new"
    for made in (other / "model", older / "model", left, new):
        made.mkdir(parents=True)
        (made / "model.safetensors").write_text("x")
    os.utime(left, (1e9, 1e9))
    shutil.rmtree(folder)
    load_model(path, check=False)
    assert {each: each.exists() for each in (folder, other, older, left, new)} == {
        folder: True, other: False, older: True, left: False, new: True
    }  # fmt: skip


def test_a_damaged_copy_is_out_of_the_way_before_it_is_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_model(path, check=False)
    copied = copying.copy_of(locate(path), "model")
    assert copied is not None
    (copied.folder / "config.json").write_text("")
    there = []
    monkeypatch.setattr(copying.shutil, "rmtree", lambda *args, **options: there.append(copied.folder.exists()))
    assert copying.copy_of(locate(path), "model") is None
    assert there == [False]


def test_the_command_line_says_what_it_keeps(path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITLENS_NO_CACHE", "")
    code, _, err = commands.run("inspect", path, "--json", "--no-cache")
    assert (code, err) == (0, "")
    assert not copying.cache_folder().exists()
    monkeypatch.setenv("ITLENS_NO_CACHE", "")
    code, printed, err = commands.run("inspect", path, "--json")
    assert code == 0 and json.loads(printed)["layers"] == 2
    assert err.startswith(f"A converted copy of {path} is kept in {copying.cache_folder()}")
    assert err.endswith("GB); --no-cache keeps none.\n") and err.count("\n") == 1
    code, _, err = commands.run("inspect", path, "--json")
    assert (code, err) == (0, "")
