"""Weights straight from safetensors files: those of the loaded model, bit for bit, whatever the files look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import itlens
from itlens.models import load_model
from itlens.models.quiet import quiet
from itlens.weights import weights_of
from itlens.weights.stored import StoredWeights, streamed
from tests.tiny import ARCHITECTURES, tiny_folder, tiny_hf_model, tiny_tokenizer
from tests.weights.adapters import ADAPTERS, IDS, adapter, differences

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tensors_are_those_of_the_loaded_model(architecture: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "llama-gemma", architecture)  # the name of a folder says nothing
    ours, theirs = itlens.open_weights(folder), weights_of(load_model(folder))
    assert differences(ours, theirs) == []
    assert ours.facts == theirs.facts
    assert ours.attrs | {"backend": "hooked"} == theirs.attrs


def test_fused_projections_of_phi3_are_split(tmp_path: Path) -> None:
    """HookedTransformer does not know the architecture: by hand, from Hugging Face's own module."""
    folder = tiny_folder(tmp_path / "phi3", "phi3")
    weights = itlens.open_weights(folder, tokenizer=False)
    model = tiny_hf_model("phi3", vocab=300).model
    layer = model.layers[1]
    assert weights.facts["key_value_heads"] == 2
    joint, read = layer.self_attn.qkv_proj.weight, weights.attention(1)  # 4 heads, 2 + 2 key-value heads, 8 wide
    assert torch.equal(read.W_Q[3], joint[24:32].T)
    assert torch.equal(read.W_K[1], joint[40:48].T)
    assert torch.equal(read.W_V[0], joint[48:56].T)
    assert torch.equal(read.W_O[2], layer.self_attn.o_proj.weight[:, 16:24].T)
    assert torch.equal(read.gain, layer.input_layernorm.weight)
    x, mlp = torch.randn(5, 32), weights.mlp(1)
    assert mlp.W_gate is not None
    with torch.no_grad():
        ours = (torch.nn.functional.silu(x @ mlp.W_gate) * (x @ mlp.W_in)) @ mlp.W_out
        torch.testing.assert_close(ours, layer.mlp(x))


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_any_precision_of_the_files_and_of_the_tensors(stored: torch.dtype, dtype: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "half", "gemma2", dtype=stored)
    ours, theirs = itlens.open_weights(folder, dtype=dtype), weights_of(load_model(folder, dtype=dtype, check=False))
    assert differences(ours, theirs) == []
    assert ours.attrs["dtype"] == dtype


