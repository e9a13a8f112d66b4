"""The dial of an activation difference: add it to the base, subtract it from the tuned model, and see what changes.

With delta the mean difference before block l, r_1 .. r_R random directions of its length, and a strength a:
1. the base reads prompt and response with a x (delta or r_k) added before block l at every position but the first (and
   special tokens in front); the tuned model with the same subtracted;
2. logprob: mean log-probability of the response's tokens (nats); kl: mean over the response's positions of
   KL(P_other || P_this), the other model plain: how far the dialled model still is from the other one; on request,
   score: the instruction's importance score (`itlens.hooked.instruction_score`), an attribution for each run.
Blocks before l run once per prompt and model, those from l on once per direction and strength (in parts, each from the
first block on, where memory does not hold all runs of a prompt). The last streams go to disk, with both unembeddings,
so that one model is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from itlens.errors import ProbeError
from itlens.hooked.cache import ActivationCache, activation_cache
from itlens.hooked.hooks import Hook, run_hooked
from itlens.hooked.instruction_score import instruction_score
from itlens.hooked.pair_inputs import Responses, as_pair, asked_sides, comparable, forced_pair, refuse_beyond_either
from itlens.hooked.readout import Readout, RunningSoftmax, refuse_other_readout, save_readout
from itlens.hooked.tokens import Forced, left_out_attrs
from itlens.models import HookedModel, ModelPair, source_attrs, source_of
from itlens.models.memory import room_for, rows_at_a_time
from itlens.models.precision import as_numbers
from itlens.models.running import undisturbed
from itlens.progress import Counted, late_bar
from itlens.prompts import PromptsLike
from itlens.results.provenance import provenance
from itlens.selection import whole_number

STRENGTHS = (0.5, 1.0, 2.0)
_SIGNS = {"base": 1.0, "tuned": -1.0}
_STATISTICS = ("logprob", "kl", "score")
Key = tuple[str, int]  # a model and one of its runs; run 0 is the plain one


def difference_dial(
    pair: ModelPair | tuple[HookedModel, HookedModel],
    difference: xr.Dataset,
    prompts: PromptsLike | Sequence[Forced],
    max_new_tokens: int = 200,
    *,
    strengths: Sequence[float] = STRENGTHS,
    draws: int = 3,
    scores: int = 0,
    responses: Responses = "tuned",
    format: str = "raw",
    prepend_bos: bool | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool | Callable[[int, int], None] = True,
) -> xr.Dataset:
    """Read responses under both models while a mean activation difference is added (base) or subtracted (tuned).

    difference: of `itlens.activation_difference` of the same pair. strengths: factors on it, above 0. draws: random
    directions of the same length. scores: of so many prompts, the first that have an instruction, the instruction score
    is read as well. The other arguments are those of `itlens.token_shift`.

    Returns a Dataset on (prompt, model, direction, strength), model "base" (added) and "tuned" (subtracted), direction
    "difference", "random 1" ..., strength 0
    (plain) and those requested: logprob (nats a token), kl (nats a position,
    of the other model from this one), score (0 to 1; NaN for the other prompts; where scores > 0). On (prompt): group,
    length. Raises ProbeError for what is no such
    difference or strength, and what `itlens.token_shift` raises.
    """
    steps, count = _strengths(strengths), whole_number("draws", draws, 1)
    wanted = whole_number("scores", scores, 0)
    layer, delta = _direction(difference)
    both = as_pair(pair)
    report = comparable(both)
    if int(report.base["d_model"]) != delta.size or layer >= int(report.base["layers"]):
        raise ProbeError(
            f"The difference has {delta.size} dimensions before block {layer}, which this pair does not have; give the "
            "itlens.activation_difference of the same pair."
        )
    size = int(min(report.base["vocabulary"], report.tuned["vocabulary"]))
    writer = "base" if responses == "base" else "tuned"
    vectors = _vectors(delta, steps, count, seed)
    with activation_cache(cache) as folder, late_bar("dial", show=progress is True) as bar:
        read = forced_pair(
            both, prompts, responses, asked_sides("base->tuned" if writer == "base" else "tuned->base", responses),
            format=format, max_new_tokens=whole_number("max_new_tokens", max_new_tokens, 1), prepend_bos=prepend_bos,
            progress=progress is True,
        )  # fmt: skip
        refuse_beyond_either(read, report)
        scored = [number for number, prompt in enumerate(read) if prompt.of_class("instruction").size][:wanted]
        tell = Counted(progress if callable(progress) else bar, 3 * len(read) + 2 * len(scored) * len(vectors))
        readouts, attrs = {}, {}
        score = np.full((len(read), 2, len(vectors)), np.nan)
        for side in (writer, "tuned" if writer == "base" else "base"):
            model = getattr(both, side)
            signed = _SIGNS[side] * vectors
            readouts[side] = _record(model, side, read, signed, layer, size, folder, tell)
            for number in scored:
                score[number, list(_SIGNS).index(side)] = _scores(model, read[number], signed, layer, tell)
            attrs[side] = source_attrs(model)
            device = next(model.parameters()).device
            del model  # it would stay in memory while the other one runs
        rows = []
        for number, prompt in enumerate(read):
            rows.append(_read(number, prompt, readouts, folder, device))
            tell()
    said = {f"{side}_{name}": value for side in ("base", "tuned") for name, value in attrs[side].items()}
    settings = {"layer": layer, "draws": count, "seed": seed, "responses": responses, "vocabulary": size}
    attrs_of = provenance("difference_dial", **said, **settings, **left_out_attrs(read))
    table = np.array(rows)
    if scored:
        table = np.concatenate([table, score[:, None]], axis=1)
    return _dataset(read, table, steps, count).assign_attrs(attrs_of)


def _strengths(given: Sequence[float]) -> list[float]:
    listed = sorted({float(number) for number in given})
    if not listed or not all(0 < number < float("inf") for number in listed):
        raise ProbeError(f"strengths={list(given)!r}; expected finite numbers above 0.")
    return listed


def _direction(difference: Any) -> tuple[int, np.ndarray]:
    """Return the layer and the mean difference over positions that has the size of `norm` at the place "mean"."""
    if not isinstance(difference, xr.Dataset) or difference.attrs.get("probe") != "activation_difference":
        got = "another kind of result" if isinstance(difference, xr.Dataset) else f"a {type(difference).__name__}"
        raise ProbeError(f"difference_dial takes a Dataset of itlens.activation_difference; got {got}.")
    first = int(difference.attrs["first"])
    delta = difference["difference"].values[first:].mean(axis=0)
    return int(difference.attrs["layer"]), np.asarray(delta, dtype=float)


def _vectors(delta: np.ndarray, steps: Sequence[float], draws: int, seed: int) -> torch.Tensor:
    """Return what is added in each run: nothing, then every direction at every strength."""
    random = np.random.default_rng([seed, 2]).standard_normal((draws, delta.size))
    random *= np.linalg.norm(delta) / np.linalg.norm(random, axis=1, keepdims=True)
    rows = [np.zeros_like(delta), *(step * vector for vector in (delta, *random) for step in steps)]
    return torch.from_numpy(np.stack(rows))


def _record(
    model: HookedModel,
    side: str,
    prompts: Sequence[Forced],
    vectors: torch.Tensor,
    layer: int,
    size: int,
    cache: ActivationCache,
    tell: Counted,
) -> Readout:
    """Run a model over the prompts with every vector; the last streams where targets are predicted go to disk."""
    readout = save_readout(model, cache, side, size)
    device = next(model.parameters()).device
    with undisturbed(model), torch.no_grad():
        for number, prompt in enumerate(prompts):
            first = _first(prompt)
            parts: list[torch.Tensor] = []
            for part in vectors.to(device).split(rows_at_a_time(model, len(prompt.read))):
                with room_for(model, f"prompt {prompt.id!r}", len(prompt.read), rows=len(part)):
                    streams, logits = _run(model, prompt, part, layer, first)
                if number == 0 and not parts:
                    refuse_other_readout(readout, model, streams[0, :1], logits, remedy="leave this finding out")
                parts.append(streams.cpu())
            kept = torch.cat(parts)
            if not bool(torch.isfinite(kept).all()):
                raise ProbeError(
                    f"The last residual stream of {source_of(model).name} is not finite on prompt {prompt.id!r}; load "
                    'the model with dtype="float32" or check its weights.'
                )
            cache.put(f"{side}-streams", str(number), kept)
            tell()
    return readout


def _run(
    model: HookedModel, prompt: Forced, vectors: torch.Tensor, layer: int, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last streams (run, target, d_model), and the first run's logits at the first target."""
    kept: list[torch.Tensor] = []

    def enter(value: torch.Tensor, hook: object) -> torch.Tensor:
        grown = value.repeat(len(vectors), 1, 1)
        grown[:, first:] += vectors.to(grown)[:, None]
        return grown

    def keep(value: torch.Tensor, hook: object) -> None:
        kept.append(value[:, list(prompt.positions)].detach())

    hooks = [(f"blocks.{layer}.hook_resid_pre", enter), (f"blocks.{model.cfg.n_layers - 1}.hook_resid_post", keep)]
    tokens = torch.tensor([prompt.read], device=vectors.device)
    logits = run_hooked(model, tokens, hooks, positions=[prompt.positions[0]])
    return kept[0], logits[0]


