"""Attention patterns against Hugging Face, a planted change of one head, and the view that shows them."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import itlens
from itlens.errors import ModelError, ProbeError, PromptError, ResultError
from itlens.models import load_model, load_pair, source_of
from tests.commands import Commands
from tests.tiny import ARCHITECTURES, BACKENDS, tiny_folder, tiny_hf_model, tiny_tokenizer

TEXT = "Translate the sentence: the cat sleeps."
HOSTILE = "<script>alert(1)</script>"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_gives_hugging_faces_patterns(architecture: str, backend: str) -> None:
    hf = tiny_hf_model(architecture, dtype=torch.float64)
    hf.set_attn_implementation("eager")
    model = load_model(
        tiny_hf_model(architecture, dtype=torch.float64), dtype="float64", tokenizer=tiny_tokenizer(), backend=backend
    )
    found = itlens.attention_patterns(model, TEXT)
    ids = torch.tensor([found["token_id"].values.tolist()])
    with torch.no_grad():
        expected = hf(ids, output_attentions=True).attentions
    assert found["pattern"].dims == ("layer", "head", "query", "key")
    np.testing.assert_allclose(found["pattern"], np.stack([each[0] for each in expected]), atol=1e-6)
    assert found.attrs["model"] == source_of(model).name
    one = itlens.attention_patterns(model, TEXT, layer=1, head=[0, 2])
    np.testing.assert_array_equal(one["pattern"], found["pattern"].sel(layer=[1], head=[0, 2]))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("patterns")
    return tiny_folder(root / "base", "llama", seed=0), tiny_folder(root / "tuned", "llama", seed=0)


def test_a_pair_of_one_model_does_not_differ_and_a_changed_head_is_large_at_first(folders: tuple[Path, Path]) -> None:
    pair = load_pair(*folders, keep_both=True)
    same = itlens.attention_patterns(pair, TEXT)
    assert same["model"].values.tolist() == ["base", "tuned"]
    np.testing.assert_array_equal(same["pattern"].sel(model="base"), same["pattern"].sel(model="tuned"))
    with torch.no_grad():
        pair.tuned.blocks[1].attn.W_Q[2] *= -3
    found = itlens.attention_patterns(pair, TEXT)
    moved = np.abs(found["pattern"].diff("model")).sum(("query", "key")).squeeze("model")
    assert np.flatnonzero(moved.values > 0).tolist() == [1 * found.sizes["head"] + 2]
    view = itlens.views.attention(pair, TEXT, layer=1)
    assert view.heads[view.start] == 2
    assert [side for side, _ in view.sides] == ["base", "tuned", "difference"]


def test_the_view_holds_the_numbers_to_half_a_step(folders: tuple[Path, Path]) -> None:
    model = load_model(folders[0])
    found = itlens.attention_patterns(model, TEXT)
    view = itlens.views.attention(found, layer=1, head=3)
    (packed,) = json.loads(view.data).values()
    numbers = np.frombuffer(gzip.decompress(base64.b64decode(packed)), dtype=np.uint8) / 255
    rows, columns = np.tril_indices(found.sizes["key"])
    expected = found["pattern"].sel(layer=1, head=3).values[rows, columns]
    np.testing.assert_allclose(numbers, expected, atol=0.5 / 255 + 1e-7)
    assert view.heads == (3,)
    assert list(view.tokens) == found["token"].values.tolist()


def test_a_response_is_read_and_a_long_text_is_cut_with_a_note(folders: tuple[Path, Path]) -> None:
    model = load_model(folders[0])
    with_response = itlens.attention_patterns(model, itlens.Prompt(TEXT, response=" Le chat."), layer=0)
    alone = itlens.attention_patterns(model, TEXT, layer=0)
    size = alone.sizes["query"]
    assert with_response.sizes["query"] > size
    np.testing.assert_allclose(with_response["pattern"][..., :size, :size], alone["pattern"], atol=1e-6)
    cut = itlens.attention_patterns(model, TEXT, layer=0, longest=5)
    np.testing.assert_allclose(cut["pattern"], alone["pattern"][..., :5, :5], atol=1e-6)
    assert cut.attrs["note"] == f"cut to the first 5 of {size} tokens"
    assert cut.attrs["note"] in itlens.views.attention(cut, layer=0).html


def test_text_stays_text(folders: tuple[Path, Path]) -> None:
    view = itlens.views.attention(load_model(folders[0]), HOSTILE, layer=0)
    assert "".join(view.tokens).endswith(HOSTILE)
    for page in (view.html, view._repr_html_()):
        assert "<script>alert" not in page
        assert page.count('class="t"') == len(view.tokens)


def test_a_character_of_several_tokens_is_shown_once_over_its_pieces(folders: tuple[Path, Path]) -> None:
    view = itlens.views.attention(load_model(folders[0]), "\N{PARTY POPPER}", layer=0)
    assert view.tokens[-4:] == ("\N{PARTY POPPER}", "₂", "₃", "₄")


def test_wrong_input_is_one_sentence(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model = load_model(folders[0])
    with pytest.raises(ProbeError, match=r"layer 9 is not there; the model has layers 0 to 1"):
        itlens.views.attention(model, TEXT, layer=9)
    with pytest.raises(ProbeError, match=r"head 7 is not there"):
        itlens.views.attention(model, TEXT, layer=0, head=7)
    with pytest.raises(ResultError, match="got no prompt"):
        itlens.views.attention(model)
    with pytest.raises(ResultError, match="without pattern"):
        itlens.views.attention(xr.Dataset())
    found = itlens.attention_patterns(model, TEXT, layer=1)
    with pytest.raises(ResultError, match="got layer 0, and this result has layers 1"):
        itlens.views.attention(found, layer=0)
    with pytest.raises(PromptError, match="reads at most 256"):
        itlens.attention_patterns(model, "word " * 400, layer=0)
    with pytest.raises(ModelError):
        itlens.attention_patterns("gpt2", TEXT)  # type: ignore[arg-type]
    other = tiny_folder(tmp_path / "other", "llama", seed=1, tokenizer=tiny_tokenizer(bos=False))
    with pytest.raises(PromptError, match="as different tokens"):
        itlens.attention_patterns(load_pair(folders[0], other), TEXT, layer=0)


def test_the_command_writes_a_page_or_numbers(commands: Commands, folders: tuple[Path, Path], tmp_path: Path) -> None:
    asked = ("attend", *folders, "--prompt", TEXT, "--layer", 1)
    done = commands.run(*asked, "--out", tmp_path / "a.html")
    assert (done.code, done.err) == (0, "")
    assert "Attention of layer 1" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert commands.run(*asked, "--out", tmp_path / "a.nc").code == 0
    saved = itlens.load(tmp_path / "a.nc")
    assert isinstance(saved, xr.Dataset)
    assert saved["pattern"].dims == ("model", "layer", "head", "query", "key")
    assert "a name that ends in .html or .nc" in commands.refused(*asked, "--out", tmp_path / "a.png")
    assert "layer 5 is not there" in commands.refused(*asked[:-1], 5, "--out", tmp_path / "b.html")
    assert not (tmp_path / "b.html").exists()
