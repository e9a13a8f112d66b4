"""What tuning changed in the weights, matrix by matrix and head by head: D = W_tuned - W_base.

Matrices are taken as their files hold them, outputs x inputs, all heads together and without norm gains.
1. RELATIVE is |D| / |W_base| (Frobenius), COSINE <W_base, W_tuned> / (|W_base| |W_tuned|); UNCHANGED is the share of
   entries with |D| <= 1e-5, EQUAL that of entries which are the same number.
2. EFFECTIVE RANK of D is exp(-sum p ln p), p = s / sum s over its singular values s (Roy and Vetterli 2007); ENERGY is
   the share of sum s^2 in the first k. For comparison, effective_rank_random is that of a matrix of the same shape with
   independent normal entries.
3. INTRUDERS: of the first ten left singular vectors of W_tuned (directions that it writes), those with |cos| < 0.5 to
   every left singular vector of W_base (Shuttleworth et al. 2024, arXiv 2410.21228). intruders_null: the same count for
   W_base with its input columns drawn again with replacement, in the place of W_tuned.
4. Per head, the products W_QK = W_Q W_K^T and W_OV = W_V W_O (d_model x d_model), with the gains of the norms before
   and after attention folded in. D of a product has at most twice the head's width of singular values: those of a core
   R_1 R_2^T, where  D = [dA, A_base] [B_tuned, dB]^T  and R_1, R_2 are the triangular factors of the two stacks
   (A, B: the head's two factors; dA, dB: their changes). Nothing cancels, so that small changes keep their digits.

Gram matrices and singular values are float64; singular vectors of W_base and W_tuned, of which only angles are read,
float32. A matrix that did not change has relative 0, effective rank 0, no intruders, and no energy (NaN).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from itlens.errors import PairError
from itlens.findings.weight_delta.probe_spectra import (
    LeftVectors,
    effective_rank,
    first_left,
    random_rank,
    smaller_gram,
    squared_values,
)
from itlens.models.hooked_model import HookedModel
from itlens.models.precision import exact
from itlens.progress import late_bar
from itlens.results.provenance import provenance
from itlens.selection import Numbers, chosen
from itlens.weights import AttentionWeights, MlpWeights, Weights, weights_of

MATRICES = ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_gate", "W_out")
PRODUCTS = ("QK", "OV")
KS = (1, 2, 4, 8, 16, 32)  # singular directions whose share of the energy is kept
SAME = 1e-5  # entries that moved by no more count as unchanged
FIRST = 10  # of the tuned matrix's singular vectors
WRITTEN = ("W_O", "W_out")  # matrices that write into the residual stream
DIRECTIONS, SPAN = 3, 10  # kept of these: the change's first left vectors, and the base's first d_model / SPAN
_ROWS = 4096  # of a matrix compared at a time
_SHAPE = ("layers", "heads", "key_value_heads", "d_model", "d_head", "d_mlp")
_NUMBERS = (
    *("relative", "cosine", "unchanged", "equal", "effective_rank", "effective_rank_random"),
    *("intruders", "intruders_null"),
)


def weight_delta(
    base: HookedModel | Weights,
    tuned: HookedModel | Weights,
    layers: Numbers = None,
    *,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Return how far, and in how many directions, tuning changed every matrix and every head; see the module.

    base, tuned: models, or their `Weights` (`itlens.open_weights`: one layer of each in memory). layers: numbers;
    default all. seed: of the draws of the nulls. progress: a bar when it takes long.

    Returns a Dataset. On (layer, matrix), NaN for a matrix that the model does not have: relative, cosine, unchanged,
    equal, effective_rank, effective_rank_random, intruders, intruders_null; energy (layer, matrix, k). On (layer, head,
    product): head_relative, head_cosine, head_effective_rank, and head_energy with a further axis k. attrs: base_model,
    tuned_model, their revisions and precisions. Raises PairError where the two have other shapes.
    """
    pair = checked_weights(base, tuned)
    numbers = chosen("layer", layers, pair[0].facts["layers"])
    read = []
    with late_bar("weight change", show=progress) as tell:
        for done, layer in enumerate(numbers, start=1):
            read.append(layer_delta(*pair, layer, seed=seed))
            tell(done, len(numbers))
    return join_deltas(read)


def join_deltas(layers: list[xr.Dataset]) -> xr.Dataset:
    """Return the layers of `layer_delta` as one Dataset."""
    return xr.concat(layers, dim="layer", data_vars="all", coords="minimal", join="exact", combine_attrs="override")


def checked_weights(base: HookedModel | Weights, tuned: HookedModel | Weights) -> tuple[Weights, Weights]:
    """Return both models' weights. Raises PairError where their shapes differ."""
    pair = weights_of(base, "weight_delta"), weights_of(tuned, "weight_delta")
    shapes = [{name: weights.facts[name] for name in _SHAPE} for weights in pair]
    other = [name for name in _SHAPE if shapes[0][name] != shapes[1][name]]
    if other:
        found = "; ".join(f"{name} {shapes[0][name]} and {shapes[1][name]}" for name in other)
        raise PairError(
            f"weight_delta got two models of other shapes ({found}); expected a base model and one tuned from it."
        )
    return pair


