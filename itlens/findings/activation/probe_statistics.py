"""Statistics of one forward pass: where heads attend, how many neurons are active, how large activations are.

All are means over the target positions, the ones that predict response tokens.

Attention, for a head's pattern p[q, k] (softmax over keys k <= q):
1. mass[c] = sum of p[q, k] over the keys k of class c. Over the classes it sums to 1.
2. lift[c] = mean mass[c] / mean share[c], share[c] = the part of the keys k <= q that is of class c. 1 is what uniform
   attention would give; mass alone favours classes of many tokens.
3. entropy = - sum_k p log p, nats; entropy_share = entropy / log(number of keys k <= q), 0 (one key) to 1 (uniform).
   A position that can read one key only has no entropy_share.
A class of which no target can read a token is NaN. Keys that a sliding window hides count as readable, with mass 0.

Feed-forward layers, for the n hidden activations a of a token (`mlp.hook_post`: after the nonlinearity and, in gated
layers, the product with the gate):
1. participation = (sum |a|)^2 / (n sum a^2): 1 when all neurons are equally active, 1 / n when one is; 0 when none is.
2. zero = the share of neurons at exactly 0; near_zero = the share below a tenth of the token's root mean square.
3. relative_norm = |m| / |r|, m what the layer writes (`hook_mlp_out`, after a norm behind the layer where there is one)
   and r the residual stream it is added to (`hook_resid_post` - m).

Norms:
1. resid_rms: the root mean square of the residual stream after a layer (`hook_resid_post`);
2. head_z_norm: |z_h|, z_h the mixed values of head h (`attn.hook_z`);
3. head_result_norm: |z_h W_O,h|, what the head writes, as sqrt(z_h^T G_h z_h) with G_h = W_O,h W_O,h^T: nothing of size
   heads x d_model is made per token. Where a norm follows attention (Gemma 2 and 3) the head writes
   z_h W_O,h diag(g) / rms(sum over heads), and that is what is measured;
4. head_relative_norm: the same, token by token, over |x|, x the residual stream that attention is added to
   (`hook_resid_pre`).
The bias of W_O belongs to no head and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float, Int

from itlens.hooked.hooks import Hook, at_layers, stacked, target_positions, wide
from itlens.hooked.tokens import CLASSES, Forced
from itlens.models import HookedModel
from itlens.weights import Weights, weights_of

NEAR_ZERO = 0.1  # of the root mean square: a tenth of the size adds a hundredth of the energy


def class_columns(prompt: Forced, device: torch.device) -> Int[torch.Tensor, "key token_class"]:
    """Return 1 where a token that is read is of a class, else 0."""
    return torch.nn.functional.one_hot(torch.as_tensor(prompt.classes.astype(np.int64), device=device), len(CLASSES))


def class_shares(prompt: Forced) -> Float[np.ndarray, " token_class"]:
    """Return each class's part of the tokens that a target can read, mean over targets."""
    counts = np.cumsum(np.eye(len(CLASSES))[prompt.classes], axis=0)
    readable = counts[list(prompt.positions)]
    return np.asarray((readable / readable.sum(axis=1, keepdims=True)).mean(axis=0))


def attention_statistics(
    pattern: Float[torch.Tensor, "head query key"],
    queries: Int[torch.Tensor, " target"],
    columns: Int[torch.Tensor, "key token_class"],
) -> dict[str, torch.Tensor]:
    """Return mass (head, token_class), entropy (nats) and entropy_share (head): means over `queries`."""
    picked = wide(pattern[:, queries])
    entropy = torch.special.entr(picked).sum(-1)
    keys = (queries + 1).to(entropy.dtype)
    share = torch.where(keys > 1, entropy / keys.log(), torch.nan)
    return {
        "attention_mass": (picked @ columns.to(picked.dtype)).mean(1),
        "attention_entropy": entropy.mean(1),
        "attention_entropy_share": share.nanmean(1),
    }