def _first(prompt: Forced) -> int:
    """Return the first position where something is added: behind special tokens in front, and never the very first."""
    return max(1, len(prompt.encoded.front))


def _scores(model: HookedModel, prompt: Forced, vectors: torch.Tensor, layer: int, tell: Counted) -> list[float]:
    """Return the instruction score of one prompt with each vector added before the layer."""
    point, first = f"blocks.{layer}.hook_resid_pre", _first(prompt)

    def adding(vector: torch.Tensor) -> Hook:
        def add(value: torch.Tensor, hook: object) -> torch.Tensor:
            return torch.cat([value[:, :first], value[:, first:] + vector.to(value)], dim=1)

        return point, add

    scores = []
    with undisturbed(model, derivatives=True):
        for vector in vectors:
            scores.append(instruction_score(model, prompt, [adding(vector)]))
            tell()
    return scores


@dataclass(frozen=True)
class _Runs:
    """One model's runs of a prompt: normalised streams (run x target, d_model), and the targets' own logits."""

    normed: torch.Tensor
    own: torch.Tensor
    count: int


def _read(
    number: int, prompt: Forced, readouts: dict[str, Readout], cache: ActivationCache, device: torch.device
) -> np.ndarray:
    """Return (statistic, model, run): mean log-probability, and mean KL of the other model from this run."""
    ids = torch.tensor(prompt.targets, device=device)
    runs = {side: _runs(cache.get(f"{side}-streams", str(number)).to(device), ids, readouts[side]) for side in _SIGNS}
    keys: dict[str, list[Key]] = {side: [(side, run) for run in range(runs[side].count)] for side in _SIGNS}
    against = {"base": keys["tuned"], "tuned": keys["base"]}  # what each plain run is compared with
    running = {
        key: RunningSoftmax(runs[side].own.view(-1, len(ids))[key[1]], against[side] if key[1] == 0 else [])
        for side in _SIGNS
        for key in keys[side]
    }
    for of_base, of_tuned in zip(readouts["base"].pieces(), readouts["tuned"].pieces(), strict=True):
        logits: dict[Key, torch.Tensor] = {}
        for side, piece in (("base", of_base), ("tuned", of_tuned)):
            every = readouts[side].logits(runs[side].normed, piece[1], piece[2])
            logits |= dict(zip(keys[side], every.split(len(ids)), strict=True))
        for key, softmax in running.items():
            softmax.add(of_base[0].start, key, logits, ids)
    plain = {"base": running["tuned", 0], "tuned": running["base", 0]}
    table = [
        [[float(as_numbers(running[key].logprob).mean()) for key in keys[side]] for side in _SIGNS],
        [
            [float(as_numbers(plain[side].divergence(key, running[key])).mean()) for key in keys[side]]
            for side in _SIGNS
        ],
    ]
    return np.array(table)


