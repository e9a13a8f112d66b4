"""A two-layer model in which every number of the residual stream is written out.

Every token's stream begins as 4 in dimension 0. All heads look everywhere alike, and all tokens are the same, so that
attention passes its input on. With x / |x| the direction of the stream (an RMS norm times 1 / sqrt(32)):
   block 0 writes  a           into dimension 1  (the stream is all in dimension 0 there)
   block 1 writes  b x_0 / |x|  into dimension 2
Feed-forward layers write nothing. "T" reads dimensions 1 and 2, "B" dimension 0, both with weight 1:
   logit(T) - logit(B) = sqrt(32) (x_1 + x_2 - x_0) / |x|  after the last block.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from tests.findings.token_shift.chains import WIDTH, id_of
from tests.tiny import tiny_hf_model

BEGIN = 4.0


def two_block_model(a: float, b: float) -> Any:
    """The model; see the module."""
    model = tiny_hf_model("llama", dtype=torch.float64, num_key_value_heads=4, rms_norm_eps=1e-30)
    size = math.sqrt(WIDTH)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        model.model.embed_tokens.weight[:, 0] = BEGIN
        for layer, (written, dimension) in zip(model.model.layers, ((a, 1), (b, 2)), strict=True):
            layer.self_attn.v_proj.weight[0, 0] = 1 / size
            layer.self_attn.o_proj.weight[dimension, 0] = written
        model.lm_head.weight[id_of("T"), 1:3] = 1.0
        model.lm_head.weight[id_of("B"), 0] = 1.0
    return model


def gap(a: float, b: float) -> float:
    """logit(T) - logit(B) by hand, where block 0 is that of a model with `a` and block 1 that of a model with `b`."""
    after = [BEGIN, a]
    third = b * BEGIN / math.hypot(*after)
    return math.sqrt(WIDTH) * (a + third - BEGIN) / math.sqrt(BEGIN**2 + a**2 + third**2)
