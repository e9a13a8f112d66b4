"""Cross-model patching: how much of what tuning did does each part of the model carry?

1. The DONOR reads every prompt with its response; its activations at one kind of hook point go to disk.
2. The RECEIVER reads the same tokens with ONE part replaced by the donor's, for every part: effect = m(patched) -
   m(receiver) of the metric m, and recovered = sum of effects over prompts / sum of (m(donor) - m(receiver)).
3. First-order estimates of the same effects from one pass backward (`probe_metrics`), and their rank correlation.
4. The best parts together, against random ones (`probe_result`).
Patching between runs: Vig et al. 2020, Meng et al. 2022; between models: Prakash et al. 2024 (CMAP); attribution
patching: Nanda 2023. An effect is what the part does in an otherwise untuned (or tuned) model; effects of parts that
work together need not add up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.patching.diff import gap_of
from itlens.findings.patching.probe_donor import donor_side, saved_activations
from itlens.findings.patching.probe_metrics import (
    Metric,
    MetricLike,
    estimated_effects,
    metric_of,
    refuse_no_instruction,
)
from itlens.findings.patching.probe_parts import Parts, Positions, WeightUnit, What, places_of, refuse_unknown_parts
from itlens.findings.patching.probe_result import Effects, dataset, halves, joint_curve, order_of, sets_of
from itlens.findings.patching.probe_runs import ActivationPatches, Counter, Receiver
from itlens.findings.patching.probe_weights import HeadWeightPatches, WeightPatches, heads_apart
from itlens.hooked.cache import DiskArrays, disk_arrays
from itlens.hooked.pair_inputs import as_pair, asked_sides, forced_pair, refuse_foreign_tokens
from itlens.hooked.tokens import Forced, left_out_attrs
from itlens.models import HookedModel, ModelPair
from itlens.models.memory import room_for
from itlens.models.running import undisturbed
from itlens.progress import Counted, late_bar
from itlens.prompts import Prompt
from itlens.selection import Numbers, whole_number

Direction: TypeAlias = Literal["tuned->base", "base->tuned"]
Responses: TypeAlias = Literal["tuned", "base", "given"]
Prompts: TypeAlias = Prompt | Sequence[Prompt] | Sequence[Forced]
Progress: TypeAlias = Callable[[int, int], None]
_Patched: TypeAlias = ActivationPatches | WeightPatches


@dataclass(frozen=True)
class _Work:
    """What is computed of each part."""

    exact: bool
    estimate: bool
    curve: bool
    controls: int
    seed: int


def patch(
    pair: ModelPair | Sequence[HookedModel | str | Path],
    prompts: Prompts,
    *,
    what: What = "head",
    direction: Direction = "tuned->base",
    metric: MetricLike = "logprob",
    responses: Responses = "tuned",
    positions: Positions = "all",
    unit: WeightUnit = "head",
    layers: Numbers = None,
    heads: Numbers = None,
    exact: bool = True,
    estimate: bool = True,
    curve: bool = True,
    controls: int = 20,
    batch_size: int | None = None,
    format: str = "raw",
    max_new_tokens: int = 64,
    prepend_bos: bool | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    progress: Progress | bool = True,
) -> xr.Dataset:
    """Put parts of one model of a pair into the other, and measure how far it behaves like the first.

    pair: a `ModelPair` or (base, tuned), one model loaded at a time. prompts: `Prompt` objects, or a list of `Forced`.
    what: "head" (`hook_z` of one head; the receiver's own W_O reads it), "mlp" (`hook_mlp_out` of a layer), "resid"
    (`hook_resid_post`), or "weights", of unit= "head" (W_Q, W_O, b_Q and, where each head has its own, W_K, W_V, b_K,
    b_V), "group" (all heads of a key-value head, with its W_K, W_V), "mlp" or "layer" (the whole block). direction:
    "tuned->base" puts the tuned model's parts into the base, "base->tuned" the other way. metric: "logprob" (mean
    log-probability of the response, nats), "importance" (the instruction's importance score; a whole attribution for
    every part and prompt), or f(logits (batch, target, vocabulary), prompt: Forced) -> (batch,). responses: whose
    greedy response is scored, "tuned" or "base", or "given" (the prompts' own). positions: "all", "targets" (the
    places that predict the response), a class of tokens or several ("first", "template", "instruction", "context",
    "prompt", "response"), or whole numbers. layers, heads: which parts (None: all; heads are groups for unit="group").
    exact, estimate, curve: what to compute; the curve is ordered by exact effects where there are any. controls: random
    orders next to the curve. batch_size: patched rows at a time; default by memory. format: as in `format_prompts`.
    cache: a folder for the donor's activations; default the system's. progress: a bar, none, or a function of
    (done, all).

    Returns, on (layer, head), (layer, key_value_head) or (layer): recovered with recovered_low, recovered_high (95 %
    bootstrap over prompts of the ratio of sums), t, p, p_bh (paired t over prompts of the effects; Benjamini-Hochberg
    over the parts), estimated (recovered, by the estimate); with prompt in front: effect and estimated_effect (the
    metric's unit); on prompt: donor, receiver (the metric of each alone); rank_correlation, _low, _high (Spearman of
    estimated and exact, bootstrap over parts); on count and alone, the curve (`joint_curve`); on rank, the parts
    as it takes them: order_layer, order_head; judged(prompt). attrs["note"] says what could not be computed, and why:
    without a gap between the models beyond chance every fraction is NaN.

    Patching everything gives the donor's output only where what lies behind is the same: W_O (and the norm after
    attention) for "head", final norm and unembedding for all but "weights" of these.

    Raises ProbeError (unknown options, positions outside a prompt), PairError (models whose heads do not align: each
    difference by name), PromptError.
    """
    refuse_unknown_parts(what, unit, positions)
    sides, scored = asked_sides(direction, responses), metric_of(metric)
    if what == "resid" and scored.of_logits is None and positions == "all":
        raise ProbeError(
            'what="resid" at all positions cuts every path from the prompt, so no importance is left to attribute; '
            'give positions= or what="weights".'
        )
    work = _work(what, scored, exact, estimate, curve, controls, seed)
    rows = None if batch_size is None else whole_number("batch_size", batch_size, 1)
    tokens = whole_number("max_new_tokens", max_new_tokens, 1)
    both = as_pair(pair)
    both.check()
    with late_bar("patching", show=progress is True) as bar, disk_arrays(cache) as folder:
        read = forced_pair(
            both, prompts, responses, sides, format=format, max_new_tokens=tokens, prepend_bos=prepend_bos,
            progress=progress is True,
        )  # fmt: skip
        if scored.of_logits is None:
            refuse_no_instruction(read)
        places = places_of(read, positions)
        donated = donor_side(getattr(both, sides.donor), read, places, scored, folder, what, unit, layers, heads)
        receiver = Receiver(getattr(both, sides.receiver), read, scored, rows, folder if what == "weights" else None)
        refuse_foreign_tokens(read, receiver.model)
        tell = progress if callable(progress) else bar
        with undisturbed(receiver.model, derivatives=True):
            effects = _effects(receiver, donated.parts, places, folder, donated.values, work, tell)
        attrs = sides.attrs(donated.attrs, receiver.model) | {
            "unit_of_effect": scored.unit,
            "metric": scored.name,
        }
    attrs |= {"what": what, "unit": donated.parts.unit, "direction": direction, "responses": responses}
    attrs |= {"positions": str(positions), "format": format, "controls": work.controls, "seed": work.seed}
    return dataset(effects, attrs | left_out_attrs(read))


def _work(what: What, metric: Metric, exact: bool, estimate: bool, curve: bool, controls: int, seed: int) -> _Work:
    estimate = estimate and what != "weights" and metric.of_logits is not None
    if not exact and not estimate:
        raise ProbeError(
            "Nothing is left to compute: exact=False needs an estimate, which there is for activations and metrics "
            "that are functions of the logits only."
        )
    number = 0 if controls == 0 else whole_number("controls", controls, 1)
    return _Work(exact, estimate, curve and what != "resid", number, whole_number("seed", seed, 0))


def _effects(
    receiver: Receiver,
    parts: Parts,
    places: Sequence[np.ndarray],
    folder: DiskArrays,
    donor: np.ndarray,
    work: _Work,
    tell: Progress,
) -> Effects:
    """Measure everything on the receiver; see the module."""
    patched = _patches(receiver, parts, places, folder)
    listed, numbers = parts.listed(), list(range(len(receiver.prompts)))
    judging = halves(len(numbers), work.seed)
    shown = Counted(tell, _rows(work, parts, len(numbers), judging[1].size))
    effect = np.full((len(numbers), len(listed)), np.nan)
    estimated, own = effect.copy(), np.full(len(numbers), np.nan)
    for number in numbers if work.estimate else []:
        prompt, activations = receiver.prompts[number], saved_activations(folder)(number)
        with room_for(receiver.model, f"prompt {prompt.id!r}", len(prompt.read), recorded=True):
            estimated[number], own[number] = estimated_effects(
                receiver.model, prompt, receiver.metric, parts, places[number], activations
            )
        shown(1)
    if work.exact:
        values = patched(numbers, [[part] for part in listed], shown)
        own = np.array([receiver.own(number) for number in numbers])
        effect = values - own[:, None]
    gap = gap_of(donor, own)
    effects = Effects(receiver.prompts, parts, donor, own, gap, effect, estimated, work.exact, work.estimate, work.seed)
    if work.curve:
        _add_curve(effects, patched, judging, work, shown)
    return effects


def _patches(receiver: Receiver, parts: Parts, places: Sequence[np.ndarray], folder: DiskArrays) -> _Patched:
    if parts.what == "weights":
        batched = receiver.metric.of_logits is not None and heads_apart(receiver.model, parts)
        return (HeadWeightPatches if batched else WeightPatches)(receiver, parts, folder)
    return ActivationPatches(receiver, parts, places, saved_activations(folder))


def _add_curve(
    effects: Effects, patched: _Patched, judging: tuple[np.ndarray, np.ndarray], work: _Work, shown: Counter
) -> None:
    choosing, judged = judging
    by = effects.effect if work.exact else effects.estimated
    effects.order = order_of(by[choosing], effects.gap.values[choosing])
    sets = sets_of(effects.parts.listed(), effects.order, work.controls, work.seed)
    joint = patched(judged.tolist(), sets, shown) - effects.receiver[judged, None]
    gap = gap_of(effects.donor[judged], effects.receiver[judged])
    effects.judged = judged
    effects.curve = joint_curve(joint, gap, len(effects.parts.listed()), work.controls, seed=work.seed)
    effects.curve_note = gap.note


def _rows(work: _Work, parts: Parts, prompts: int, judged: int) -> int:
    """Return how many rows will be run, for the bar."""
    listed = parts.listed()
    joint = len(sets_of(listed, np.arange(len(listed)), work.controls, 0)) * judged if work.curve else 0
    return prompts * (work.estimate + len(listed) * work.exact) + joint
