"""The known changes that a selftest plants into a model, each in one place and of a stated size.

SIZE. Noise of the deviation  n = noise x root mean square of the tensor  is added to every entry of every tensor. A
plant that changes a part of p entries by D has the STRENGTH  s = |D|_F / (n sqrt(p)):  its norm, in units of the norm
that the noise has on the same part. At s = 1 the plant is no larger than what random noise does to the same part.

1. scaled_head         W_O[h] += c W_O[h]: the head writes more of the same
2. rank_one_qk         W_Q[h] += a b^T, a and b random directions: one new term (x.a)(b.W_K y) in the head's scores
3. rotated_values      W_out turned by one angle in k planes, each of one of the k leading principal directions of its
                       rows and a random direction orthogonal to them; k = d_model / 8; at most 90 degrees
4. rotated_keys        the same of the columns of W_in
5. embedding_row       W_E[token] += a random direction (and W_U, where the two are tied)
6. residual_direction  W_out += m v^T: v a random direction, m the mean of what the layer's neurons emit on the prompts,
                       so that the layer adds nearly the same vector everywhere
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from itlens.planted.altering import Edit, generator, root_mean_square


class Place(NamedTuple):
    """Where something is planted: (layer, head), (layer, -1) or (-1, token)."""

    layer: int
    unit: int


class Ground(NamedTuple):
    """What plants are made of: the model as it is, the noise's size, and its layers' mean neuron outputs on prompts."""

    model: Any
    noise: float
    mean_post: dict[int, Tensor]


class Plant(NamedTuple):
    """A kind of plant. kind: the units it can be in ("head", "layer", "token"); make: the edits of a strength."""

    name: str
    kind: str
    make: Callable[[Ground, Place, float, torch.Generator], list[Edit]]
    about: str

    def edits(self, ground: Ground, place: Place, strength: float, seed: tuple[int, ...]) -> list[Edit]:
        """The change of this strength at this place; directions depend on the seed and place alone."""
        with torch.no_grad():
            return self.make(ground, place, strength, generator("plant", self.name, *place, *seed))


def noise_norm(ground: Ground, whole: Tensor, part: Tensor) -> float:
    """The expected norm of the noise on a part of a tensor."""
    return ground.noise * root_mean_square(whole) * math.sqrt(part.numel())


def strength_of(ground: Ground, whole: Tensor, edit: Edit) -> float:
    """The strength of an edit of a part of `whole`; see the module."""
    return float(edit.delta.float().norm()) / noise_norm(ground, whole, edit.part)


def _scaled_head(ground: Ground, place: Place, strength: float, draw: torch.Generator) -> list[Edit]:
    whole = ground.model.blocks[place.layer].attn.W_O.detach()
    part = whole[place.unit]
    return [Edit(part, _sized(part.clone(), strength * noise_norm(ground, whole, part)))]


def _rank_one_qk(ground: Ground, place: Place, strength: float, draw: torch.Generator) -> list[Edit]:
    whole = ground.model.blocks[place.layer].attn.W_Q.detach()
    part = whole[place.unit]
    term = torch.outer(*(torch.randn(size, generator=draw) for size in part.shape)).to(part)
    return [Edit(part, _sized(term, strength * noise_norm(ground, whole, part)))]


def _rotated_values(ground: Ground, place: Place, strength: float, draw: torch.Generator) -> list[Edit]:
    return _rotated(ground, ground.model.blocks[place.layer].mlp.W_out.detach(), strength, draw)


def _rotated_keys(ground: Ground, place: Place, strength: float, draw: torch.Generator) -> list[Edit]:
    return _rotated(ground, ground.model.blocks[place.layer].mlp.W_in.detach().T, strength, draw)


def _embedding_row(ground: Ground, place: Place, strength: float, draw: torch.Generator) -> list[Edit]:
    whole = ground.model.W_E.detach()
    part = whole[place.unit]
    step = torch.randn(part.shape, generator=draw).to(part)
    return [Edit(part, _sized(step, strength * noise_norm(ground, whole, part)))]


def _residual_direction(ground: Ground, place: Place, strength: float, draw: torch.Generator) -> list[Edit]:
    part = ground.model.blocks[place.layer].mlp.W_out.detach()
    direction = torch.randn(part.shape[1], generator=draw).to(part)
    term = torch.outer(ground.mean_post[place.layer].to(part), direction)
    return [Edit(part, _sized(term, strength * noise_norm(ground, part, part)))]


def _rotated(ground: Ground, rows: Tensor, strength: float, draw: torch.Generator) -> list[Edit]:
    """Rows (neuron, d_model) turned so that the change has the asked norm: |D|^2 = 4 sin^2(angle / 2) (|c|^2 + |e|^2).

    c and e are the rows' coordinates along the leading and along the random directions.
    """
    wide = rows.double()
    count = max(1, wide.shape[1] // 8)
    centred = wide - wide.mean(dim=0)
    leading = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -count:]
    random = torch.randn(wide.shape[1], count, generator=draw, dtype=torch.float64).to(wide)
    aside = torch.linalg.qr(random - leading @ (leading.T @ random)).Q
    along, across = wide @ leading, wide @ aside
    inside = math.sqrt(float(along.square().sum() + across.square().sum()))
    angle = 2 * math.asin(min(strength * noise_norm(ground, rows, rows) / (2 * inside), math.sqrt(0.5)))
    cosine, sine = math.cos(angle) - 1, math.sin(angle)
    delta = along @ (cosine * leading + sine * aside).T + across @ (cosine * aside - sine * leading).T
    return [Edit(rows, delta.to(rows))]


def _sized(change: Tensor, norm: float) -> Tensor:
    return change * (norm / change.float().norm().clamp_min(1e-30))


PLANTS = {
    plant.name: plant
    for plant in (
        Plant("scaled_head", "head", _scaled_head, "a head's W_O scaled"),
        Plant("rank_one_qk", "head", _rank_one_qk, "a rank-one term in a head's W_Q"),
        Plant("rotated_values", "layer", _rotated_values, "leading subspace of W_out turned"),
        Plant("rotated_keys", "layer", _rotated_keys, "leading subspace of W_in turned"),
        Plant("embedding_row", "token", _embedding_row, "a token's row of W_E moved"),
        Plant("residual_direction", "layer", _residual_direction, "a nearly constant vector written by W_out"),
    )
}
