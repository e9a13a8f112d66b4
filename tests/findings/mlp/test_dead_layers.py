"""Models with a layer that does nothing, and heads of one dimension: numbers, NaN or one sentence from every probe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import itlens
from itlens.errors import ProbeError
from tests.tiny import tiny_hf_model, tiny_tokenizer

PROMPT = itlens.Prompt("List three animals: cat", id="a", instruction="List three", response=" plum")
WORDS = itlens.Vocabulary(["cat", "dog", "horse", "apple", "pear", "plum", "river", "mouse"])
VECTORS = itlens.WordVectors(WORDS.words, np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32))
QUIET: dict[str, Any] = {"progress": False}


def loaded(source: Any) -> Any:
    return itlens.load_model(source, tokenizer=tiny_tokenizer(), check=False)


def with_dead(part: str) -> Any:
    """A model whose second layer (or half of it) is all zeros."""
    source = tiny_hf_model("llama", 1)
    for name, parameter in source.named_parameters():
        if ".layers.1." in name and part in name:
            parameter.data.zero_()
    return loaded(source)


def readings(base: Any, model: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"responses": "given", "curve": False, **QUIET}
    return {
        "attribute": itlens.attribute(model, PROMPT, **QUIET),
        "forward": itlens.attribute(model, PROMPT, mode="forward", **QUIET),
        "activations": itlens.activations(model, PROMPT, **QUIET),
        "shift": itlens.activation_shift((base, model), PROMPT, responses="given", **QUIET),
        "heads": itlens.patch((base, model), PROMPT, **given),
        "weights": itlens.patch((base, model), PROMPT, what="weights", **given),
        "faithfulness": itlens.faithfulness(model, PROMPT, steps=2, draws=2, **QUIET),
        "pairs": itlens.qk_word_pairs(model, WORDS, vectors=VECTORS, top_k=3, **QUIET),
        "energy": itlens.qk_energy(model, WORDS),
        "copying": itlens.ov_copying(model, WORDS),
        "outputs": itlens.ov_word_pairs(model, WORDS, top_k=2, **QUIET),
        "neurons": itlens.neuron_words(model, WORDS, 1, top_k=2),
    }


@pytest.mark.parametrize("part", ["", "mlp", "self_attn"])
def test_a_dead_layer_is_numbers_or_one_sentence(part: str) -> None:
    model = with_dead(part)
    read = readings(loaded(tiny_hf_model("llama")), model)
    assert np.isfinite(read["attribute"].score).all()
    second = read["activations"].isel(prompt=0).sel(layer=1)
    if part != "self_attn":  # neurons that are silent: none takes part, all are at zero, nothing is written
        silent = [float(second[name]) for name in ("mlp_participation", "mlp_zero", "mlp_relative_norm")]
        assert silent == [0.0, 1.0, 0.0]
        for vectors in ("value", "key"):
            with pytest.raises(ProbeError, match=r"All vectors of layer 1 are the same.*is dead: leave it out"):
                itlens.mlp_concepts(model, WORDS, components=2, vectors=vectors, **QUIET)  # type: ignore[arg-type]
        assert itlens.mlp_concepts(model, WORDS, components=2, layers=[0], **QUIET).sizes["layer"] == 1
    if part != "mlp":
        assert (second.head_result_norm == 0).all() and (
            read["shift"].result_norm_ratio.sel(layer=1, token_class="all") == 0
        ).all()
        copying = read["copying"].set_index("layer").copying
        assert copying[1].isna().all() and copying[0].notna().all()
        assert (read["energy"].query("layer == 1").energy == 0).all()


def test_heads_of_one_dimension_are_read() -> None:
    """By hand: a head's circuit has one eigenvalue, so that it copies fully (1) or the opposite (-1)."""
    base, model = (loaded(tiny_hf_model("gpt2", seed, n_embd=4, n_head=4)) for seed in (0, 1))
    read = readings(base, model)
    assert np.allclose(read["attribute"].score, read["forward"].score, atol=1e-5)
    assert set(read["copying"].copying.round(6)) <= {1.0, -1.0}
    assert read["energy"].dim.unique().tolist() == [0]
    assert np.isfinite(read["heads"].effect).all() and np.isfinite(read["weights"].effect).all()
    assert itlens.mlp_concepts(model, WORDS, components=2, resamples=1, **QUIET).sizes["component"] == 2
