"""Faithfulness of an attribution: are the tokens it calls important those that the response hangs on?

1. Order the prompt tokens by importance (`itlens.importance_density`, or the sum of the scores).
2. Deletion: replace the first 0, 1/steps .. all of them by a baseline vector at `hook_embed`; after each step measure
   the mean log-probability of the response's tokens, which are fed unchanged. Insertion: start with all replaced, and
   put the first ones back (Petsiuk et al. 2018).
3. The null: the same along `draws` random orders of the same tokens.
4. Share = (log-probability - all removed) / (intact - all removed); area = the share's mean over the fractions, by
   trapezoids. Advantage over random: area_random - area for deletion, area - area_random for insertion.
5. Comprehensiveness and sufficiency (ERASER, DeYoung et al. 2020), here in nats: the mean of what is lost when the
   first tokens are removed, or when only they are kept, over the fractions up to one half.
Replaced embeddings are nothing that a model was trained on: a curve says what these vectors do, to all orders alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from itlens.errors import ProbeError
from itlens.findings.faithfulness.probe_curves import (
    DIRECTIONS,
    LEAST_GAP,
    curve_numbers,
    removal_masks,
    removed_counts,
    token_order,
)
from itlens.findings.faithfulness.probe_runs import (
    BASELINES,
    ORDERED_BY,
    Baseline,
    By,
    RankedPrompt,
    baseline_vector,
    masked_logprobs,
    ranked_by_scores,
    ranked_by_values,
)
from itlens.hooked.attribution import Progress, attribute
from itlens.models import source_attrs, source_of
from itlens.models.hooked_model import HookedModel
from itlens.progress import late_bar
from itlens.prompts import Prompt
from itlens.results.provenance import provenance
from itlens.selection import whole_number

_Method: TypeAlias = Literal["input_x_gradient", "saliency", "integrated_gradients"]


def faithfulness(
    model: HookedModel,
    prompt: Prompt | str,
    scores: xr.Dataset | ArrayLike | None = None,
    *,
    response: str | None = None,
    method: _Method = "input_x_gradient",
    by: By = "density",
    steps: int = 10,
    draws: int = 20,
    baseline: Baseline = "mean",
    seed: int = 0,
    max_new_tokens: int = 64,
    prepend_bos: bool | None = None,
    batch_size: int | None = None,
    progress: Progress | bool = True,
) -> xr.Dataset:
    """Measure deletion and insertion curves of one prompt's attribution, next to random orders.

    model: from `load_model`. prompt: a `Prompt` or text, as the model reads it (after formatting). scores: a Dataset of
    `itlens.attribute` (its tokens and its response are used), or one importance per prompt token; default: `attribute`
    with `method` on `response` (default: the prompt's own, else the model's greedy continuation of at most
    `max_new_tokens` tokens). by: "density" (ties by the sum) or "sum" (with its sign: what lowers the objective goes
    last). steps: fractions 0, 1/steps .. 1. draws: random orders; seed: of them and of ties. baseline: "mean" (over the
    vocabulary's embeddings) or "zero". batch_size: texts at a time; default by memory. prepend_bos, progress: as in
    `attribute`. Tokens that the tokenizer puts in front of the prompt (BOS) are never removed.

    Returns a Dataset; order: "attribution", "random" (means over the draws); direction: "deletion", "insertion".
    - (order, direction, fraction) curve (nats: mean log-probability of a response token), share (0 = all removed, 1 =
      intact); (direction, fraction) curve_low, curve_high: 95 % of the random orders
    - (order, direction) area (of the share); (draw, direction) area_draws; (direction) area_low, area_high: 95 % of the
      random orders; advantage (above 0: better than random), advantage_nats; p: share of the orders, the attribution's
      own among them, that are at least as good (1 / (1 + draws) at best)
    - (order) comprehensiveness (nats, higher is better), sufficiency (nats, lower is better)
    - intact, removed (nats); (fraction) removed_tokens; (source) importance, rank (0 is removed first)
    Shares and areas are NaN, and attrs["note"] says so, where removing the whole prompt lowers the response by less
    than 0.05 nats.

    Raises ProbeError (unknown options, scores of other tokens), PromptError (empty response, longer than the context).
    """
    for name, value, known in (("by", by, ORDERED_BY), ("baseline", baseline, BASELINES)):
        if value not in known:
            raise ProbeError(f"{name}={value!r} is unknown; expected one of {', '.join(map(repr, known))}.")
    numbers = {
        name: whole_number(name, value, 1)
        for name, value in (("steps", steps), ("draws", draws), ("max_new_tokens", max_new_tokens))
    }
    seed = whole_number("seed", seed, 0)
    rows = None if batch_size is None else whole_number("batch_size", batch_size, 1)
    prompt = _as_prompt(prompt)
    ranked = _ranked(
        model, prompt, scores, response, method=method, by=by, max_new_tokens=numbers["max_new_tokens"],
        prepend_bos=prepend_bos, progress=progress is True,
    )  # fmt: skip
    vector = baseline_vector(model, baseline)
    rng = np.random.default_rng(seed)
    own = token_order(ranked.importance, ranked.second, rng)
    orders = np.stack([own, *(rng.permutation(own.size) for _ in range(numbers["draws"]))])
    masks = removal_masks(orders, numbers["steps"])
    with late_bar("faithfulness", show=progress is True) as bar:
        tell = progress if callable(progress) else bar
        values = masked_logprobs(model, ranked, masks.removed, vector, rows, tell)
    how = {"by": by if ranked.attrs["method"] != "given" else "", "baseline": baseline, "seed": seed, **numbers}
    return _dataset(ranked, own, values[masks.points], _attributes(model, prompt, ranked, how))


def _as_prompt(prompt: object) -> Prompt:
    if not isinstance(prompt, (Prompt, str)):
        raise ProbeError(f"faithfulness takes one Prompt or text, not a {type(prompt).__name__}.")
    return prompt if isinstance(prompt, Prompt) else Prompt(prompt)


def _ranked(
    model: HookedModel,
    prompt: Prompt,
    scores: xr.Dataset | ArrayLike | None,
    response: str | None,
    *,
    method: _Method,
    by: By,
    max_new_tokens: int,
    prepend_bos: bool | None,
    progress: bool,
) -> RankedPrompt:
    if scores is not None and not isinstance(scores, xr.Dataset):
        return ranked_by_values(model, prompt, scores, response, max_new_tokens, prepend_bos)
    if scores is None:
        scores = attribute(
            model, prompt, response, method=method, max_new_tokens=max_new_tokens, prepend_bos=prepend_bos,
            progress=progress,
        )  # fmt: skip
    elif response is not None:
        raise ProbeError("scores bring the response that they were computed on; leave response= out.")
    ranked = ranked_by_scores(model, prompt, scores, by, prepend_bos)
    context = source_of(model).context
    if len(ranked.read) > context:
        raise ProbeError(
            f"{ranked.name} is {len(ranked.read)} tokens long with its response; this model reads at most {context}."
        )
    return ranked


def _dataset(ranked: RankedPrompt, own: np.ndarray, curves: np.ndarray, attrs: dict[str, object]) -> xr.Dataset:
    steps = curves.shape[2] - 1
    fraction = np.arange(steps + 1) / steps
    ds = xr.Dataset(
        {
            **curve_numbers(curves, fraction),
            "removed_tokens": ("fraction", removed_counts(own.size, steps)),
            "importance": ("source", ranked.importance),
            "rank": ("source", np.argsort(own)),
        },
        coords={
            "order": ["attribution", "random"],
            "direction": list(DIRECTIONS),
            "fraction": fraction,
            **ranked.coords,
        },
    )
    note = ""
    if not np.isfinite(float(ds["area"][0, 0])):
        note = f"removing the whole prompt lowers the response by less than {LEAST_GAP:g} nats: no shares of it"
    result: xr.Dataset = ds.assign_attrs(attrs | {"note": note})
    return result


def _attributes(
    model: HookedModel, prompt: Prompt, ranked: RankedPrompt, how: Mapping[str, object]
) -> dict[str, object]:
    return provenance(
        "faithfulness",
        **source_attrs(model),
        prompt_id=prompt.id,
        prompt_group=prompt.group,
        prompt_text=prompt.text,
        front_tokens=len(ranked.front),
        **ranked.attrs,
        **how,
    )
