"""Runs of the receiver with the donor's activations put in, many patches in one batch.

Every row of a batch reads the same prompt and has its own SET of parts patched: of one part for exact effects, of many
for joint ones, of none for the receiver itself. A HookedTransformer starts at the first patched layer of the batch,
from the residual stream that the unpatched receiver had there; a TransformerBridge runs whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from itlens.errors import ProbeError
from itlens.findings.patching.probe_metrics import Metric
from itlens.findings.patching.probe_parts import Part, Parts
from itlens.hooked.cache import DiskArrays
from itlens.hooked.hooks import Hook, hook_points, run_hooked
from itlens.hooked.instruction_score import instruction_score
from itlens.hooked.tokens import Forced
from itlens.models import source_of
from itlens.models.hooked_model import HookedModel
from itlens.models.memory import free_bytes, room_for, rows_at_a_time
from itlens.models.precision import as_numbers

Set = Sequence[Part]
Counter = Callable[[int], None]
Donor = Callable[[int], torch.Tensor]  # of a prompt: (layer, place, ...), in the order of its patched places
_FULL = 512  # tokens in a batch beyond which starting later saves more than another row gives


@dataclass
class Receiver:
    """The receiver with its prompts. Residual streams are kept of one prompt at a time, or on disk of all.

    folder: where weights are patched, prompts are run in turns and must not be read again with a patch in the model.
    """

    model: HookedModel
    prompts: Sequence[Forced]
    metric: Metric
    batch_size: int | None = None
    folder: DiskArrays | None = None
    _number: int = -1
    _residuals: torch.Tensor | None = None
    _own: dict[int, float] = field(default_factory=dict)

    def own(self, number: int) -> float:
        """Return the metric of the unpatched receiver on a prompt."""
        if number not in self._own:
            self._settle(number)
        return self._own[number]

    def residual(self, number: int, layer: int) -> torch.Tensor:
        """Return the residual stream (1, position, d_model) before a layer; only where runs can begin inside."""
        self._settle(number)
        if self._residuals is None:
            raise ValueError(f"the residual stream of prompt {number} is not at hand")
        return self._residuals[layer].to(next(self.model.parameters()).device)

    def rows(self, number: int) -> int:
        """Return how many rows of a prompt are run at a time."""
        if self.batch_size is not None:
            return self.batch_size
        prompt, width = self.prompts[number], self.model.cfg.d_vocab
        logits = 4 * len(prompt.targets) * width * 4  # in float32, with what a softmax of them takes
        fitting = free_bytes(next(self.model.parameters()).device) // 4 // logits
        return max(1, min(rows_at_a_time(self.model, len(prompt.read)), int(fitting)))

    def run(self, number: int, count: int, hooks: list[Hook], first: int = 0) -> np.ndarray:
        """Measure the metric of `count` rows of a prompt under hooks that act from layer `first` on."""
        prompt = self.prompts[number]
        if self.metric.of_logits is None:
            return np.array([instruction_score(self.model, prompt, hooks)])
        self._settle(number)
        name, targets = f"prompt {prompt.id!r}", len(prompt.targets)
        with torch.no_grad(), room_for(self.model, name, len(prompt.read), rows=count, targets=targets):
            if self._residuals is not None:
                start = self._residuals[first].to(next(self.model.parameters()).device).expand(count, -1, -1)
                logits = _from_layer(self.model, start, hooks, prompt.positions, first)
            else:
                tokens = torch.tensor([prompt.read], device=next(self.model.parameters()).device)
                logits = run_hooked(self.model, tokens.expand(count, -1), hooks, positions=prompt.positions)
            return finite_values(self.metric.of_logits(logits, prompt), prompt)

    def _settle(self, number: int) -> None:
        """Make this prompt the one whose residual streams are at hand, and know the receiver's own metric on it."""
        if self._number == number:
            return
        known = number in self._own and self.folder is not None
        self._residuals = self._stored(number) if known else self._read(number)
        self._number = number

    def _stored(self, number: int) -> torch.Tensor | None:
        name, folder = f"residual {number}", self.folder
        return folder.get(name) if folder is not None and folder.has(name) else None

    def _read(self, number: int) -> torch.Tensor | None:
        """Run the receiver as it is: its metric, and its residual stream before every layer where that is of use."""
        prompt = self.prompts[number]
        if self.metric.of_logits is None:
            self._own[number] = instruction_score(self.model, prompt, [])
            return None
        kept: list[torch.Tensor] = []

        def keep(value: torch.Tensor, hook: object) -> None:
            kept.append(value.detach().clone())

        tokens = torch.tensor([prompt.read], device=next(self.model.parameters()).device)
        names = [f"blocks.{layer}.hook_resid_pre" for layer in range(self.model.cfg.n_layers)]
        hooks = [(name, keep) for name in names] if starts_inside(self.model) else []
        with torch.no_grad():
            logits = run_hooked(self.model, tokens, hooks, positions=prompt.positions)
            self._own[number] = float(finite_values(self.metric.of_logits(logits, prompt), prompt)[0])
        if not kept:
            return None
        if self.folder is not None:
            self.folder.put(f"residual {number}", torch.stack(kept))
        return torch.stack(kept)


