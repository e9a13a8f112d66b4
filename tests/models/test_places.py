"""Weights for which the config has no place, and what of a pair differs beside its shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
