"""The logit lens of two models on the same tokens: each residual stream read by each model's own last step.

For stream s and readout r (base or tuned) p[s, r] = softmax(readout_r(x_s))  (logit lens: nostalgebraist 2020)
1. KL(base || tuned) and KL(tuned || base), nats, in three readings: "own" compares p[base, base] with p[tuned, tuned];
   "base" p[base, base] with p[tuned, base], where the readout is the same and only the stream differs; "tuned"
   p[base, tuned] with p[tuned, tuned].
2. Of each p[s, r]: log-probability (nats) and rank (1 = top) of one token per row, and the token on top.
3. By prompt and layer: means over the positions that are read, of the rank the median; the layers of commitment.
The vocabulary is walked once, in pieces (`RunningSoftmax`).
Reading every layer of both models with both readouts costs four products with W_U per layer and position (two where the
readouts are the same), for two forward passes; so few positions are read by default, see `itlens.hooked.lens`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int

from itlens.findings.activation.probe_shift_compare import Recordings, ShiftTables
from itlens.findings.activation.probe_shift_record import SIDES, ShiftPlan, SideName
from itlens.hooked.lens import lens_count, spread
from itlens.hooked.readout import Readout, RunningSoftmax
from itlens.models.memory import trim

Cell: TypeAlias = tuple[SideName, SideName]  # stream, readout
# the readout of each stream
READINGS: dict[str, Cell] = {"own": ("base", "tuned"), "base": ("base", "base"), "tuned": ("tuned", "tuned")}
CELLS: tuple[Cell, ...] = tuple((stream, readout) for stream in SIDES for readout in SIDES)
_ROWS = 256  # read together: W_U comes from the disk once for all of them
_DIMS = {
    "lens_kl_base_tuned": ("prompt", "reading", "layer"),
    "lens_kl_tuned_base": ("prompt", "reading", "layer"),
    "lens_logprob": ("prompt", "stream", "readout", "layer"),
    "lens_rank": ("prompt", "stream", "readout", "layer"),
    "commitment_first": ("prompt", "model"),
    "commitment": ("prompt", "model"),
}


def lens_places(
    plan: ShiftPlan, wanted: int | Literal["all"] | None, width: int, layers: int, blocks: int, same: bool
) -> list[np.ndarray]:
    """Return the kept positions of each prompt at which the lens reads. wanted: a number, "all", or None (by cost)."""
    places = []
    for number, prompt in enumerate(plan.prompts):
        targets = plan.targets(number)
        count = lens_count(
            wanted, targets.size, read=len(prompt.read), width=width, vocabulary=plan.size, layers=layers,
            blocks=blocks, readings=1 if same else 2,
        )  # fmt: skip
        places.append(targets[spread(targets.size, count)])
    return places


def compare_lens(
    recordings: Recordings,
    readouts: Mapping[SideName, Readout],
    places: Sequence[np.ndarray],
    layers: int,
    same: bool,
    device: torch.device,
    tell: Callable[[int], None],
) -> ShiftTables:
    """Return the lens's tables: means over the positions of a prompt. `tell` is called with how many were read."""
    rows: list[dict[str, np.ndarray]] = []
    for numbers in _batches([len(place) * layers for place in places]):
        trim()
        by_prompt = [_streams(recordings, number, places[number], layers) for number in numbers]
        streams = {side: torch.cat([both[side] for both in by_prompt]) for side in SIDES}
        targets = [_targets(recordings.plan, number, places[number]) for number in numbers]
        ids = torch.tensor([id for prompt in targets for _ in range(layers) for id in prompt], device=device)
        statistics = crossed_lens(streams, readouts, ids, same=same)
        start = 0
        for number in numbers:
            count = len(places[number])
            stop = start + layers * count
            rows.append(
                _of_prompt(
                    {
                        name: value[..., start:stop].cpu().numpy().reshape(*value.shape[:-1], layers, count)
                        for name, value in statistics.items()
                    }
                )
            )
            start = stop
        tell(len(numbers))
    return {name: (_DIMS[name], np.stack([row[name] for row in rows])) for name in _DIMS}


