"""How far activations of two models are apart, token by token, and the sums of it by class of token.

For activations a (base) and b (tuned) of the same token
1. relative_change = sum of |b - a| / sum of |a|, norm_ratio = sum of |b| / sum of |a|, sums over the tokens of a class
2. cosine = mean over these tokens of <a, b> / (|a| |b|); 1 where both are zero, 0 where one is
3. result: what head h writes, r = z_h W_O,h, before any norm that follows attention. The difference is taken as
   b - a = (z_b - z_a) W_b + z_a (W_b - W_a): exactly zero where nothing changed, and without losing small differences
   between large vectors
4. Jensen-Shannon divergence of two attention patterns p, q: H((p + q)/2) - (H(p) + H(q))/2, 0 to log 2 nats
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float

from itlens.probes.running.forced import CLASSES

TOKEN_CLASSES = (*CLASSES, "rest", "all")  # rest: all but the first
STATISTICS = ("relative_change", "cosine", "norm_ratio")
_BYTES = 1 << 25  # of what heads write, at a time


def class_columns(classes: np.ndarray) -> Float[np.ndarray, "token token_class"]:
    """1 where a token belongs to a class of TOKEN_CLASSES."""
    single = np.eye(len(CLASSES))[classes]
    return np.column_stack([single, 1 - single[:, 0], np.ones(len(single))])


def by_class(
    base: Float[torch.Tensor, "token *head feature"],
    change: Float[torch.Tensor, "token *head feature"],
    columns: Float[np.ndarray, "token token_class"],
) -> dict[str, np.ndarray]:
    """STATISTICS on (head, token_class), or (token_class), of the base's activations and what tuning adds to them."""
    size, other, apart = (_norms(value) for value in (base, base + change, change))
    cosine = _cosine(size, other, apart)
    total, changed, tuned, near = (np.einsum("t...,tc->...c", value, columns) for value in (size, apart, other, cosine))
    count = np.broadcast_to(columns.sum(axis=0), near.shape)
    return {
        "relative_change": _ratio(changed, total, count),
        "cosine": np.divide(near, count, out=np.full(near.shape, np.nan), where=count > 0),
        "norm_ratio": np.divide(tuned, total, out=np.full(near.shape, np.nan), where=total > 0),
    }


def _norms(value: torch.Tensor) -> np.ndarray:
    return value.norm(dim=-1).double().cpu().numpy()


def _cosine(size: np.ndarray, other: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """1 - (|b-a|^2 - (|b|-|a|)^2) / (2 |a| |b|): the same as <a, b> / (|a| |b|), and exact near 1."""
    product = size * other
    gap = apart**2 - (other - size) ** 2
    out = np.where((size == 0) & (other == 0), 1.0, 0.0)
    return np.clip(np.subtract(1.0, np.divide(gap, 2 * product, out=1.0 - out, where=product > 0)), -1.0, 1.0)


def _ratio(changed: np.ndarray, total: np.ndarray, count: np.ndarray) -> np.ndarray:
    out = np.where((count > 0) & (changed == 0), 0.0, np.nan)
    return np.divide(changed, total, out=out, where=total > 0)


def written(
    base: Float[torch.Tensor, "token head d_head"],
    tuned: Float[torch.Tensor, "token head d_head"],
    base_out: Float[torch.Tensor, "head d_head d_model"],
    tuned_out: Float[torch.Tensor, "head d_head d_model"],
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """(which heads, what they write in the base, what tuning adds to it), a few heads at a time."""
    one = base.shape[0] * base_out.shape[-1] * base.element_size()
    step = max(1, int(_BYTES // one))
    for start in range(0, base.shape[1], step):
        heads = slice(start, start + step)
        mine, theirs = base_out[heads], tuned_out[heads]
        values, change = base[:, heads].transpose(0, 1), (tuned - base)[:, heads].transpose(0, 1)
        moved = change @ theirs + values @ (theirs - mine)
        yield heads, (values @ mine).transpose(0, 1), moved.transpose(0, 1)


def pattern_divergence(
    base: Float[torch.Tensor, "head target key"], tuned: Float[torch.Tensor, "head target key"]
) -> Float[torch.Tensor, "head target"]:
    """See the module, 4."""
    middle = torch.special.entr((base + tuned) / 2).sum(-1)
    own = torch.special.entr(base).sum(-1) / 2 + torch.special.entr(tuned).sum(-1) / 2
    return (middle - own).clamp(min=0.0)


def output_factor(out: Float[torch.Tensor, "head d_head d_model"]) -> Float[torch.Tensor, "head d_head feature"]:
    """R with R R' = W_O W_O': z R has the inner products of what a head writes, in d_head numbers."""
    wide = out.double()
    factor, failed = torch.linalg.cholesky_ex(wide @ wide.mT)
    if bool(failed.any()):  # a head that writes into fewer dimensions than it has; ten times slower
        factor = torch.linalg.qr(wide.mT).R.mT
    return factor.to(out.dtype)