def sharded(folder: Path, architecture: str = "llama") -> Path:
    tiny_folder(folder, architecture)
    held = load_file(folder / FILE)
    names = sorted(held)
    (folder / FILE).unlink()
    parts = {f"model-0000{number + 1}-of-00002.safetensors": names[number::2] for number in range(2)}
    for file, keys in parts.items():
        save_file({key: held[key].contiguous() for key in keys}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def test_shards(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "parts")
    assert differences(itlens.open_weights(folder), weights_of(load_model(folder))) == []


def test_a_checkpoint_without_its_head_and_prefix(tmp_path: Path) -> None:
    """As GPT-2's own files are: saved from the model without its head, with masks that nobody reads."""
    folder = tiny_folder(tmp_path / "gpt2", "gpt2")
    held = {key.removeprefix("transformer."): value for key, value in load_file(folder / FILE).items()}
    save_file(held | {"h.0.attn.bias": torch.ones(1, 1, 8, 8)}, folder / FILE, metadata={"format": "pt"})
    assert differences(itlens.open_weights(folder), weights_of(load_model(folder))) == []


def test_a_head_beside_a_tied_embedding_counts(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "own-head", "qwen3")
    held = load_file(folder / FILE)
    head = held["model.embed_tokens.weight"] + 1
    save_file(held | {"lm_head.weight": head}, folder / FILE, metadata={"format": "pt"})
    ours = itlens.open_weights(folder)
    assert torch.equal(ours.unembed(IDS), head[IDS])
    assert differences(ours, weights_of(load_model(folder))) == []


@pytest.mark.parametrize(
    ("kind", "architecture", "stored", "dtype"),
    [
        ("lora", "llama", torch.float32, "float32"),
        ("lora", "gemma3", torch.bfloat16, "bfloat16"),
        ("lora", "gemma3", torch.bfloat16, "float32"),
        ("lora", "llama", torch.float32, "bfloat16"),
        ("dora", "llama", torch.bfloat16, "float32"),
        ("patterns", "llama", torch.bfloat16, "float32"),
        ("transposed", "gpt2", torch.float32, "float32"),
        ("embedding", "gemma3", torch.float32, "float32"),
        ("embedding", "llama", torch.bfloat16, "bfloat16"),
        ("whole modules", "llama", torch.float32, "float32"),
    ],
)
def test_an_adapter_is_merged_tensor_by_tensor(
    kind: str, architecture: str, stored: torch.dtype, dtype: str, tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path / "base", architecture, dtype=stored)
    own = adapter(tmp_path / "adapter", architecture, **ADAPTERS[kind])
    ours = itlens.open_weights(folder, adapter=own, dtype=dtype)
    theirs = weights_of(load_model(folder, adapter=own, dtype=dtype, check=False))
    assert differences(ours, theirs) == []
    assert {name: ours.attrs[name] for name in ("model", "revision")} == {
        name: theirs.attrs[name] for name in ("model", "revision")
    }
    assert differences(ours, itlens.open_weights(folder, dtype=dtype)) != []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gguf_file_is_read_through_its_copy(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf", reason="the gguf extra is not installed")
    from tests.models.test_gguf import write

    path = write(tmp_path / "model.gguf", tiny_hf_model("llama"))
    theirs = weights_of(load_model(path, dtype=dtype, tokenizer=tiny_tokenizer(), cache=False))
    for turn in ("the copy is made", "the copy is there"):
        ours = itlens.open_weights(path, dtype=dtype, tokenizer=tiny_tokenizer())
        assert differences(ours, theirs) == [], turn
        assert ours.facts == theirs.facts, turn
        assert ours.attrs | {"backend": "hooked"} == theirs.attrs, turn
        monkeypatch.setattr("itlens.models.checkpoint._loaded", None)  # nothing is unpacked again


def test_a_vocabulary_that_the_adapter_resizes(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="the peft extra is not installed")
    folder = tiny_folder(tmp_path / "base", "llama")
    model = tiny_hf_model("llama")
    model.resize_token_embeddings(304)
    own = tmp_path / "adapter"
    with quiet():
        peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(
            own, save_embedding_layers=True
        )
    ours, theirs = itlens.open_weights(folder, adapter=own), weights_of(load_model(folder, adapter=own))
    assert ours.facts == theirs.facts
    assert torch.equal(ours.embed(torch.tensor([303])), theirs.embed(torch.tensor([303])))


def test_layers_asked_for_in_a_row_are_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = itlens.open_weights(tiny_folder(tmp_path / "deep", "llama", num_hidden_layers=5))
    read: list[tuple[str, int]] = []
    real = StoredWeights._read
    noted = lambda half, layer: read.append((half, layer)) or real(weights, half, layer)  # noqa: E731
    monkeypatch.setattr(weights._ahead, "_read", noted)
    weights.mlp(3)
    assert read == [("mlp", 3)], "one layer alone reads no other"
    first = [weights.attention(layer).W_Q for layer in (0, 1)]
    weights._ahead._coming["attention"][1].result()
    assert read[1:] == [("attention", 0), ("attention", 1), ("attention", 2)]
    assert torch.equal(weights.attention(2).W_Q, real(weights, "attention", 2)["W_Q"])
    assert not torch.equal(*first)
    weights._ahead._coming["attention"][1].result()  # layer 3, in a thread of its own
    weights.attention(0)
    assert read[-1] == ("attention", 0), "what was read ahead is not taken for another layer"


def test_rows_of_words_are_read_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = itlens.open_weights(tiny_folder(tmp_path / "tied", "gemma3"))
    monkeypatch.setattr(weights._files, "tensor", lambda key: pytest.fail(f"{key} was read whole"))
    assert weights.embed(IDS).shape == (5, 32)
    assert weights.unembed(IDS[:0]).shape == (0, 32)


def test_whole_probe_results_of_the_embedded_pair() -> None:
    """Word pairs, output words, concepts and neurons: of the files and of the loaded model."""
    vocab = itlens.Vocabulary(itlens.Vocabulary.load("builtin").words[:1500])
    folder = itlens.demo.tuned_path()
    ours, theirs = itlens.open_weights(folder), load_model(folder)
    probes: dict[str, Any] = {
        "pairs": lambda source: itlens.qk_word_pairs(source, vocab, layers=[1], top_k=20),
        "output": lambda source: itlens.ov_word_pairs(source, vocab, layers=[2], inputs=30),
        "neurons": lambda source: itlens.neuron_words(source, vocab, layer=1, neurons=[3, 5]),
    }
    for name, probe in probes.items():
        own, other = probe(ours), probe(theirs)
        assert own.equals(other), name
        assert own.attrs | {"backend": "hooked"} == other.attrs, name
    concepts = [itlens.mlp_concepts(source, vocab, layers=[0, 1], components=20) for source in (ours, theirs)]
    assert concepts[0].equals(concepts[1])


class TestBadInput:
    """One sentence each."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tiny_folder(tmp_path / "model", "llama")

    def refused(self, words: str, *args: Any, **options: Any) -> None:
        with pytest.raises(itlens.ModelError, match=words) as error:
            itlens.open_weights(*args, **options)
        assert "\n" not in str(error.value)

    def test_a_tensor_that_is_missing_or_left_over_is_named(self, folder: Path) -> None:
        held = load_file(folder / FILE)
        held["model.layers.1.self_attn.gate.weight"] = held.pop("model.layers.1.mlp.up_proj.weight")
        save_file(held, folder / FILE, metadata={"format": "pt"})
        self.refused(
            r"1 tensors are missing \(model.layers.1.mlp.up_proj.weight\), and 1 tensors have no place .*attn.gate",
            folder,
        )

    def test_more_layers_than_the_config_says(self, folder: Path) -> None:
        settings = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 1}
        (folder / "config.json").write_text(json.dumps(settings))
        self.refused("1 layers.*9 tensors have no place in such a model .model.layers.1.input_layernorm", folder)

    def test_no_embedding(self, folder: Path) -> None:
        held = load_file(folder / FILE)
        del held["model.embed_tokens.weight"]
        save_file(held, folder / FILE, metadata={"format": "pt"})
        self.refused("holds no embedding .model.embed_tokens.weight", folder)

    def test_another_shape_than_the_config_says(self, folder: Path) -> None:
        settings = json.loads((folder / "config.json").read_text()) | {"intermediate_size": 57}
        (folder / "config.json").write_text(json.dumps(settings))
        self.refused(r"up_proj.weight .* has the shape \(56, 32\); its config.json leads to \(57, 32\)", folder)

    def test_an_unknown_architecture(self, folder: Path) -> None:
        settings = json.loads((folder / "config.json").read_text()) | {"model_type": "bloom"}
        (folder / "config.json").write_text(json.dumps(settings | {"architectures": ["BloomForCausalLM"]}))
        self.refused("architecture BloomForCausalLM, whose files .* it knows Llama, Mistral, .*Gemma3", folder)

    def test_a_missing_shard(self, tmp_path: Path) -> None:
        folder = sharded(tmp_path / "parts")
        (folder / "model-00002-of-00002.safetensors").unlink()
        self.refused("names model-00002-of-00002.safetensors, which is not in the folder", folder)

    def test_an_index_of_other_files(self, tmp_path: Path) -> None:
        folder = sharded(tmp_path / "parts")
        index = json.loads((folder / INDEX).read_text())
        index["weight_map"]["lm_head.weight"] = "model-00002-of-00002.safetensors"
        (folder / INDEX).write_text(json.dumps(index))
        self.refused("index .* that model-00002-of-00002.safetensors holds lm_head.weight, and it does not", folder)

    def test_a_file_that_ends_early(self, folder: Path) -> None:
        (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-100])
        self.refused("weights of .* cannot be loaded", folder)

    def test_numbers_that_are_not_finite_are_named_when_they_are_read(self, folder: Path) -> None:
        held = load_file(folder / FILE)
        held["model.layers.1.mlp.up_proj.weight"][3, 3] = torch.nan
        save_file(held, folder / FILE, metadata={"format": "pt"})
        weights = itlens.open_weights(folder)
        weights.mlp(0)
        with pytest.raises(itlens.ModelError, match=r"model.layers.1.mlp.up_proj.weight .* NaN"):
            weights.mlp(1)

    @pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq"])
    def test_quantised(self, folder: Path, method: str) -> None:
        settings = json.loads((folder / "config.json").read_text())
        settings["quantization_config"] = {"quant_method": method, "bits": 4, "load_in_4bit": True}
        (folder / "config.json").write_text(json.dumps(settings))
        self.refused(rf"quantised \({method}\)", folder)

    def test_packed_numbers_without_a_word_in_the_config(self, folder: Path) -> None:
        held = load_file(folder / FILE)
        held["model.layers.0.mlp.up_proj.weight"] = torch.zeros(56, 16, dtype=torch.uint8)
        save_file(held, folder / FILE, metadata={"format": "pt"})
        self.refused("1 weights of .* are stored as U8 .*up_proj.weight.*quantised", folder)

    def test_a_gguf_file_of_which_no_copy_is_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("gguf", reason="the gguf extra is not installed")
        from tests.models.test_gguf import write

        path = write(tmp_path / "model.gguf", tiny_hf_model("llama"))
        monkeypatch.setenv("ITLENS_NO_CACHE", "1")
        self.refused("is a .gguf file.*no converted copy.*load it as a model", path, tokenizer=False)
        assert streamed(path, tokenizer=False) is None, "it is loaded instead"

    def test_an_adapter_of_another_base(self, folder: Path, tmp_path: Path) -> None:
        other = adapter(tmp_path / "adapter", "gpt2", r=2, target_modules=["c_attn"], fan_in_fan_out=True)
        self.refused("adapter .* does not fit", folder, adapter=other)

    def test_no_safetensors(self, folder: Path) -> None:
        (folder / FILE).rename(folder / "pytorch_model.bin")
        self.refused("holds no safetensors files.*load the whole model", folder)

    def test_a_loaded_model_is_no_name(self) -> None:
        self.refused("got a LlamaForCausalLM; expected the folder", tiny_hf_model("llama"))

    def test_a_layer_that_is_not_there(self, folder: Path) -> None:
        with pytest.raises(itlens.ModelError, match="no layer 2; the model has 2"):
            itlens.open_weights(folder).attention(2)


def test_the_tokenizer_can_be_given(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model", "llama")
    own = tiny_tokenizer("metaspace")
    assert itlens.open_weights(folder, tokenizer=own).tokenizer is own