class Writes(NamedTuple):
    """Directions that a matrix writes, as columns: the change's first ones, and the base's first d_model / SPAN."""

    change: Float[Tensor, "d_model directions"]
    base: Float[Tensor, "d_model span"]


def layer_delta(base: Weights, tuned: Weights, layer: int, *, seed: int = 0) -> xr.Dataset:
    """Return `weight_delta` of one layer, on an axis `layer` of length 1."""
    return layer_changes(base, tuned, layer, seed=seed)[0]


@torch.no_grad()
def layer_changes(
    base: Weights, tuned: Weights, layer: int, *, seed: int = 0
) -> tuple[xr.Dataset, dict[str, Writes | None]]:
    """Return `layer_delta`, and what each matrix of WRITTEN writes: None where it did not change."""
    attention = base.attention(layer), tuned.attention(layer)
    heads = head_changes(*attention)
    named = zip(MATRICES, _matrices(attention, (base.mlp(layer), tuned.mlp(layer))), strict=True)
    read = {name: _matrix_change(*pair, seed=seed, written=name in WRITTEN) for name, pair in named}
    matrices = list(read.values())
    values = {name: [getattr(matrix, name) if matrix else np.nan for matrix in matrices] for name in _NUMBERS}
    energy = [matrix.energy if matrix else np.full(len(KS), np.nan) for matrix in matrices]
    of_heads = ("layer", "head", "product")
    ds = xr.Dataset(
        {
            **{name: (("layer", "matrix"), np.array([numbers], dtype=float)) for name, numbers in values.items()},
            "energy": (("layer", "matrix", "k"), np.array([energy])),
            "head_relative": (of_heads, heads.relative[None]),
            "head_cosine": (of_heads, heads.cosine[None]),
            "head_effective_rank": (of_heads, heads.effective_rank[None]),
            "head_energy": ((*of_heads, "k"), heads.energy[None]),
        },
        coords={
            "layer": [layer],
            "matrix": list(MATRICES),
            "head": np.arange(base.facts["heads"]),
            "product": list(PRODUCTS),
            "k": list(KS),
        },
        attrs=provenance("weight_delta", **_said(base, tuned), seed=seed),
    )
    return ds, {name: matrix.writes if (matrix := read[name]) else None for name in WRITTEN}


def _said(base: Weights, tuned: Weights) -> dict[str, str]:
    names, sides = ("model", "revision", "dtype"), {"base": base, "tuned": tuned}
    return {f"{side}_{name}": weights.attrs[name] for side, weights in sides.items() for name in names}


class _MatrixChange(NamedTuple):
    relative: float
    cosine: float
    unchanged: float
    equal: float
    effective_rank_random: float
    effective_rank: float = 0.0
    intruders: float = 0.0
    intruders_null: float = np.nan
    energy: np.ndarray = np.full(len(KS), np.nan)
    writes: Writes | None = None


def _matrices(
    attention: tuple[AttentionWeights, AttentionWeights], mlp: tuple[MlpWeights, MlpWeights]
) -> Iterator[tuple[Tensor, Tensor] | tuple[None, None]]:
    """Yield both models' matrices in the order of MATRICES, outputs x inputs; (None, None) where there is none."""
    before, now = attention
    for name in ("W_Q", "W_K", "W_V"):
        yield _rows(getattr(before, name)), _rows(getattr(now, name))
    yield before.W_O.flatten(0, 1).T, now.W_O.flatten(0, 1).T
    for name in ("W_in", "W_gate", "W_out"):
        own, other = (getattr(half, name) for half in mlp)
        yield (None, None) if own is None or other is None else (own.T, other.T)


def _rows(weight: Float[Tensor, "heads d_model d_head"]) -> Float[Tensor, "outputs d_model"]:
    return weight.transpose(1, 2).flatten(0, 1)


