"""Activation shift: both models of a pair read the same tokens; what changed, where, on which kind of token?

1. Every prompt gets one response, and both models read the same tokens. The model that generates runs first.
2. Each model runs once per prompt; its activations at the kept positions go to disk, one model in memory at a time.
3. They are compared layer by layer (`shift_tokens`, `kernel_alignment`), then through the logit lens (`crossed_lens`).
A distance is never zero between two models, so that there is no test of it. Between identical models all of this is 0
(alignment and cosine 1) up to rounding, about 1e-6 in float32. Whether a shift is LARGE is seen against other heads,
and against `itlens.selftest`, which adds noise of a known size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from itlens.models import ModelPair
from itlens.models.compatibility import PairReport
from itlens.probes.grid import whole_number
from itlens.probes.running.forced import Forced, left_out_attrs
from itlens.probes.running.pair_inputs import Sides, as_pair, forced_pair
from itlens.probes.running.readout import same_readout
from itlens.probes.shifting.cache import ActivationCache, activation_cache, kept_positions
from itlens.probes.shifting.compare import Recordings, Tables, compare
from itlens.probes.shifting.crossed_lens import SIDES
from itlens.probes.shifting.inputs import asked_kinds, asked_order, refuse_unreadable, said_responses
from itlens.probes.shifting.lens import compare_lens, lens_places
from itlens.probes.shifting.record import KINDS, Plan, Recorded, position_bytes, record
from itlens.probes.shifting.result import dataset
from itlens.progress import Counted, late_bar


def activation_shift(
    pair: Any,
    prompts: Any,
    *,
    responses: Any = "tuned",
    hooks: Any = KINDS,
    format: Any = "raw",
    max_new_tokens: Any = 64,
    prepend_bos: bool | None = None,
    lens_positions: Any = None,
    cache: Any = None,
    cache_bytes: Any = 4 * 2**30,
    seed: Any = 0,
    progress: Any = True,
) -> xr.Dataset:
    """How far activations of the tuned model are from the base's, on the same tokens.

    pair: a `ModelPair` or (base, tuned). prompts: `Prompt` objects, or a list of `Forced`. responses: whose greedy
    response both read, "tuned" or "base", or "given" (the prompts' own). hooks: of "resid" (`hook_resid_post`), "head"
    (`hook_z`, and z W_O before any norm that follows), "mlp" (`hook_mlp_out`), "pattern" (`hook_pattern`), "lens".
    format: as in `format_prompts`; a chat template is the tuned model's. lens_positions: at how many places per prompt
    the lens reads, or "all"; default what costs half a forward pass per model, at least 2. cache: a folder for the
    activations, which are removed in the end; default the system's. cache_bytes: when the activations of both models
    are larger, a random sample of positions is kept, as many of each prompt, those that predict first (seed); copies of
    W_O and W_U come on top. progress: a bar, none, or a function of (done, all).

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
    kinds = asked_kinds(hooks)
    first, second = asked_order(responses)
    most, tokens = whole_number("cache_bytes", cache_bytes, 1), whole_number("max_new_tokens", max_new_tokens, 1)
    seed = whole_number("seed", seed, 0)
    places = lens_positions if lens_positions in (None, "all") else whole_number("lens_positions", lens_positions, 1)
    both = as_pair(pair)
    report = both.check()
    with activation_cache(cache) as folder, late_bar("activation shift", show=progress is True) as bar:
        read = forced_pair(
            both, prompts, responses, Sides(first, second), format=format, max_new_tokens=tokens,
            prepend_bos=prepend_bos, progress=progress is True,
        )  # fmt: skip
        refuse_unreadable(read, report)
        plan = _plan(both, first, read, kinds, report, most, seed, folder)
        layers = int(report.base["layers"])
        tell = Counted(progress if callable(progress) else bar, _work(plan, layers))
        recorded = {side: record(getattr(both, side), side, plan, folder, tell) for side in (first, second)}
        device = next(getattr(both, second).parameters()).device
        found = Recordings(folder, plan, device)
        tables = compare(found, layers, tell)
        if "lens" in kinds:
            tables |= _lens(found, recorded, places, report, device, tell)
    settings = {"responses": said_responses(prompts, read, responses), "hooks": ", ".join(kinds), "format": format}
    limits = {"max_new_tokens": tokens, "lens_positions": places, "cache_bytes": most, "seed": seed}
    said = settings | limits | left_out_attrs(read)
    return dataset(found, tables, {side: recorded[side].attrs for side in SIDES}, said)


def _plan(
    pair: ModelPair,
    first: str,
    prompts: list[Forced],
    kinds: tuple[str, ...],
    report: PairReport,
    most: int,
    seed: int,
    folder: ActivationCache,
) -> Plan:
    wide = next(getattr(pair, first).parameters()).dtype == torch.float64
    each, key = position_bytes(report.base, kinds, wide)
    positions = kept_positions(prompts, each, key, most, seed)
    plan = Plan(prompts, positions, kinds, min(report.base["vocabulary"], report.tuned["vocabulary"]))
    patterns = (key * len(one.read) * plan.targets(number).size for number, one in enumerate(prompts))
    item = 8 if wide else 4
    width, heads = report.base["d_model"], report.base["heads"] * report.base["d_head"]
    weights = ("head" in kinds) * report.base["layers"] * heads + ("lens" in kinds) * plan.size
    folder.reserve(each * sum(map(len, positions)) + sum(patterns) + 2 * item * width * weights)
    return plan


def _work(plan: Plan, layers: int) -> int:
    compared = sum(kind != "lens" for kind in plan.kinds)
    return len(plan.prompts) * (2 + ("lens" in plan.kinds)) + compared * layers


def _lens(
    found: Recordings, recorded: dict[str, Recorded], asked: Any, report: PairReport, device: Any, tell: Counted
) -> Tables:
    readouts = {side: readout for side in SIDES if (readout := recorded[side].readout) is not None}
    same, layers = same_readout(readouts["base"], readouts["tuned"]), int(report.base["layers"])
    blocks = recorded["base"].block_parameters
    places = lens_places(found.plan, asked, int(report.base["d_model"]), layers, blocks, same)
    tables = compare_lens(found, readouts, places, layers, same, device, tell)
    return tables | {"lens_positions": (("prompt",), np.array([len(place) for place in places]))}
