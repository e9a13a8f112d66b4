"""The load check: the converted model must compute what the Hugging Face model computes.

1. A short text (fixed ids where there is no tokenizer) goes through the Hugging Face model, in its own dtype, with
   eager attention. 2. The same ids go through the converted model. 3. The largest difference of two logits, divided by
   the largest absolute logit, must stay under a bound that depends on the dtype. Hugging Face computes norms and
   softmax in float32 even in a float64 model, hence the bound for float64. Trained models come out near 2e-6
in float32; the bound leaves room for untrained and very deep ones, in which rounding grows from layer to layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from itlens.errors import ModelError
from itlens.models.hooked_model import HookedModel
from itlens.models.precision import exact, half_products
from itlens.tokenization import Tokenizer, encode

TEXT = (
    "Translate the sentence below into French, then explain in 1 or 2 lines why it's so:\n"
    '"The quick brown fox (born in 1987) jumps over the lazy dog."'
)
BOUNDS = {torch.float64: 2e-4, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 2e-1}


def check_ids(tokenizer: Tokenizer | None, vocabulary: int, context: int) -> list[int]:
    """Return the ids of the check text, special tokens in front as the model's tokenizer adds them; at most
    `context`."""
    if tokenizer is None:
        return [(7 * number + 3) % vocabulary for number in range(min(24, context))]
    encoded = encode(tokenizer, TEXT)
    ids = [*encoded.front, *encoded.prompt_ids][:context]
    if max(ids) >= vocabulary:
        raise ModelError(
            f"The tokenizer gives id {max(ids)}, but the model has only {vocabulary} embeddings; "
            "pass the tokenizer that belongs to this model with tokenizer=."
        )
    return ids


@torch.no_grad()
def reference_logits(model: Any, ids: list[int]) -> Tensor:
    """Return the logits (position, vocabulary) of a Hugging Face model."""
    with half_products(model.parameters()):
        logits: Tensor = model(torch.tensor([ids], device=model.device), use_cache=False).logits
    return logits[0]


@torch.no_grad()
def own_logits(model: HookedModel, ids: list[int]) -> Tensor:
    """Return the logits (position, vocabulary) of a HookedTransformer or TransformerBridge."""
    device = next(model.parameters()).device
    with half_products(model.parameters()):
        logits: Tensor = model(torch.tensor([ids], device=device), return_type="logits")
    return logits[0]


def figures(reference: Tensor, own: Tensor) -> dict[str, Any]:
    """Return max_difference, relative_difference (to the largest absolute logit), argmax_agreement (share), tokens."""
    differences, largest, same = [], [], []
    # a row at a time: in float64 all of them take much memory
    for expected, got in zip(reference.cpu(), own.cpu(), strict=True):
        row, other = exact(expected), exact(got)
        differences.append((row - other).abs().max())
        largest.append(row.abs().max())
        same.append(row.argmax() == other.argmax())
    difference = float(torch.stack(differences).max())  # NaN where one of them is
    return {
        "max_difference": difference,
        "relative_difference": difference / max(float(torch.stack(largest).max()), 1e-30),
        "argmax_agreement": float(exact(torch.stack(same)).mean()),
        "tokens": len(same),
    }


def refuse_different(reference: Tensor, own: Tensor, name: str) -> dict[str, Any]:
    """Return the figures of the check, or ModelError when the two sets of logits differ by more than the dtype
    allows."""
    if not bool(torch.isfinite(reference).all()):
        kind = str(reference.dtype).removeprefix("torch.")
        told = f"Hugging Face's own {name} gives NaN or infinity in {kind}"
        if reference.dtype == torch.float16:
            raise ModelError(
                f"{told}: its numbers overflow in this precision; load it in float32 or bfloat16 (dtype=)."
            )
        raise ModelError(f"{told}: its weights or a setting of its config (rotary positions, scales) are broken.")
    found = figures(reference, own)
    coarser = max((reference.dtype, own.dtype), key=lambda dtype: BOUNDS[dtype])
    bound = BOUNDS[coarser]
    if not found["relative_difference"] <= bound:  # NaN is refused too
        raise ModelError(
            f"The converted {name} does not compute what Hugging Face computes: logits differ by "
            f"{found['max_difference']:.3g} ({found['relative_difference']:.1e} of the largest; allowed {bound:.0e}), "
            f'and the most likely token agrees at {found["argmax_agreement"]:.0%} of positions. Try backend="bridge" '
            "(Hugging Face's own modules) or another dtype; check=False loads it anyway."
        )
    return found | {"allowed_relative_difference": bound}