def _runs(streams: torch.Tensor, ids: torch.Tensor, readout: Readout) -> _Runs:
    normed = readout.normalised(streams.flatten(0, 1))
    return _Runs(normed, readout.of_ids(normed, ids.repeat(len(streams))), len(streams))


def _dataset(prompts: Sequence[Forced], rows: np.ndarray, steps: Sequence[float], draws: int) -> xr.Dataset:
    """rows: (prompt, statistic, model, run)."""
    plain, dialled = rows[..., :1], rows[..., 1:].reshape(*rows.shape[:3], 1 + draws, len(steps))
    every = np.concatenate([np.broadcast_to(plain[..., None], (*rows.shape[:3], 1 + draws, 1)), dialled], axis=-1)
    axes = ("prompt", "model", "direction", "strength")
    names = ["difference", *(f"random {number}" for number in range(1, draws + 1))]
    return xr.Dataset(
        {name: (axes, every[:, place]) for place, name in enumerate(_STATISTICS[: rows.shape[1]])},
        coords={
            "prompt": np.array([prompt.id for prompt in prompts], dtype=object),
            "group": ("prompt", np.array([prompt.group for prompt in prompts], dtype=object)),
            "length": ("prompt", [len(prompt.targets) for prompt in prompts]),
            "model": np.array(list(_SIGNS), dtype=object),
            "direction": np.array(names, dtype=object),
            "strength": [0.0, *steps],
        },
    )
