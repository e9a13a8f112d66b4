"""The known changes that a selftest plants into a model, each in one unit and of a stated size.

SIZE. Noise of the standard deviation  n = noise x root mean square of the tensor  is added to every entry of every
tensor. A plant that changes p entries by D has the STRENGTH  s = |D|_F / (n sqrt(p)):  its norm, in units of the norm
of the noise on the same entries. At s = 1 the plant is no larger than that noise.

1. scaled_head         W_O[h] += c W_O[h]: the head writes more of the same
2. rank_one_qk         W_Q[h] += a b^T, a and b random directions: one new term (x.a)(b.W_K y) in the head's scores
3. rotated_values      W_out rotated by one angle in k planes, each of one of the k leading principal directions of its
                       rows and a random direction orthogonal to them; k = d_model / 8; at most 90 degrees
4. rotated_keys        the same of the columns of W_in
5. embedding_row       W_E[token] += a random direction (and W_U, where the two are tied)
6. residual_direction  W_out += m v^T: v a random direction, m the mean activation of the layer's neurons on the
                       prompts, so that the layer adds nearly the same vector everywhere
7. token_bias          W_U[token] += c x, x the mean of what enters the unembedding on the prompts: the token's logit
                       rises by nearly the same everywhere (and W_E[token] moves, where the two are tied)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from itlens.findings.detector import Unit, UnitKind
from itlens.models import HookedModel
from itlens.models.precision import exact
from itlens.planted.altering import Edit, generator, root_mean_square


class Ground(NamedTuple):
    """What plants are made of: the model as it is, the size of the noise, and means over the prompts' tokens: of each
    layer's neurons, and of what enters the unembedding."""

    model: HookedModel
    noise: float
    mean_post: dict[int, Tensor]
    mean_last: Tensor


class Plant(NamedTuple):
    """A kind of plant. kind: of the units it can be in; make: returns the edits of a strength."""

    name: str
    kind: UnitKind
    make: Callable[[Ground, Unit, float, torch.Generator], list[Edit]]
    about: str

    def edits(self, ground: Ground, unit: Unit, strength: float, seed: tuple[int, ...]) -> list[Edit]:
        """Return the change of this strength in this unit; directions depend on the seed and unit alone."""
        with torch.no_grad():
            return self.make(ground, unit, strength, generator("plant", self.name, *unit, *seed))


def noise_norm(ground: Ground, whole: Tensor, part: Tensor) -> float:
    """Return the expected norm of the noise on a part of a tensor."""
    return ground.noise * root_mean_square(whole) * math.sqrt(part.numel())


def strength_of(ground: Ground, whole: Tensor, edit: Edit) -> float:
    """Return the strength of an edit of a part of `whole`; see the module."""
    return float(edit.delta.float().norm()) / noise_norm(ground, whole, edit.weights)


def _scaled_head(ground: Ground, unit: Unit, strength: float, draw: torch.Generator) -> list[Edit]:
    whole = ground.model.blocks[unit.layer].attn.W_O.detach()
    part = whole[unit.number]
    return [Edit(part, _sized(part.clone(), strength * noise_norm(ground, whole, part)))]


def _rank_one_qk(ground: Ground, unit: Unit, strength: float, draw: torch.Generator) -> list[Edit]:
    whole = ground.model.blocks[unit.layer].attn.W_Q.detach()
    part = whole[unit.number]
    term = torch.outer(*(torch.randn(size, generator=draw) for size in part.shape)).to(part)
    return [Edit(part, _sized(term, strength * noise_norm(ground, whole, part)))]


def _rotated_values(ground: Ground, unit: Unit, strength: float, draw: torch.Generator) -> list[Edit]:
    return _rotated(ground, ground.model.blocks[unit.layer].mlp.W_out.detach(), strength, draw)


def _rotated_keys(ground: Ground, unit: Unit, strength: float, draw: torch.Generator) -> list[Edit]:
    return _rotated(ground, ground.model.blocks[unit.layer].mlp.W_in.detach().T, strength, draw)


def _embedding_row(ground: Ground, unit: Unit, strength: float, draw: torch.Generator) -> list[Edit]:
    whole = ground.model.W_E.detach()
    part = whole[unit.number]
    step = torch.randn(part.shape, generator=draw).to(part)
    return [Edit(part, _sized(step, strength * noise_norm(ground, whole, part)))]


def _residual_direction(ground: Ground, unit: Unit, strength: float, draw: torch.Generator) -> list[Edit]:
    part = ground.model.blocks[unit.layer].mlp.W_out.detach()
    direction = torch.randn(part.shape[1], generator=draw).to(part)
    term = torch.outer(ground.mean_post[unit.layer].to(part), direction)
    return [Edit(part, _sized(term, strength * noise_norm(ground, part, part)))]


def _token_bias(ground: Ground, unit: Unit, strength: float, draw: torch.Generator) -> list[Edit]:
    whole = ground.model.W_U.detach()
    part = whole[:, unit.number]
    return [Edit(part, _sized(ground.mean_last.to(part), strength * noise_norm(ground, whole, part)))]


def _rotated(ground: Ground, rows: Tensor, strength: float, draw: torch.Generator) -> list[Edit]:
    """Rotate rows (neuron, d_model) by a change of the requested norm: |D|^2 = 4 sin^2(angle / 2) (|c|^2 + |e|^2).

    c and e are the rows' coordinates along the leading and along the random directions.
    """
    wide = exact(rows)
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
    return [Edit(rows, delta.to(rows.dtype).to(rows.device))]


def _sized(change: Tensor, norm: float) -> Tensor:
    return change * (norm / change.float().norm().clamp_min(1e-30))


PLANTS = {
    plant.name: plant
    for plant in (
        Plant("scaled_head", "head", _scaled_head, "a head's W_O scaled"),
        Plant("rank_one_qk", "head", _rank_one_qk, "a rank-one term in a head's W_Q"),
        Plant("rotated_values", "layer", _rotated_values, "leading subspace of W_out rotated"),
        Plant("rotated_keys", "layer", _rotated_keys, "leading subspace of W_in rotated"),
        Plant("embedding_row", "token", _embedding_row, "a token's row of W_E moved"),
        Plant("residual_direction", "layer", _residual_direction, "a nearly constant vector written by W_out"),
        Plant("token_bias", "token", _token_bias, "a token's logit raised through W_U"),
    )
}