class AttentionMass:
    """The summary "attention"; see the module."""

    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "attention_mass": ("layer", "head", "token_class"),
        "attention_lift": ("layer", "head", "token_class"),
        "attention_entropy": ("layer", "head"),
        "attention_entropy_share": ("layer", "head"),
    }
    names: ClassVar[Mapping[str, str]] = {
        "attention_mass": "attention mass",
        "attention_lift": "attention mass relative to uniform attention",
        "attention_entropy": "entropy of attention (nats)",
        "attention_entropy_share": "entropy of attention relative to uniform attention",
    }

    def __init__(self, model: HookedModel) -> None:
        self._model = model
        self._kept: dict[int, dict[str, torch.Tensor]] = {}

    def hooks(self, prompt: Forced) -> list[Hook]:
        """Patterns of all layers, reduced where they arise."""
        self._kept = {}
        queries = target_positions(self._model, prompt)
        columns = class_columns(prompt, queries.device)

        def keep(layer: int, value: torch.Tensor) -> None:
            self._kept[layer] = attention_statistics(value[0], queries, columns)

        return at_layers(self._model, "attn.hook_pattern", keep)

    def values(self, prompt: Forced, logits: torch.Tensor) -> dict[str, np.ndarray]:
        """Return the statistics on (layer, head[, token_class])."""
        measured = next(iter(self._kept.values()))
        numbers = {name: stacked({layer: kept[name] for layer, kept in self._kept.items()}) for name in measured}
        share = class_shares(prompt)
        numbers["attention_mass"][..., share == 0] = np.nan
        with np.errstate(invalid="ignore"):
            numbers["attention_lift"] = numbers["attention_mass"] / share
        return numbers


def sparsity(post: Float[torch.Tensor, "target neuron"]) -> dict[str, torch.Tensor]:
    """Return participation, zero and near_zero of each token."""
    size = wide(post).abs()
    energy = size.square().sum(-1)
    n = size.shape[-1]
    participation = torch.where(energy > 0, size.sum(-1).square() / (n * energy), 0.0)
    small = size < NEAR_ZERO * (energy / n).sqrt()[:, None]
    return {
        "mlp_participation": participation.clamp(max=1.0),
        "mlp_zero": (size == 0).to(size.dtype).mean(-1),
        "mlp_near_zero": (small | (size == 0)).to(size.dtype).mean(-1),
    }


class MlpSparsity:
    """The summary "mlp": feed-forward layers; see the module."""

    dims: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("mlp_participation", "mlp_zero", "mlp_near_zero", "mlp_relative_norm"), ("layer",)
    )
    names: ClassVar[Mapping[str, str]] = {
        "mlp_participation": "participation ratio of neurons",
        "mlp_zero": "share of neurons at zero",
        "mlp_near_zero": "share of neurons near zero",
        "mlp_relative_norm": "norm of the feed-forward output relative to the residual stream",
    }

    def __init__(self, model: HookedModel) -> None:
        self._model = model
        self._kept: dict[str, dict[int, torch.Tensor]] = {}
        self._written: dict[int, torch.Tensor] = {}

    def hooks(self, prompt: Forced) -> list[Hook]:
        """Hidden activations, what is written, and the stream after it, of all layers."""
        self._kept = {name: {} for name in self.dims}
        self._written = {}
        where = target_positions(self._model, prompt)

        def neurons(layer: int, value: torch.Tensor) -> None:
            for name, tokens in sparsity(value[0, where]).items():
                self._kept[name][layer] = tokens.mean()

        def written(layer: int, value: torch.Tensor) -> None:
            self._written[layer] = wide(value[0, where])

        def after(layer: int, value: torch.Tensor) -> None:
            added = self._written.pop(layer)
            before = wide(value[0, where]) - added
            self._kept["mlp_relative_norm"][layer] = (added.norm(dim=-1) / before.norm(dim=-1)).mean()

        return [
            *at_layers(self._model, "mlp.hook_post", neurons),
            *at_layers(self._model, "hook_mlp_out", written),
            *at_layers(self._model, "hook_resid_post", after),
        ]

    def values(self, prompt: Forced, logits: torch.Tensor) -> dict[str, np.ndarray]:
        """Return the statistics on (layer)."""
        return {name: stacked(layers) for name, layers in self._kept.items()}


