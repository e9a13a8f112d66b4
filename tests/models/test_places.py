"""Weights for which the config has no place, and what of a pair differs beside its shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from itlens.errors import ModelError, PairError
from itlens.models import describe_model, load_model, load_pair
from tests.tiny import tiny_folder, tiny_hf_model, tiny_tokenizer


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("places") / "base", "llama")


def with_weights(folder: Path, more: dict[str, Tensor], architecture: str = "llama") -> Path:
    path = tiny_folder(folder, architecture, seed=1) / "model.safetensors"
    save_file(load_file(path) | more, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"model.layers.0.self_attn.q_proj.bias": torch.ones(48)}, r"1 weights of .* \(model.*q_proj.bias\).*biases"),
        ({"model.layers.2.mlp.up_proj.weight": torch.ones(56, 32)}, "the number of layers, which is 2"),
        (
            {"model.layers.0.self_attn.q_proj.lora_A.default.weight": torch.ones(2, 32)},
            "an adapter that was not merged",
        ),
    ],
    ids=["a bias", "a layer more", "lora"],
)
def test_weights_without_a_place_are_refused_before_a_study_loads_anything(
    base: Path, tmp_path: Path, more: dict[str, Tensor], words: str
) -> None:
    folder = with_weights(tmp_path, more)
    calls: tuple[Callable[[], Any], ...] = (load_pair(base, folder).check_files, lambda: load_model(folder))
    for call in calls:
        with pytest.raises(ModelError, match=words) as error:
            call()
        assert "\n" not in str(error.value)


def test_weights_that_no_text_model_uses_are_named(base: Path, tmp_path: Path) -> None:
    more = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6),
        "model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(6),
        "v_head.summary.weight": torch.ones(1, 32),
    }
    folder = with_weights(tmp_path, more)
    notices = load_pair(base, folder).check().notices
    assert notices == (
        "tuned: 2 weights are not used: rotary tables, which the config determines",
        "tuned: 1 weights are not used: a value head, which only reinforcement learning uses",
    )
    load_pair(base, folder).check_files()
    load_model(folder)
    assert describe_model(folder, check=False)["unused_weights"].startswith("2 weights are not used: rotary tables")


def test_stored_precisions_that_differ(base: Path, tmp_path: Path) -> None:
    tuned = tiny_folder(tmp_path, "llama", seed=1, dtype=torch.bfloat16)
    (notice,) = load_pair(base, tuned).check().notices
    assert notice.startswith("stored in float32 (base) and bfloat16 (tuned): rounding alone changes every weight")
    assert "up to 0.39 % of it" in notice


def test_rotary_positions_and_other_settings_that_differ(base: Path, tmp_path: Path) -> None:
    positions = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    tuned = tiny_folder(tmp_path, "llama", seed=1, rope_parameters=positions, rms_norm_eps=1e-6)
    for pair in (
        load_pair(base, tuned),
        load_pair(load_model(base), load_model(tuned)),
        load_pair(base, load_model(tuned)),
    ):
        notices = pair.check().notices
        assert "rotary_base 500.0 and 10000.0; rotary_scaling_factor none and 2.0" in notices[0]
        assert "settings of the configs differ (eps 1e-05 and 1e-06)" in notices[1]
    bridge = load_pair(load_model(base, backend="bridge"), tuned).check().notices
    assert "rotary_base 500.0 and 10000.0" in bridge[0]


LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 4.0}


def positions(kind: dict[str, Any], original: int = 64) -> dict[str, Any]:
    return {"rope_parameters": kind | {"original_max_position_embeddings": original}}


OTHER_SETTINGS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "llama3, trained on": ("llama", positions(LLAMA3), positions(LLAMA3, 128), "NTK_original_ctx_len 64 and 128"),
    "yarn, trained on": (
        *("llama", positions(YARN), positions(YARN, 128)),
        "yarn_original_max_position_embeddings 64 and 128",
    ),
    "only one can be expressed": ("llama", positions(YARN), positions(DYNAMIC), "(rope_type yarn and dynamic)"),
    "scale of scores": ("gemma2", {}, {"query_pre_attn_scalar": 20}, "attn_scale 3.1622776601683795 and 4.4721359"),
    "scores unscaled": ("gpt2", {}, {"scale_attn_weights": False}, "use_attn_scale none and False"),
    "scores scaled by layer": (
        *("gpt2", {}, {"scale_attn_by_inverse_layer_idx": True}),
        "scale_attn_by_inverse_layer_idx none and True",
    ),
    "parallel halves": ("gpt_neox", {}, {"use_parallel_residual": False}, "parallel_attn_mlp True and none"),
}


@pytest.mark.parametrize(
    ("architecture", "first", "second", "words"), OTHER_SETTINGS.values(), ids=list(OTHER_SETTINGS)
)
def test_every_setting_that_changes_what_is_computed_is_named(
    architecture: str, first: dict[str, Any], second: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folders = [tiny_folder(tmp_path / str(n), architecture, **more) for n, more in enumerate((first, second))]
    said = [text for text in load_pair(*folders).check().notices if "differ (" in text]
    assert len(said) == 1
    assert words in said[0]


def test_settings_of_architectures_that_are_only_wrapped_are_compared(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, GraniteConfig

    for name, scale in (("base", 1.0), ("tuned", 4.0)):
        config = GraniteConfig(
            **{"vocab_size": 300, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 1},
            **{"num_attention_heads": 4, "num_key_value_heads": 2, "logits_scaling": scale, "use_cache": scale > 1},
        )
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
        tiny_tokenizer().save_pretrained(tmp_path / name)
    (said,) = load_pair(tmp_path / "base", tmp_path / "tuned", backend="bridge").check().notices
    assert said.startswith("settings of the configs differ (logits_scaling 1.0 and 4.0): with equal weights")


def test_weights_stored_as_integers_without_a_quantization_are_refused(base: Path, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    folder = with_weights(tmp_path, {name: torch.ones(48, 32, dtype=torch.int8)})
    for call in (load_pair(base, folder).check_files, lambda: load_model(folder)):
        with pytest.raises(ModelError, match=rf"^1 weights of .* are stored as integers \(such as {name}, I8\)"):
            call()


def test_a_config_of_another_size_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """Without its sizes a config means a model of 7 billion parameters, which would be made of random numbers."""
    folder = tiny_folder(tmp_path, "llama")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    before = psutil.Process().memory_info().rss
    with pytest.raises(ModelError, match=r"^\d+ weights of .* have other sizes than its config\.json leads to"):
        load_model(folder)
    assert psutil.Process().memory_info().rss - before < 1e9


def test_weights_of_other_sizes_are_named_with_both_sizes(base: Path, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "llama")
    config = json.loads((folder / "config.json").read_text()) | {"head_dim": 8}
    (folder / "config.json").write_text(json.dumps(config))
    name = "model.layers.0.self_attn.k_proj.weight"
    for call in (load_pair(base, folder).check_files, lambda: load_model(folder)):
        with pytest.raises(
            ModelError, match=r"^8 weights of .*: \(24, 32\) in its files, \(16, 32\) by the config\)"
        ) as error:
            call()
        assert name in str(error.value)


def test_numbers_that_are_not_finite_in_float32_are_not_blamed_on_the_precision(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "llama", rope_parameters={"rope_type": "linear", "factor": 0.0, "rope_theta": 500.0})
    with pytest.raises(ModelError, match="in float32: its weights or a setting of its config") as error:
        load_model(folder)
    assert "overflow" not in str(error.value)


def test_processed_weights_against_unprocessed_ones_are_refused(tmp_path: Path) -> None:
    plain = load_model(tiny_hf_model("gpt2"), tokenizer=False)
    folded, centred = (load_model(tiny_hf_model("gpt2"), tokenizer=False) for _ in range(2))
    folded.process_weights_(center_writing_weights=False, center_unembed=False, refactor_factored_attn_matrices=False)
    centred.process_weights_(fold_ln=False)
    assert load_pair(plain, load_model(tiny_hf_model("gpt2", seed=1), tokenizer=False)).check().notices == ()
    for processed, words in ((folded, "norms folded"), (centred, "writing weights centred, unembedding centred")):
        with pytest.raises(PairError, match=f"weights as in the checkpoint and weights {words}"):
            load_pair(plain, processed).check()
        load_pair(processed, processed).check()
    with pytest.raises(PairError, match="weights norms folded into the weights and weights as in the checkpoint"):
        load_pair(folded, tiny_hf_model("gpt2")).check()


def test_special_tokens_that_only_one_of_the_two_reads_as_one_token(tmp_path: Path) -> None:
    base, tuned = tiny_tokenizer(), tiny_tokenizer()
    # a token of both vocabularies, which only one of the two finds in a text as it is written
    word = next(token for token in sorted(base.get_vocab()) if token.startswith("Ġ") and len(token) > 2)
    tuned.add_special_tokens({"additional_special_tokens": [word]})
    folders = [
        tiny_folder(tmp_path / str(seed), "llama", seed=seed, tokenizer=own) for seed, own in enumerate((base, tuned))
    ]
    notices = load_pair(*folders).check().notices
    assert any(said.startswith(f"only the tuned tokenizer reads {word!r} as one token") for said in notices)