def _batches(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Yield numbers of prompts whose rows are read together."""
    batch: list[int] = []
    for number, size in enumerate(sizes):
        if batch and sum(sizes[other] for other in batch) + size > _ROWS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _streams(recordings: Recordings, number: int, places: np.ndarray, layers: int) -> dict[SideName, torch.Tensor]:
    """Return both residual streams at the places of one prompt, layer by layer."""
    at = torch.as_tensor(np.searchsorted(recordings.plan.positions[number], places))
    by_layer: dict[SideName, list[torch.Tensor]] = {side: [] for side in SIDES}
    for layer in range(layers):
        for side, value in zip(SIDES, recordings.both(number, f"resid {layer}"), strict=True):
            by_layer[side].append(value[at.to(value.device)])
    return {side: torch.cat(values) for side, values in by_layer.items()}


def _targets(plan: ShiftPlan, number: int, places: np.ndarray) -> list[int]:
    prompt = plan.prompts[number]
    predicted = dict(zip(prompt.positions, prompt.targets, strict=True))
    return [predicted[int(place)] for place in places]


def _of_prompt(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return means over positions (the last axis); of ranks the median."""
    own = np.stack([values["top"][number, number] for number in range(len(SIDES))])  # (model, layer, position)
    first, stays = commitment_layers(own)
    return {
        "lens_kl_base_tuned": values["kl_base_tuned"].mean(-1),
        "lens_kl_tuned_base": values["kl_tuned_base"].mean(-1),
        "lens_logprob": values["logprob"].mean(-1),
        "lens_rank": np.median(values["rank"], axis=-1),
        "commitment_first": first.mean(-1),
        "commitment": stays.mean(-1),
    }


def commitment_layers(top: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first layer with the final token on top, and the first from which it stays: (model, position)."""
    final = top == top[:, -1:]
    stays = np.logical_and.accumulate(final[:, ::-1], axis=1)[:, ::-1]
    return final.argmax(axis=1), stays.argmax(axis=1)


def crossed_lens(
    streams: Mapping[SideName, Float[torch.Tensor, "row d_model"]],
    readouts: Mapping[SideName, Readout],
    ids: Int[torch.Tensor, " row"],
    *,
    same: bool = False,
) -> dict[str, torch.Tensor]:
    """Return the numbers of the module for rows of both residual streams.

    ids: a token for each row, whose probability and rank are read. same: the two readouts are equal, which halves the
    work. Returns kl_base_tuned, kl_tuned_base (reading, row), in the order of READINGS; logprob, rank, top
    (stream, readout, row).
    """
    needed: dict[Cell, Cell] = {(s, r): (s, "base" if same else r) for s, r in CELLS}
    cells = sorted(set(needed.values()))
    normed = {(s, r): readouts[r].normalised(streams[s]) for s, r in cells}
    pairs = {name: (needed["base", r], needed["tuned", t]) for name, (r, t) in READINGS.items()}
    met = {cell: sorted({b if a == cell else a for a, b in pairs.values() if cell in (a, b)}) for cell in cells}
    running = {cell: RunningSoftmax(readouts[cell[1]].of_ids(normed[cell], ids), met[cell]) for cell in cells}
    sides = sorted({readout for _, readout in cells})
    for pieces in zip(*(readouts[side].pieces() for side in sides), strict=True):
        weights = dict(zip(sides, pieces, strict=True))
        logits = {(s, r): readouts[r].logits(normed[s, r], *weights[r][1:]) for s, r in cells}
        for cell in cells:
            running[cell].add(weights[cell[1]][0].start, cell, logits, ids)
    return _statistics(running, pairs, needed)


def _statistics(
    running: Mapping[Cell, RunningSoftmax[Cell]], pairs: Mapping[str, tuple[Cell, Cell]], needed: Mapping[Cell, Cell]
) -> dict[str, torch.Tensor]:
    def on_cells(values: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(values).reshape(len(SIDES), len(SIDES), -1)

    by_cell = [running[needed[cell]] for cell in CELLS]
    return {
        "kl_base_tuned": torch.stack(
            [running[base].divergence(tuned, running[tuned]) for base, tuned in pairs.values()]
        ),
        "kl_tuned_base": torch.stack(
            [running[tuned].divergence(base, running[base]) for base, tuned in pairs.values()]
        ),
        "logprob": on_cells([each.logprob for each in by_cell]),
        "rank": on_cells([each.rank for each in by_cell]),
        "top": on_cells([each.top[:, 0] for each in by_cell]),
    }
