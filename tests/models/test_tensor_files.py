"""Tensors read from files: the same values as the whole file gives, whatever the precision and the size of a piece."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from itlens.errors import ModelError
from itlens.models import load_model, tensor_files
from itlens.models.locate import Located, locate
from itlens.models.tensor_files import TensorFiles
from tests.tiny import ARCHITECTURES, tiny_folder

STORED = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@pytest.fixture
def files(tmp_path: Path) -> tuple[TensorFiles, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    held = {str(kind): torch.randn(37, 5).to(kind) for kind in STORED} | {"scalar": torch.tensor(2.5)}
    save_file(held, tmp_path / "model.safetensors")
    return TensorFiles(Located("files", tmp_path)), held


@pytest.mark.parametrize("dtype", STORED)
def test_a_converted_tensor_is_what_converting_the_whole_gives(
    files: tuple[TensorFiles, dict[str, torch.Tensor]], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_files, "_PIECE", 64)  # pieces that divide neither rows nor tensor
    stored, held = files
    for key, tensor in held.items():
        found = stored.converted(key, dtype)
        assert found.dtype == dtype
        assert torch.equal(found, tensor.to(dtype)), key


def test_rows_of_a_file_that_was_cut_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"embedding": torch.ones(100, 8)}, path)
    stored = TensorFiles(Located("files", tmp_path))
    assert stored.rows("embedding", torch.tensor([99])).tolist() == [[1.0] * 8]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 6)
    with pytest.raises(ModelError, match=r"files cannot be read.*ends early"):
        stored.rows("embedding", torch.tensor([3, 99]))


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_filled_from_files_is_what_transformers_loads(
    architecture: str, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    from itlens.models import checkpoint

    folder = tiny_folder(tmp_path, architecture)
    AutoModelForCausalLM.from_pretrained(folder, dtype=stored).save_pretrained(folder)
    config = checkpoint.read_model_config(locate(folder))
    assert checkpoint.can_be_filled(locate(folder), config)
    for dtype in (torch.float32, torch.bfloat16):
        own = checkpoint.load_checkpoint(locate(folder), config, dtype)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "can_be_filled", lambda place, config: False)
            other = checkpoint.load_checkpoint(locate(folder), config, dtype)
        tensors = {**dict(other.named_parameters()), **dict(other.named_buffers())}
        assert {*tensors} == {name for name, _ in (*own.named_parameters(), *own.named_buffers())}
        for name, tensor in (*own.named_parameters(), *own.named_buffers()):
            assert tensor.dtype == tensors[name].dtype, name
            assert torch.equal(tensor, tensors[name]), name
        assert own.config.to_diff_dict() == other.config.to_diff_dict()
        assert own.config.name_or_path == other.config.name_or_path
        assert own.generation_config.to_dict() == other.generation_config.to_dict()
        assert own.config._attn_implementation == "eager"


def test_tied_embeddings_stay_tied(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "llama", tie_word_embeddings=True)
    model = load_model(folder, dtype="bfloat16")
    assert model.W_E.data_ptr() == model.W_U.data_ptr()
