"""A model whose answer hangs on one prompt token and on nothing else, with every weight written out."""

from __future__ import annotations

from typing import Any

import torch

import itlens
from tests.tiny import tiny_hf_model, tiny_tokenizer

KEY, ANSWER = "Q", "!"
PROMPT = "abcdQefghi"  # ten tokens, the key is the fifth
RESPONSE = ANSWER * 4


def one_token_model(backend: str = "hooked") -> Any:
    """One layer. Dimension 0 of an embedding says whether the token is the key; the head looks everywhere alike and
    writes dimension 0 of what it sees to dimension 1, which the answer's logit reads: no other path exists."""
    tokenizer = tiny_tokenizer(vocab=259)  # single bytes only
    model = tiny_hf_model("llama", dtype=torch.float64, num_hidden_layers=1, num_key_value_heads=4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        embedding, layer = model.model.embed_tokens.weight, model.model.layers[0]
        embedding[:, 2] = 1.0  # the same for every token, so that norms stay near one size
        embedding[tokenizer(KEY, add_special_tokens=False)["input_ids"][0], 0] = 5.0
        layer.self_attn.v_proj.weight[0, 0] = 1.0
        layer.self_attn.o_proj.weight[1, 0] = 5.0
        model.lm_head.weight[tokenizer(ANSWER, add_special_tokens=False)["input_ids"][0], 1] = 3.0
    return itlens.load_model(model, tokenizer=tokenizer, backend=backend, dtype="float64", check=False)