class HeadWriting:
    """The Gram matrices of one layer's heads, made once; they say how long a vector each head writes."""

    def __init__(self, model: HookedModel, all_weights: Weights, layer: int) -> None:
        block, weights = model.blocks[layer], all_weights.attention(layer)
        W_O = wide(weights.W_O)
        scaled = W_O * wide(weights.out_gain)
        self._gram = einsum(scaled, scaled, "head i d_model, head j d_model -> head i j")
        self._after = getattr(block, "ln1_post", None) is not None
        self._weights, self._bias = weights, getattr(block.attn, "b_O", None)
        self._eps = float(model.cfg.eps)

    def norms(self, z: Float[torch.Tensor, "target head d_head"]) -> Float[torch.Tensor, "target head"]:
        """Return |what each head writes| at each position; see the module."""
        gram = self._gram.to(z.dtype)
        square = einsum(z, gram, z, "target head i, head i j, target head j -> target head").clamp(min=0.0)
        return square.sqrt() / self._divisor(z)[:, None]

    def _divisor(self, z: torch.Tensor) -> torch.Tensor:
        """The root mean square that a norm after attention divides by; 1 where there is nprompt."""
        if not self._after:
            return z.new_ones(len(z))
        # by letters: torch sums their axes in alphabetical order, and figures stay as they were to the last bit
        total = torch.einsum("the,hem->tm", z, self._weights.W_O.to(z.dtype))
        if self._bias is not None:
            total = total + self._bias.detach().to(z.dtype)
        return (total.square().mean(-1) + self._eps).sqrt()


class Norms:
    """The summary "norms"; see the module."""

    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "resid_rms": ("layer",),
        "head_z_norm": ("layer", "head"),
        "head_result_norm": ("layer", "head"),
        "head_relative_norm": ("layer", "head"),
    }
    names: ClassVar[Mapping[str, str]] = {
        "resid_rms": "root mean square of the residual stream",
        "head_z_norm": "norm of a head's mixed values",
        "head_result_norm": "norm of what a head writes",
        "head_relative_norm": "norm of what a head writes relative to the residual stream",
    }

    def __init__(self, model: HookedModel) -> None:
        self._model = model
        weights = weights_of(model)
        self._heads = [HeadWriting(model, weights, layer) for layer in range(model.cfg.n_layers)]
        self._kept: dict[str, dict[int, torch.Tensor]] = {}
        self._stream: dict[int, torch.Tensor] = {}

    def hooks(self, prompt: Forced) -> list[Hook]:
        """The stream before and after each layer, and the heads' values."""
        self._kept = {name: {} for name in self.dims}
        self._stream = {}
        where = target_positions(self._model, prompt)

        def before(layer: int, value: torch.Tensor) -> None:
            self._stream[layer] = wide(value[0, where]).norm(dim=-1)

        def heads(layer: int, value: torch.Tensor) -> None:
            z = wide(value[0, where])
            written, stream = self._heads[layer].norms(z), self._stream.pop(layer)
            self._kept["head_z_norm"][layer] = z.norm(dim=-1).mean(0)
            self._kept["head_result_norm"][layer] = written.mean(0)
            self._kept["head_relative_norm"][layer] = (written / stream[:, None]).mean(0)

        def after(layer: int, value: torch.Tensor) -> None:
            stream = wide(value[0, where])
            self._kept["resid_rms"][layer] = stream.square().mean(-1).sqrt().mean()

        return [
            *at_layers(self._model, "hook_resid_pre", before),
            *at_layers(self._model, "attn.hook_z", heads),
            *at_layers(self._model, "hook_resid_post", after),
        ]

    def values(self, prompt: Forced, logits: torch.Tensor) -> dict[str, np.ndarray]:
        """Return the statistics on (layer[, head])."""
        return {name: stacked(layers) for name, layers in self._kept.items()}
