"""How far the activations of two models are apart: from recordings, layer by layer, with neither model in memory.

For activations a (base) and b (tuned) of the same token
1. relative_change = sum of |b - a| / sum of |a|, norm_ratio = sum of |b| / sum of |a|, sums over the tokens of a class
2. cosine = mean over these tokens of <a, b> / (|a| |b|); 1 where both are zero, 0 where one is
3. result: what head h writes, r = z_h W_O,h, before any norm that follows attention. The difference is taken as
   b - a = (z_b - z_a) W_b + z_a (W_b - W_a): exactly zero where nothing changed, and without losing small differences
   between large vectors
4. Jensen-Shannon divergence of two attention patterns p, q: H((p + q)/2) - (H(p) + H(q))/2, 0 to log 2 nats
5. kernel alignment over the tokens of all prompts (`probe_shift_alignment`)
One layer's activations of one prompt are read at a time; what is kept are numbers by prompt, and for the kernel
alignment the sums of one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float

from itlens.findings.activation.probe_shift_alignment import KernelAlignment
from itlens.findings.activation.probe_shift_record import SIDES, Kind, ShiftPlan
from itlens.hooked.cache import ActivationCache
from itlens.hooked.tokens import CLASSES
from itlens.models.memory import trim
from itlens.models.precision import as_numbers, exact

ShiftTables: TypeAlias = dict[str, tuple[tuple[str, ...], np.ndarray]]  # name -> dims, values
TOKEN_CLASSES = (*CLASSES, "rest", "all")  # rest: all but the first
CKA_TOKENS = ("rest", "all")
_STATISTICS = ("relative_change", "cosine", "norm_ratio")
_STREAM, _HEAD = ("prompt", "layer", "token_class"), ("prompt", "layer", "head", "token_class")
_BYTES = 1 << 25  # of what heads write, at a time


class Recordings:
    """What both models wrote, read on one device."""

    def __init__(self, cache: ActivationCache, plan: ShiftPlan, device: torch.device) -> None:
        self._cache, self._device, self.plan = cache, device, plan
        self.columns = [
            token_columns(prompt.classes[kept]) for prompt, kept in zip(plan.prompts, plan.positions, strict=True)
        ]

    def both(self, number: int, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (base, tuned) of an activation of a prompt."""
        base, tuned = (self._cache.get(f"{side}-{number}", name).to(self._device) for side in SIDES)
        return base, tuned

    def out(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (base, tuned) W_O of a layer."""
        base, tuned = (self._cache.get(f"{side}-weights", f"W_O {layer}").to(self._device) for side in SIDES)
        return base, tuned

    def prompts(self) -> range:
        """Return the numbers of the prompts."""
        return range(len(self.plan.prompts))


def compare_layers(recordings: Recordings, layers: int, tell: Callable[[], None]) -> ShiftTables:
    """Return every table but those of the lens. `tell` is called after each kind and layer."""
    by_kind: dict[Kind, Callable[[Recordings, int], dict[str, np.ndarray]]] = {
        "resid": lambda recordings, layer: _stream(recordings, "resid", layer),
        "mlp": lambda recordings, layer: _stream(recordings, "mlp", layer),
        "head": _heads,
        "pattern": _patterns,
    }
    by_layer: dict[str, list[np.ndarray]] = {}
    for layer in range(layers):
        trim()  # else the heap grows in steps with prompts and layers, though all of it is free
        for kind, function in by_kind.items():
            if kind in recordings.plan.kinds:
                for name, values in function(recordings, layer).items():
                    by_layer.setdefault(name, []).append(values)
                tell()
    return {name: (_dims(name), np.stack(values, axis=_dims(name).index("layer"))) for name, values in by_layer.items()}


def _dims(name: str) -> tuple[str, ...]:
    if name == "pattern_jsd":
        return _HEAD[:3]
    of_head = name.startswith(("z_", "result_"))
    if name.endswith("_cka"):
        return ("cka_tokens", "layer", "head") if of_head else ("cka_tokens", "layer")
    return _HEAD if of_head else _STREAM


def _stream(recordings: Recordings, kind: Kind, layer: int) -> dict[str, np.ndarray]:
    rows, alignment = [], KernelAlignment()
    for number in recordings.prompts():
        base, tuned = recordings.both(number, f"{kind} {layer}")
        rows.append(by_class(base, tuned - base, recordings.columns[number]))
        _align(alignment, base[None], tuned[None], recordings.plan.positions[number])
    return _stacked(rows, kind) | {f"{kind}_cka": _alignments(alignment, 1)[:, 0]}


def _heads(recordings: Recordings, layer: int) -> dict[str, np.ndarray]:
    base_out, tuned_out = recordings.out(layer)
    base_factor, tuned_factor = output_factor(base_out), output_factor(tuned_out)
    values, results = [], []
    of_values, of_results = KernelAlignment(), KernelAlignment()
    for number in recordings.prompts():
        base, tuned = recordings.both(number, f"head {layer}")
        columns, positions = recordings.columns[number], recordings.plan.positions[number]
        values.append(by_class(base, tuned - base, columns))
        results.append(_result(base, tuned, base_out, tuned_out, columns))
        x, y = (rearrange(z, "token head d_head -> head token d_head") for z in (base, tuned))
        _align(of_values, x, y, positions)
        _align(of_results, x @ base_factor, y @ tuned_factor, positions)
    heads = base_out.shape[0]
    return (
        _stacked(values, "z")
        | _stacked(results, "result")
        | {"z_cka": _alignments(of_values, heads), "result_cka": _alignments(of_results, heads)}
    )


def _result(
    base: torch.Tensor, tuned: torch.Tensor, base_out: torch.Tensor, tuned_out: torch.Tensor, columns: np.ndarray
) -> dict[str, np.ndarray]:
    chunks = [by_class(mine, change, columns) for mine, change in head_outputs(base, tuned, base_out, tuned_out)]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in _STATISTICS}


def _patterns(recordings: Recordings, layer: int) -> dict[str, np.ndarray]:
    rows = []
    for number in recordings.prompts():
        base, tuned = (
            rearrange(pattern, "target head key -> head target key")
            for pattern in recordings.both(number, f"pattern {layer}")
        )
        heads, targets = base.shape[:2]
        mean = pattern_divergence(base, tuned).mean(1) if targets else base.new_full((heads,), torch.nan)
        rows.append(as_numbers(mean))
    return {"pattern_jsd": np.stack(rows)}


def _stacked(rows: Sequence[Mapping[str, np.ndarray]], kind: str) -> dict[str, np.ndarray]:
    return {f"{kind}_{name}": np.stack([row[name] for row in rows]) for name in _STATISTICS}


def _align(alignment: KernelAlignment, x: torch.Tensor, y: torch.Tensor, positions: np.ndarray) -> None:
    """Add the tokens of a prompt; positions ascend, so that a first token is the first row."""
    firsts = int(positions[0] == 0)
    alignment.add(x[:, firsts:], y[:, firsts:])
    alignment.add(x[:, :firsts], y[:, :firsts], first=True)


def _alignments(alignment: KernelAlignment, groups: int) -> np.ndarray:
    """Return (cka_tokens, group), in the order of CKA_TOKENS."""
    by_tokens = alignment.alignments()
    return np.stack([np.broadcast_to(by_tokens[name].cpu().numpy(), (groups,)) for name in CKA_TOKENS])


def token_columns(classes: np.ndarray) -> Float[np.ndarray, "token token_class"]:
    """Return 1 where a token belongs to a class of TOKEN_CLASSES, else 0."""
    single = np.eye(len(CLASSES))[classes]
    return np.column_stack([single, 1 - single[:, 0], np.ones(len(single))])


def by_class(
    base: Float[torch.Tensor, "token *head feature"],
    change: Float[torch.Tensor, "token *head feature"],
    columns: Float[np.ndarray, "token token_class"],
) -> dict[str, np.ndarray]:
    """Return the statistics on (head, token_class), or (token_class), of the base's activations and their change."""
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
    return as_numbers(value.norm(dim=-1))


def _cosine(size: np.ndarray, other: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """1 - (|b-a|^2 - (|b|-|a|)^2) / (2 |a| |b|): the same as <a, b> / (|a| |b|), and exact near 1."""
    product = size * other
    gap = apart**2 - (other - size) ** 2
    out = np.where((size == 0) & (other == 0), 1.0, 0.0)
    cosine = np.subtract(1.0, np.divide(gap, 2 * product, out=1.0 - out, where=product > 0))
    return np.asarray(np.clip(cosine, -1.0, 1.0))


def _ratio(changed: np.ndarray, total: np.ndarray, count: np.ndarray) -> np.ndarray:
    out = np.where((count > 0) & (changed == 0), 0.0, np.nan)
    return np.asarray(np.divide(changed, total, out=out, where=total > 0))


def head_outputs(
    base: Float[torch.Tensor, "token head d_head"],
    tuned: Float[torch.Tensor, "token head d_head"],
    base_out: Float[torch.Tensor, "head d_head d_model"],
    tuned_out: Float[torch.Tensor, "head d_head d_model"],
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield what heads write in the base and what tuning adds to it, (token, head, d_model), a few heads at a time."""
    bytes_of_head = base.shape[0] * base_out.shape[-1] * base.element_size()
    step = max(1, int(_BYTES // bytes_of_head))
    for start in range(0, base.shape[1], step):
        heads = slice(start, start + step)
        mine, theirs = base_out[heads], tuned_out[heads]
        values, change = (
            rearrange(z, "token head d_head -> head token d_head") for z in (base[:, heads], (tuned - base)[:, heads])
        )
        written, added = values @ mine, change @ theirs + values @ (theirs - mine)
        yield (
            rearrange(written, "head token d_model -> token head d_model"),
            rearrange(added, "head token d_model -> token head d_model"),
        )


def pattern_divergence(
    base: Float[torch.Tensor, "head target key"], tuned: Float[torch.Tensor, "head target key"]
) -> Float[torch.Tensor, "head target"]:
    """Return the Jensen-Shannon divergence of attention patterns; see the module, 4."""
    middle: torch.Tensor = torch.special.entr((base + tuned) / 2).sum(-1)
    own: torch.Tensor = torch.special.entr(base).sum(-1) / 2 + torch.special.entr(tuned).sum(-1) / 2
    return (middle - own).clamp(min=0.0)


def output_factor(out: Float[torch.Tensor, "head d_head d_model"]) -> Float[torch.Tensor, "head d_head feature"]:
    """Return R with R R' = W_O W_O': z R has the inner products of what a head writes, in d_head numbers."""
    wide = exact(out)
    factor: torch.Tensor
    factor, failed = torch.linalg.cholesky_ex(wide @ wide.mT)
    if bool(failed.any()):  # a head that writes into fewer dimensions than it has; ten times slower
        factor = torch.linalg.qr(wide.mT).R.mT
    return factor.to(out.dtype).to(out.device)