def starts_inside(model: HookedModel) -> bool:
    """Return whether a run can begin at a layer.

    Only HookedTransformer's, and only where nothing but the residual stream goes from the embedding to the blocks (with
    padding on the left an attention mask does).
    """
    left = getattr(model.tokenizer, "padding_side", "right") == "left"
    shortformer = getattr(model.cfg, "positional_embedding_type", "") == "shortformer"
    return source_of(model).backend == "hooked" and not left and not shortformer


def _from_layer(
    model: HookedModel, start: torch.Tensor, hooks: list[Hook], positions: Sequence[int], first: int
) -> torch.Tensor:
    """Run as `run_hooked` does, from the residual stream before layer `first`."""

    def cut(value: torch.Tensor, hook: object) -> torch.Tensor:
        return value[:, list(positions)]

    hooked: Any = model  # a HookedTransformer (`starts_inside`): the bridge cannot begin at a layer
    logits: torch.Tensor = hooked.run_with_hooks(
        start, fwd_hooks=[*hooks, ("unembed.hook_in", cut)], start_at_layer=first
    )
    return logits


def finite_values(value: torch.Tensor, prompt: Forced) -> np.ndarray:
    """Return a metric's values. Raises ProbeError where they are not finite."""
    numbers = as_numbers(value)
    if not np.isfinite(numbers).all():
        raise ProbeError(
            f"The metric is not finite on prompt {prompt.id!r}; "
            'load the models with dtype="float32", or fix the metric.'
        )
    return numbers


@dataclass(frozen=True)
class ActivationPatches:
    """Metrics of the receiver with sets of activations from the donor."""

    receiver: Receiver
    parts: Parts
    places: Sequence[np.ndarray]
    donor: Donor

    def __call__(self, numbers: Sequence[int], sets: Sequence[Set], tell: Counter) -> np.ndarray:
        """Measure the metric (prompt, set) of some prompts under each set."""
        return np.stack([self._of_prompt(number, sets, tell) for number in numbers])

    def _of_prompt(self, number: int, sets: Sequence[Set], tell: Counter) -> np.ndarray:
        given = self.donor(number)
        device = next(self.receiver.model.parameters()).device
        out = np.full(len(sets), np.nan)
        alone = self.receiver.metric.of_logits is None
        size = 1 if alone else self.receiver.rows(number)
        for rows in batches(sets, size, len(self.receiver.prompts[number].read)):
            hooks = self.hooks(number, [sets[row] for row in rows], given, device)
            first = min((part.layer for row in rows for part in sets[row]), default=0)
            out[rows] = self.receiver.run(number, len(rows), hooks, first)
            tell(len(rows))
        return out

    def hooks(self, number: int, sets: Sequence[Set], given: torch.Tensor, device: torch.device) -> list[Hook]:
        """Return hooks that put the donor's activations of row b's set into row b."""
        length, places = len(self.receiver.prompts[number].read), self.places[number]
        hooks: list[Hook] = []
        for layer in sorted({part.layer for parts in sets for part in parts}):
            donated = given[self.parts.layers.index(layer)].to(device)
            whole = donated.new_zeros(length, *donated.shape[1:])
            whole[places] = donated
            mask = torch.zeros(len(sets), *whole.shape[:-1], 1, dtype=torch.bool)
            for row, parts in enumerate(sets):
                for part in parts:
                    if part.layer == layer:
                        mask[(row, places) if part.head is None else (row, places, part.head)] = True
            hooks.append((self.parts.point(layer), _put(whole, mask.to(device))))
        names = hook_points(self.receiver.model, [name for name, _ in hooks]) if hooks else []
        return list(zip(names, [function for _, function in hooks], strict=True))


def _put(whole: torch.Tensor, mask: torch.Tensor) -> Callable[[torch.Tensor, object], torch.Tensor]:
    def put(value: torch.Tensor, hook: object) -> torch.Tensor:
        length = value.shape[1]  # attributions read a prompt only as far as a target needs
        return torch.where(mask[:, :length], whole[:length].to(value.dtype), value)

    return put


def batches(sets: Sequence[Set], size: int, length: int) -> Iterator[list[int]]:
    """Yield numbers of sets, at most `size` at a time, by their first layers.

    A batch ends where the first layer changes once it holds enough tokens to keep the machine busy.
    """
    starts = [min((part.layer for part in parts), default=0) for parts in sets]
    rows: list[int] = []
    for row in sorted(range(len(sets)), key=lambda row: starts[row]):
        later = bool(rows) and starts[row] != starts[rows[-1]] and len(rows) * length >= _FULL
        if len(rows) == size or later:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
