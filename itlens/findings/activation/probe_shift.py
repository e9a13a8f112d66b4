"""Activation shift: both models of a pair read the same tokens; what changed, where, on which kind of token?

1. Every prompt gets one response, and both models read the same tokens. The model that generates runs first.
2. Each model runs once per prompt; its activations at the kept positions go to disk, one model in memory at a time.
3. They are compared layer by layer (`compare_layers`, with `KernelAlignment`), then by the logit lens (`crossed_lens`).
A distance is never zero between two models, so that there is no test of it. Between identical models all of this is 0
(alignment and cosine 1) up to rounding, about 1e-6 in float32. Whether a shift is LARGE is judged by other heads, and
by `itlens.selftest`, which adds noise of a known size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.activation.probe_shift_compare import (
    CKA_TOKENS,
    TOKEN_CLASSES,
    Recordings,
    ShiftTables,
    compare_layers,
)
from itlens.findings.activation.probe_shift_lens import READINGS, compare_lens, lens_places
from itlens.findings.activation.probe_shift_record import (
    KINDS,
    SIDES,
    Kind,
    Recorded,
    ShiftPlan,
    SideName,
    position_bytes,
    record,
)
from itlens.hooked.cache import ActivationCache, activation_cache, kept_positions
from itlens.hooked.pair_inputs import RESPONSES, Sides, as_pair, forced_pair, refuse_beyond_either
from itlens.hooked.readout import same_readout
from itlens.hooked.tokens import Forced, left_out_attrs
from itlens.models import HookedModel, ModelPair
from itlens.models.compatibility import PairReport
from itlens.models.precision import exact_device
from itlens.models.running import own_precision
from itlens.progress import Counted, late_bar
from itlens.results.provenance import provenance
from itlens.selection import whole_number

if TYPE_CHECKING:
    from itlens.prompts import PromptsLike

_NATS = ("lens_kl_base_tuned", "lens_kl_tuned_base", "lens_logprob", "pattern_jsd")


@own_precision()
def activation_shift(
    pair: ModelPair | tuple[HookedModel, HookedModel],
    prompts: PromptsLike | Sequence[Forced],
    *,
    responses: Literal["tuned", "base", "given"] = "tuned",
    hooks: str | Sequence[str] = KINDS,
    format: str = "raw",
    max_new_tokens: int = 64,
    prepend_bos: bool | None = None,
    lens_positions: int | Literal["all"] | None = None,
    cache: str | Path | None = None,
    cache_bytes: int = 4 * 2**30,
    seed: int = 0,
    progress: bool | Callable[[int, int], None] = True,
) -> xr.Dataset:
    """Measure how far activations of the tuned model are from the base's, on the same tokens.

    pair: a `ModelPair` or (base, tuned). prompts: texts, `Prompt` objects, or a list of `Forced`. responses: whose
    greedy response both read, "tuned" or "base", or "given" (the prompts' own). hooks: of "resid" (`hook_resid_post`),
    "head" (`hook_z`, and z W_O before any norm that follows), "mlp" (`hook_mlp_out`), "pattern" (`hook_pattern`),
    "lens". format: as in `format_prompts`; a chat template is the tuned model's. lens_positions: number of positions
    per prompt that the lens reads, or "all"; default what costs half a forward pass per model, at least 2. cache: a
    folder for the activations, which are removed in the end; default the system's. cache_bytes: when the activations of
    both models are larger, a random sample of positions is kept, as many of each prompt, those that predict first
    (seed); copies of W_O and W_U come on top. progress: a bar, none, or a function of (done, all).

    Returns a Dataset; token_class: the classes of `Forced`, "rest" (all but the first token, whose norm
    is often hundreds of times the others') and "all".
    - (prompt, layer, token_class) resid_ and mlp_, (prompt, layer, head, token_class) z_ (the head's own coordinates)
      and result_ (what it writes): relative_change, sum |b - a| / sum |a|; cosine, mean; norm_ratio, sum |b| / sum |a|
    - (cka_tokens, layer) resid_cka, mlp_cka, (cka_tokens, layer, head) z_cka, result_cka: unbiased linear kernel
      alignment over the tokens of all prompts, without first tokens ("rest") and with them ("all"); NaN under 4 tokens
    - (prompt, layer, head) pattern_jsd, nats, 0 to log 2: mean over the positions that predict
    - (prompt, reading, layer) lens_kl_base_tuned, lens_kl_tuned_base, nats; (prompt, stream, readout, layer)
      lens_logprob (nats, of the response's token), lens_rank (median, 1 = top): whose residual stream is read by whose
      final norm and unembedding, see `crossed_lens`; over the ids that both vocabularies have
    - (prompt, model) commitment, commitment_first: the first layer from which the final top token stays, and where it
      first is, on top, means over positions
    - (prompt, token_class) token_count: kept tokens; (prompt) lens_positions; a class without any is NaN elsewhere.

    Raises ProbeError (unknown option, cache too small: names the size needed, activations that are not finite: names
    the layer), PairError (models that do not align), PromptError.
    """
    kinds = _checked_kinds(hooks)
    first, second = _order(responses)
    most, tokens = whole_number("cache_bytes", cache_bytes, 1), whole_number("max_new_tokens", max_new_tokens, 1)
    seed = whole_number("seed", seed, 0)
    wanted = lens_positions if lens_positions in (None, "all") else whole_number("lens_positions", lens_positions, 1)
    both = as_pair(pair)
    report = both.check()
    with activation_cache(cache) as folder, late_bar("activation shift", show=progress is True) as bar:
        read = forced_pair(
            both, prompts, responses, Sides(first, second), format=format, max_new_tokens=tokens,
            prepend_bos=prepend_bos, progress=progress is True,
        )  # fmt: skip
        refuse_beyond_either(read, report)
        plan = _plan(both, first, read, kinds, report, most, seed, folder)
        layers = int(report.base["layers"])
        tell = Counted(progress if callable(progress) else bar, _work(plan, layers))
        recorded = {side: record(getattr(both, side), side, plan, folder, tell) for side in (first, second)}
        device = exact_device(next(getattr(both, second).parameters()).device)
        recordings = Recordings(folder, plan, device)
        tables = compare_layers(recordings, layers, tell)
        if "lens" in kinds:
            tables |= _lens(recordings, recorded, wanted, report, device, tell)
    settings: dict[str, object] = {
        "responses": _whose(prompts, read, responses),
        "hooks": ", ".join(kinds),
        "format": format,
    }
    limits = {"max_new_tokens": tokens, "lens_positions": wanted, "cache_bytes": most, "seed": seed}
    models = {side: recorded[side].attrs for side in SIDES}
    return _dataset(recordings, tables, models, {**settings, **limits, **left_out_attrs(read)})


def _checked_kinds(hooks: object) -> tuple[Kind, ...]:
    """Return the hooks= of a call, in the order of KINDS. Raises ProbeError for unknown ones."""
    names = tuple(hooks) if isinstance(hooks, Iterable) and not isinstance(hooks, str) else (hooks,)
    unknown = [name for name in names if name not in KINDS]
    if hooks is None or not names:
        raise ProbeError(f"hooks={hooks!r} names nothing to compare; expected some of {', '.join(KINDS)}.")
    if unknown:
        near = get_close_matches(str(unknown[0]).lower(), KINDS, n=1)
        raise ProbeError(
            f"hooks={hooks!r}: {unknown[0]!r} is unknown; expected some of {', '.join(KINDS)}"
            f"{f' (the nearest is {near[0]!r})' if near else ''}; for hook points of your own use "
            "itlens.activations(hooks=...)."
        )
    return tuple(kind for kind in KINDS if kind in names)


def _order(responses: object) -> tuple[SideName, SideName]:
    """Return which model runs first: the one that generates, so that each is loaded once. Raises ProbeError."""
    if responses not in RESPONSES:
        raise ProbeError(f"responses={responses!r} is unknown; expected one of {', '.join(map(repr, RESPONSES))}.")
    return ("tuned", "base") if responses == "tuned" else ("base", "tuned")


def _plan(
    pair: ModelPair,
    first: SideName,
    prompts: list[Forced],
    kinds: tuple[Kind, ...],
    report: PairReport,
    most: int,
    seed: int,
    folder: ActivationCache,
) -> ShiftPlan:
    wide = next(getattr(pair, first).parameters()).dtype == torch.float64
    each, key = position_bytes(report.base, kinds, wide)
    positions = kept_positions(prompts, each, key, most, seed)
    plan = ShiftPlan(prompts, positions, kinds, min(report.base["vocabulary"], report.tuned["vocabulary"]))
    patterns = (key * len(prompt.read) * plan.targets(number).size for number, prompt in enumerate(prompts))
    item = 8 if wide else 4
    width, heads = report.base["d_model"], report.base["heads"] * report.base["d_head"]
    weights = ("head" in kinds) * report.base["layers"] * heads + ("lens" in kinds) * plan.size
    folder.reserve(each * sum(map(len, positions)) + sum(patterns) + 2 * item * width * weights)
    return plan


def _work(plan: ShiftPlan, layers: int) -> int:
    compared = sum(kind != "lens" for kind in plan.kinds)
    return len(plan.prompts) * (2 + ("lens" in plan.kinds)) + compared * layers


def _lens(
    recordings: Recordings,
    recorded: Mapping[SideName, Recorded],
    wanted: int | Literal["all"] | None,
    report: PairReport,
    device: torch.device,
    tell: Counted,
) -> ShiftTables:
    readouts = {side: readout for side in SIDES if (readout := recorded[side].readout) is not None}
    same, layers = same_readout(readouts["base"], readouts["tuned"]), int(report.base["layers"])
    blocks = recorded["base"].block_parameters
    places = lens_places(recordings.plan, wanted, int(report.base["d_model"]), layers, blocks, same)
    tables = compare_lens(recordings, readouts, places, layers, same, device, tell)
    return tables | {"lens_positions": (("prompt",), np.array([len(place) for place in places]))}


def _whose(prompts: object, read: Sequence[Forced], responses: str) -> str:
    """Return whose responses were read; "forced" where the caller gave tokens."""
    given = isinstance(prompts, (list, tuple)) and any(prompt is read[0] for prompt in prompts)
    return "forced" if given else responses


def _dataset(
    recordings: Recordings,
    tables: ShiftTables,
    models: Mapping[SideName, Mapping[str, object]],
    settings: Mapping[str, object],
) -> xr.Dataset:
    """Put the tables on labelled axes. models: attrs of each; settings: of the call."""
    plan = recordings.plan
    counts = np.stack([columns.sum(axis=0) for columns in recordings.columns]).astype(np.int64)
    tables = tables | {"token_count": (("prompt", "token_class"), counts)}
    sizes = {dim: size for dims, values in tables.values() for dim, size in zip(dims, values.shape, strict=True)}
    axes = {dim: values for dim, values in _axes(recordings, sizes).items() if dim in sizes}
    groups = np.array([prompt.group for prompt in plan.prompts], dtype=object)
    kept, everything = sum(map(len, plan.positions)), sum(len(prompt.read) for prompt in plan.prompts)
    of_models = {f"{side}_{key}": value for side, known in models.items() for key, value in known.items()}
    cut = "" if kept == everything else f"{kept} of {everything} positions were kept (cache_bytes)"
    note = {"note": "; ".join(filter(None, (str(settings.get("note", "")), cut)))}
    return xr.Dataset(
        {name: (*table, {"unit": "nats"} if name in _NATS else {}) for name, table in tables.items()},
        coords=axes | {"group": ("prompt", groups)},
        attrs=provenance(
            "activation_shift", **of_models, **{**settings, **note}, positions_kept=kept, positions_all=everything
        ),
    )


def _axes(recordings: Recordings, sizes: Mapping[str, int]) -> dict[str, object]:
    return {
        "prompt": np.array([prompt.id for prompt in recordings.plan.prompts], dtype=object),
        "layer": np.arange(sizes.get("layer", 0)),
        "head": np.arange(sizes.get("head", 0)),
        "token_class": list(TOKEN_CLASSES),
        "cka_tokens": list(CKA_TOKENS),
        "reading": list(READINGS),
        **{name: list(SIDES) for name in ("stream", "readout", "model")},
    }
