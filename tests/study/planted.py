"""A pair whose truth is known: the tuned half attends to the instruction more strongly, and differs in nothing else.

One attention layer (the MLP's weights are zero), one head, every score known in closed form. Embeddings are
[1, is an instruction token, is another token, noise]; instruction tokens are those with capital letters, so that the
instruction of a prompt is what is written in capitals. A query is q = c x_0 and a key k = beta x_1, both in a rotary
dimension that turns by under 1e-7 per position; RMS norm gives every token about the same length r. So the attention on
an instruction token is exp(c beta / (r^2 sqrt(d_head))) times that on another token: 1 at beta = 0 (the base), 9 in the
tuned model; values, outputs and unembedding, which read the noise alone, are shared.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from itlens.models.quiet import quiet
from itlens.prompts import Prompt
from tests.tiny import tiny_hf_model, tiny_tokenizer

WIDTH, HEAD = 32, 16
_TASKS = {
    "capitals": "TRANSLATE THE SENTENCE INTO FRENCH",
    "lists": "LIST THREE ANIMALS AND THREE FRUITS",
}
_MATERIAL = (
    "the quick brown fox jumps over the lazy dog, and the dog sleeps",
    "there is a small house by the river, where an old man writes letters",
    "cat, dog, horse; apple, pear, plum; mice and more mice",
    "is the number a prime number? yes, so give me the book",
    "go, went; see, saw; write, wrote; think, thought; the past tense",
    "the opposite of hot is cold, and what is the plural of mouse?",
)


def planted_prompts() -> list[Prompt]:
    """Twelve prompts in two groups; each instruction in capitals, before or after its material."""
    return [
        Prompt(
            f"{task}: {material}" if number % 2 else f"{material}. {task}",
            instruction=task,
            id=f"{group}-{number}",
            group=group,
        )
        for group, task in _TASKS.items()
        for number, material in enumerate(_MATERIAL)
    ]


def planted_model(ratio: float, *, silent: bool = False) -> Any:
    """A Llama whose attention on an instruction token is `ratio` times that on another one.

    silent: it ends every text at once, since </s> reads the dimension that is 1 in every token.
    """
    tokenizer = tiny_tokenizer()
    model = tiny_hf_model(
        "llama",
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=HEAD,
        rope_parameters={"rope_type": "default", "rope_theta": 1e9},
    )
    noise = torch.randn(len(tokenizer), WIDTH - 3, generator=torch.Generator().manual_seed(7))
    noise = noise / noise.norm(dim=1, keepdim=True) * math.sqrt(WIDTH - 2)
    capital = torch.tensor([any(c.isupper() for c in tokenizer.decode([n])) for n in range(len(tokenizer))])
    layer, attention = model.model.layers[0], model.model.layers[0].self_attn
    steady = HEAD // 2 - 1  # the rotary dimension that hardly turns
    with torch.no_grad():
        for gain in (layer.input_layernorm, layer.post_attention_layernorm, model.model.norm):
            gain.weight.fill_(1.0)
        embedding = model.model.embed_tokens.weight
        embedding.zero_()
        embedding[: len(tokenizer), 0] = 1
        embedding[: len(tokenizer), 1] = capital.float()
        embedding[: len(tokenizer), 2] = (~capital).float()
        embedding[: len(tokenizer), 3:] = noise
        for part in (attention.q_proj, attention.k_proj, layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj):
            part.weight.zero_()
        attention.q_proj.weight[steady, 0] = 1.0  # every embedding has the same length, and the norm makes that 1 each
        attention.k_proj.weight[steady, 1] = math.log(ratio) * math.sqrt(HEAD)
        for readout in (attention.v_proj, model.lm_head):
            readout.weight[:, :3] = 0
        attention.o_proj.weight[:3] = 0
        model.lm_head.weight[tokenizer.eos_token_id, 0] = 100.0 if silent else 0.0
    return model


def planted_folder(folder: Path, ratio: float, *, silent: bool = False) -> Path:
    """A checkpoint folder with a planted model and its tokenizer."""
    with quiet():
        planted_model(ratio, silent=silent).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
    return folder
