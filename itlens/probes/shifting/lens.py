"""Logit-lens statistics of a pair by prompt and layer: which positions are read, and what of each is kept.

Reading every layer of both models with both readouts costs four products with W_U per layer and position (two where the
readouts are the same), for two forward passes; see `itlens.probes.running.lens_places`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from itlens.models.memory import trim
from itlens.probes.running.lens_places import lens_count, spread
from itlens.probes.running.readout import Readout
from itlens.probes.shifting.compare import Recordings, Tables
from itlens.probes.shifting.crossed_lens import SIDES, crossed_lens
from itlens.probes.shifting.record import Plan

_ROWS = 256  # read together: W_U comes from the disk once for all of them


def lens_places(plan: Plan, asked: Any, width: int, layers: int, blocks: int, same: bool) -> list[np.ndarray]:
    """For each prompt the kept positions at which the lens reads. asked: None (see the module), "all" or a number."""
    places = []
    for number, one in enumerate(plan.prompts):
        targets = plan.targets(number)
        count = lens_count(
            asked, targets.size, read=len(one.read), width=width, vocabulary=plan.size, layers=layers, blocks=blocks,
            readings=1 if same else 2,
        )  # fmt: skip
        places.append(targets[spread(targets.size, count)])
    return places


def compare_lens(
    found: Recordings,
    readouts: dict[str, Readout],
    places: list[np.ndarray],
    layers: int,
    same: bool,
    device: Any,
    tell: Callable[[int], None],
) -> Tables:
    """The lens's tables: means over the positions of a prompt. `tell` is called with how many prompts were read."""
    rows: list[dict[str, np.ndarray]] = []
    for numbers in _batches([len(place) * layers for place in places]):
        trim()
        parts = [_rows(found, number, places[number], layers) for number in numbers]
        streams = {side: torch.cat([part[side] for part in parts]) for side in SIDES}
        ids = [_targets(found.plan, number, places[number]) for number in numbers]
        asked = torch.tensor([id for part in ids for _ in range(layers) for id in part], device=device)
        numbers_of_all = crossed_lens(streams, readouts, asked, same=same)
        start = 0
        for number in numbers:
            stop = start + layers * len(places[number])
            shape = (-1, layers, len(places[number]))
            one = {name: value[..., start:stop].cpu().numpy() for name, value in numbers_of_all.items()}
            rows.append(_of_prompt({name: value.reshape(*value.shape[:-1], *shape[1:]) for name, value in one.items()}))
            start = stop
        tell(len(numbers))
    return {name: (_DIMS[name], np.stack([row[name] for row in rows])) for name in _DIMS}


_DIMS = {
    "lens_kl_base_tuned": ("prompt", "reading", "layer"),
    "lens_kl_tuned_base": ("prompt", "reading", "layer"),
    "lens_logprob": ("prompt", "stream", "readout", "layer"),
    "lens_rank": ("prompt", "stream", "readout", "layer"),
    "commitment_first": ("prompt", "model"),
    "commitment": ("prompt", "model"),
}


def _batches(sizes: list[int]) -> Iterator[list[int]]:
    """Numbers of prompts whose rows are read together."""
    batch: list[int] = []
    for number, size in enumerate(sizes):
        if batch and sum(sizes[other] for other in batch) + size > _ROWS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _rows(found: Recordings, number: int, places: np.ndarray, layers: int) -> dict[str, torch.Tensor]:
    """Both residual streams at the places of one prompt, layer by layer."""
    at = torch.as_tensor(np.searchsorted(found.plan.positions[number], places))
    parts: dict[str, list[torch.Tensor]] = {side: [] for side in SIDES}
    for layer in range(layers):
        for side, value in zip(SIDES, found.both(number, f"resid {layer}"), strict=True):
            parts[side].append(value[at.to(value.device)])
    return {side: torch.cat(values) for side, values in parts.items()}


def _targets(plan: Plan, number: int, places: np.ndarray) -> list[int]:
    one = plan.prompts[number]
    predicted = dict(zip(one.positions, one.targets, strict=True))
    return [predicted[int(place)] for place in places]


def _of_prompt(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Means over positions (the last axis); ranks by their median."""
    own = np.stack([values["top"][number, number] for number in range(len(SIDES))])  # (model, layer, position)
    first, stays = _commitment(own)
    return {
        "lens_kl_base_tuned": values["kl_base_tuned"].mean(-1),
        "lens_kl_tuned_base": values["kl_tuned_base"].mean(-1),
        "lens_logprob": values["logprob"].mean(-1),
        "lens_rank": np.median(values["rank"], axis=-1),
        "commitment_first": first.mean(-1),
        "commitment": stays.mean(-1),
    }


def _commitment(top: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first layer where the final token is on top, and the first from which it stays there: (model, position)."""
    final = top == top[:, -1:]
    stays = np.logical_and.accumulate(final[:, ::-1], axis=1)[:, ::-1]
    return final.argmax(axis=1), stays.argmax(axis=1)
