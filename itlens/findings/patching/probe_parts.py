"""Which parts of a model are patched: their axes and hook points, and at which positions of a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from itlens.errors import ProbeError
from itlens.hooked.tokens import CLASSES, Forced
from itlens.selection import Numbers, as_whole, chosen

What: TypeAlias = Literal["head", "mlp", "resid", "weights"]
WeightUnit: TypeAlias = Literal["head", "group", "mlp", "layer"]
Positions: TypeAlias = str | Iterable[str] | Iterable[int] | int

POINTS = {
    "head": "blocks.{layer}.attn.hook_z",
    "mlp": "blocks.{layer}.hook_mlp_out",
    "resid": "blocks.{layer}.hook_resid_post",
}
WHATS: tuple[What, ...] = get_args(What)
UNITS: tuple[WeightUnit, ...] = get_args(WeightUnit)


class Part(NamedTuple):
    """One thing that is patched. head: its number, or that of the key-value head; None for what a layer has one of."""

    layer: int
    head: int | None


@dataclass(frozen=True)
class Parts:
    """What is patched, and the axes it lies on.

    what: as in `patch`; unit: of weights, "" otherwise; axis: "head", "key_value_head" or "" next to the layers;
    shared: query heads per key-value head.
    """

    what: str
    unit: str
    layers: list[int]
    axis: str
    heads: list[int]
    shared: int

    def listed(self) -> list[Part]:
        """Return all parts, layer by layer."""
        return [Part(layer, head) for layer in self.layers for head in (self.heads if self.axis else [None])]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.layers), len(self.heads)) if self.axis else (len(self.layers),)

    @property
    def dims(self) -> tuple[str, ...]:
        return ("layer", self.axis) if self.axis else ("layer",)

    def point(self, layer: int) -> str:
        """Return the hook point of a layer's part."""
        return POINTS[self.what].replace("{layer}", str(layer))


def refuse_unknown_parts(what: str, unit: str, positions: Positions) -> None:
    """Raise ProbeError for a kind of part, a unit of weights or positions that there are not."""
    for name, got, known in (("what", what, WHATS), ("unit", unit, UNITS)):
        if got not in known:
            raise ProbeError(f"{name}={got!r} is unknown; expected one of {', '.join(known)}.")
    if what == "weights" and not (isinstance(positions, str) and positions == "all"):
        raise ProbeError(f'Weights act at all positions, so what="weights" cannot take positions={positions!r}.')


def parts_of(cfg: Any, what: str, unit: str, layers: Numbers, heads: Numbers) -> Parts:
    """Return the requested parts of a model of this shape. heads: numbers of heads, or of groups for unit="group".

    Raises ProbeError for layers and heads that are not there, and for heads of what has none.
    """
    unit = unit if what == "weights" else ""
    kind = unit or what
    axis = {"head": "head", "group": "key_value_head"}.get(kind, "")
    if heads is not None and not axis:
        raise ProbeError(f"heads={heads!r} has no meaning for the {kind} of a layer; leave it out.")
    groups = cfg.n_key_value_heads or cfg.n_heads
    count = groups if kind == "group" else cfg.n_heads
    return Parts(
        what=what,
        unit=unit,
        layers=chosen("layer", layers, cfg.n_layers),
        axis=axis,
        heads=chosen("head", heads, count) if axis else [],
        shared=cfg.n_heads // groups,
    )


def places_of(prompts: Sequence[Forced], positions: Positions) -> list[np.ndarray]:
    """Return the positions that are patched in each prompt, ascending.

    positions: "all", "targets" (the positions that predict the response), a token class or several, or whole numbers.
    Raises ProbeError for unknown names, numbers outside a prompt, and where no prompt has such a position.
    """
    chosen_places = [_places(prompt, positions) for prompt in prompts]
    if not any(places.size for places in chosen_places):
        raise ProbeError(f"No token of these prompts is {positions!r}, so nothing would be patched.")
    return chosen_places


def _places(prompt: Forced, positions: Positions) -> np.ndarray:
    if isinstance(positions, str) and positions in ("all", "targets"):
        return np.arange(len(prompt.read)) if positions == "all" else np.array(prompt.positions)
    if isinstance(positions, str):
        return prompt.of_class(positions) if positions in CLASSES else _unknown(positions)
    listed = list(positions) if isinstance(positions, Iterable) else [positions]
    if listed and all(isinstance(name, str) for name in listed):
        return prompt.of_class(*listed)
    numbers = [as_whole(number) for number in listed]
    if not numbers or None in numbers:
        _unknown(positions)
    return _inside(prompt, sorted({number for number in numbers if number is not None}))


def _inside(prompt: Forced, numbers: list[int]) -> np.ndarray:
    outside = next((number for number in numbers if not 0 <= number < len(prompt.read)), None)
    if outside is not None:
        raise ProbeError(
            f"Position {outside} lies outside prompt {prompt.id!r}, which is {len(prompt.read)} tokens long with its "
            f"response: expected 0 to {len(prompt.read) - 1}."
        )
    return np.array(numbers)


def _unknown(positions: object) -> np.ndarray:
    raise ProbeError(
        f'positions={positions!r}: expected "all", "targets", whole numbers, or one or more of {", ".join(CLASSES)}.'
    )
