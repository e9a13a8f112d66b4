"""The word-pair method as explicit loops over Python lists, float64, straight from a Hugging Face model's weights.

Slow on purpose: every word against every word of the baseline, every pair of every dimension. Shares no code with the
package; each architecture's weights are read as Hugging Face spells them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tests.tiny import tiny_tokenizer

SYLLABLES = ("the", "in", "an", "er", "writ", "ou", "quick", "let", "dog", "s", "sen", "ten", "=", "|", "é", "😀")


def _distinct(count: int) -> list[str]:
    """Words of different tokens: a mean does not tell "ab" from "ba", and rounding would decide which comes first."""
    tokenizer, found = tiny_tokenizer(), {}
    for word in (a + b for a in SYLLABLES for b in ("", *SYLLABLES)):
        found[frozenset(tokenizer(" " + word, add_special_tokens=False)["input_ids"])] = word
    return list(found.values())[:count]


WORDS = _distinct(150)


class Head(NamedTuple):
    """One head's maps, (d_model, d_head), with the norm's gain folded into the first three."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    output: np.ndarray  # (d_head, d_model)


def _array(tensor: Any) -> np.ndarray:
    return tensor.detach().double().numpy()


def embedding(hf: Any) -> np.ndarray:
    """W_E as it enters the residual stream."""
    scale = hf.config.hidden_size**0.5 if hf.config.model_type.startswith("gemma") else 1.0
    return _array(hf.get_input_embeddings().weight) * scale


def unembedding(hf: Any) -> np.ndarray:
    """W_U as rows, with the final norm's gain."""
    kind = hf.config.model_type
    norm = {"gpt2": "transformer.ln_f", "gpt_neox": "gpt_neox.final_layer_norm"}.get(kind, "model.norm")
    return _array(hf.get_output_embeddings().weight) * _gain(hf, hf.get_submodule(norm))


def _gain(hf: Any, norm: Any) -> np.ndarray:
    return _array(norm.weight) + (1.0 if hf.config.model_type.startswith("gemma") else 0.0)


def head_of(hf: Any, layer: int, head: int) -> Head:
    """The maps of one query head and of the key and value head that it reads."""
    kind, config = hf.config.model_type, hf.config
    heads = config.num_attention_heads
    if kind == "gpt2":
        block = hf.transformer.h[layer]
        gain, size = _array(block.ln_1.weight), config.n_embd // heads
        q, k, v = (
            _array(block.attn.c_attn.weight)[:, i * config.n_embd :][:, head * size : (head + 1) * size]
            for i in range(3)
        )
        out = _array(block.attn.c_proj.weight)[head * size : (head + 1) * size]
        return Head(gain[:, None] * q, gain[:, None] * k, gain[:, None] * v, out)
    if kind == "gpt_neox":
        block = hf.gpt_neox.layers[layer]
        gain, size = _array(block.input_layernorm.weight), config.hidden_size // heads
        rows = _array(block.attention.query_key_value.weight)[head * 3 * size : (head + 1) * 3 * size].T
        q, k, v = rows[:, :size], rows[:, size : 2 * size], rows[:, 2 * size :]
        out = _array(block.attention.dense.weight)[:, head * size : (head + 1) * size].T
        return Head(gain[:, None] * q, gain[:, None] * k, gain[:, None] * v, out)
    block = hf.model.layers[layer]
    gain, size = _gain(hf, block.input_layernorm), config.head_dim
    shared = head // (heads // config.num_key_value_heads)
    attn = block.self_attn
    q = _array(attn.q_proj.weight)[head * size : (head + 1) * size].T
    k, v = (_array(p.weight)[shared * size : (shared + 1) * size].T for p in (attn.k_proj, attn.v_proj))
    out = _array(attn.o_proj.weight)[:, head * size : (head + 1) * size].T
    if kind in ("gemma2", "gemma3_text"):  # a second norm, between W_O and the residual stream
        out = out * _gain(hf, block.post_attention_layernorm)
    return Head(gain[:, None] * q, gain[:, None] * k, gain[:, None] * v, out)


def means(matrix: np.ndarray, words: list[str], tokenizer: Any) -> list[np.ndarray]:
    """The mean row over the tokens of " " + word, without a lone leading space."""
    out = []
    for word in words:
        ids = tokenizer(" " + word, add_special_tokens=False)["input_ids"]
        if len(ids) > 1 and not tokenizer.decode(ids[:1]).strip() and tokenizer.decode(ids[1:]).strip() == word:
            ids = ids[1:]
        out.append(np.mean([matrix[i] for i in ids], axis=0))
    return out


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def thresholds(words: list[str], vectors: dict[str, np.ndarray], deviations: float, baseline: int) -> dict[str, float]:
    """mean + deviations * population std of each word's cosines with the first `baseline` words."""
    first = [vectors[word] for word in words[:baseline] if word in vectors]
    found = {}
    for word in words:
        if word in vectors:
            cosines = [cosine(vectors[word], other) for other in first]
            found[word] = float(np.mean(cosines) + deviations * np.std(cosines))
    return found


def pairs_of(
    query: list[np.ndarray],
    key: list[np.ndarray],
    words: list[str],
    vectors: dict[str, np.ndarray],
    limits: dict[str, float],
    *,
    top_k: int,
    signed: bool = True,
) -> dict[int, list[tuple[str, str, float]]]:
    """Per dimension the kept (query word, key word, cosine), from high to low cosine."""
    found: dict[int, list[tuple[str, str, float]]] = {}
    order = range(len(words))
    for dim in range(len(query[0])):
        top_q = sorted(order, key=lambda i: (-abs(query[i][dim]), i))[:top_k]
        top_k_words = sorted(order, key=lambda i: (-abs(key[i][dim]), i))[:top_k]
        kept = []
        for i in top_q:
            for j in top_k_words:
                a, b = words[i], words[j]
                if i == j or a not in limits or b not in limits:
                    continue
                near = cosine(vectors[a], vectors[b])
                if (
                    near > 0
                    and near > limits[a]
                    and near > limits[b]
                    and (not signed or query[i][dim] * key[j][dim] > 0)
                ):
                    kept.append((-near, i, j))
        found[dim] = [(words[i], words[j], -near) for near, i, j in sorted(kept)]
    return found