def _matrix_change(base: Tensor | None, tuned: Tensor | None, *, seed: int, written: bool) -> _MatrixChange | None:
    if base is None or tuned is None:
        return None
    sums, moved = dict.fromkeys(("base", "tuned", "both", "change"), 0.0), {"unchanged": 0, "equal": 0}
    for start in range(0, len(base), _ROWS):
        ours, theirs = (exact(matrix[start : start + _ROWS]) for matrix in (base, tuned))
        change = theirs - ours
        sums["base"] += float(ours.square().sum())
        sums["tuned"] += float(theirs.square().sum())
        sums["both"] += float((ours * theirs).sum())
        sums["change"] += float(change.square().sum())
        moved["unchanged"] += int((change.abs() <= SAME).sum())
        moved["equal"] += int((change == 0).sum())
    unchanged, equal = (count / base.numel() for count in moved.values())
    random = random_rank((base.shape[0], base.shape[1]), seed)
    if not sums["change"]:
        return _MatrixChange(0.0, 1.0, unchanged, equal, effective_rank_random=random)
    change = exact(tuned) - exact(base)
    gram = smaller_gram(change)
    squares = squared_values(gram)
    base, tuned = base.float(), tuned.float()
    known, writes = LeftVectors(base), None
    if written:
        span = exact(known.first(min(max(2, len(base) // SPAN), *base.shape)))
        writes = Writes(first_left(change, gram, DIRECTIONS), span)
    return _MatrixChange(
        relative=(sums["change"] / sums["base"]) ** 0.5 if sums["base"] else float("inf"),
        cosine=sums["both"] / (sums["base"] * sums["tuned"]) ** 0.5 if sums["base"] * sums["tuned"] else np.nan,
        unchanged=unchanged,
        equal=equal,
        effective_rank=effective_rank(squares.sqrt()),
        effective_rank_random=random,
        **_intruders(known, base, tuned, seed),
        energy=_energy(squares),
        writes=writes,
    )


def _energy(squares: Float[Tensor, "*batch values"]) -> np.ndarray:
    """Return the share of the sum of squares in the first k values, for each of KS; NaN where all are 0."""
    total = squares.sum(-1)
    first = torch.stack([squares[..., :k].sum(-1) for k in KS], -1)
    shares: np.ndarray = (first / torch.where(total > 0, total, torch.nan)[..., None]).cpu().numpy()
    return shares


def _intruders(known: LeftVectors, base: Tensor, tuned: Float[Tensor, "out into"], seed: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(base.shape[1], (base.shape[1],), generator=generator).to(base.device)
    count = min(FIRST, *base.shape)
    return {
        "intruders": known.strangers(first_left(tuned, smaller_gram(tuned), count)),
        "intruders_null": known.strangers(known.redrawn(drawn, count)),
    }


class HeadChanges(NamedTuple):
    """Numbers of each head's products, on (head, product); energy on (head, product, k)."""

    relative: np.ndarray
    cosine: np.ndarray
    effective_rank: np.ndarray
    energy: np.ndarray


@torch.no_grad()
def head_changes(base: AttentionWeights, tuned: AttentionWeights) -> HeadChanges:
    """Return how far W_QK and W_OV of each head changed; see the module."""
    found = [_product_change(*factors) for factors in zip(head_factors(base), head_factors(tuned), strict=True)]
    return HeadChanges(*(np.stack(numbers, axis=1) for numbers in zip(*found, strict=True)))


class Factors(NamedTuple):
    """A product A B^T of each head, as its two factors (head, d_model, d_head), float64, gains folded in."""

    left: Float[Tensor, "heads d_model d_head"]
    right: Float[Tensor, "heads d_model d_head"]


def head_factors(attention: AttentionWeights) -> tuple[Factors, Factors]:
    """Return the factors of W_QK and of W_OV. A query head reads its group's key and value head."""
    group = len(attention.W_Q) // len(attention.W_K)
    gain, after = exact(attention.gain)[:, None], exact(attention.out_gain)[:, None]
    keys, values = (exact(shared).repeat_interleave(group, 0) * gain for shared in (attention.W_K, attention.W_V))
    outputs = exact(attention.W_O).transpose(1, 2) * after
    return Factors(exact(attention.W_Q) * gain, keys), Factors(values, outputs)


def changed_product(base: Factors, tuned: Factors) -> tuple[Tensor, Tensor]:
    """Return two stacks (head, d_model, 2 d_head) whose product, the second transposed, is the change of A B^T."""
    left = torch.cat([tuned.left - base.left, base.left], dim=2)
    right = torch.cat([tuned.right, tuned.right - base.right], dim=2)
    return left, right


def _product_change(base: Factors, tuned: Factors) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    left, right = changed_product(base, tuned)
    core = _triangle(left) @ _triangle(right).transpose(1, 2)
    values = torch.linalg.svdvals(core)
    same = (tuned.left == base.left).flatten(1).all(1) & (tuned.right == base.right).flatten(1).all(1)
    values = values.masked_fill(same[:, None], 0.0)
    squares = {name: _inner(*pair) for name, pair in (("base", (base, base)), ("tuned", (tuned, tuned)))}
    cosine = _inner(base, tuned) / (squares["base"] * squares["tuned"]).sqrt()
    relative = torch.linalg.vector_norm(values, dim=1) / squares["base"].sqrt()
    numbers = (relative, torch.where(same, 1.0, cosine), effective_rank(values))
    return (*(number.cpu().numpy() for number in numbers), _energy(values.square()))  # type: ignore[return-value]


def _triangle(stack: Float[Tensor, "heads d_model columns"]) -> Float[Tensor, "heads rank columns"]:
    triangle: Tensor = torch.linalg.qr(stack, mode="r").R
    return triangle


def _inner(one: Factors, other: Factors) -> Float[Tensor, " heads"]:
    """Return <A B^T, A' B'^T> of each head, without either product."""
    lefts, rights = one.left.transpose(1, 2) @ other.left, one.right.transpose(1, 2) @ other.right
    return (lefts * rights).sum((1, 2))
