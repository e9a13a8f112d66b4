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

from typing import Any

import numpy as np
import xarray as xr

from itlens.errors import ProbeError
from itlens.models import source_attrs, source_of
from itlens.probes.attribution import attribute
from itlens.probes.deletion.numbers import LEAST_GAP, curve_numbers
from itlens.probes.deletion.orders import DIRECTIONS, removal_masks, removed_counts, token_order
from itlens.probes.deletion.reading import ORDERED_BY, Reading, reading_of_scores, reading_of_values
from itlens.probes.deletion.runs import baseline_vector, masked_logprobs
from itlens.probes.grid import whole_number
from itlens.progress import late_bar
from itlens.prompts import Prompt
from itlens.provenance import provenance


def faithfulness(
    model: Any,
    prompt: Any,
    scores: Any = None,
    *,
    response: str | None = None,
    method: str = "input_x_gradient",
    by: Any = "density",
    steps: Any = 10,
    draws: Any = 20,
    baseline: Any = "mean",
    seed: Any = 0,
    max_new_tokens: Any = 64,
    prepend_bos: bool | None = None,
    batch_size: Any = None,
    progress: Any = True,
) -> xr.Dataset:
    """Deletion and insertion curves of one prompt's attribution, beside random orders.

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
    if by not in ORDERED_BY:
        raise ProbeError(f"by={by!r} is unknown; expected one of {', '.join(map(repr, ORDERED_BY))}.")
    numbers = {
        name: whole_number(name, value, 1)
        for name, value in (("steps", steps), ("draws", draws), ("max_new_tokens", max_new_tokens))
    }
    seed = whole_number("seed", seed, 0)
    rows = None if batch_size is None else whole_number("batch_size", batch_size, 1)
    vector = baseline_vector(model, baseline)
    prompt = _as_prompt(prompt)
    reading = _reading(model, prompt, scores, response, method, by, numbers["max_new_tokens"], prepend_bos, progress)
    rng = np.random.default_rng(seed)
    own = token_order(reading.importance, reading.second, rng)
    orders = np.stack([own, *(rng.permutation(own.size) for _ in range(numbers["draws"]))])
    masks = removal_masks(orders, numbers["steps"])
    with late_bar("faithfulness", show=progress is True) as bar:
        tell = progress if callable(progress) else bar
        values = masked_logprobs(model, reading, masks.removed, vector, rows, tell)
    how = {"by": by if reading.attrs["method"] != "given" else "", "baseline": baseline, "seed": seed, **numbers}
    return _dataset(reading, own, values[masks.points], _attributes(model, prompt, reading, how))


def _as_prompt(prompt: Any) -> Prompt:
    if not isinstance(prompt, (Prompt, str)):
        raise ProbeError(f"faithfulness takes one Prompt or text, not a {type(prompt).__name__}.")
    return prompt if isinstance(prompt, Prompt) else Prompt(prompt)


def _reading(
    model: Any,
    prompt: Prompt,
    scores: Any,
    response: str | None,
    method: str,
    by: str,
    count: int,
    prepend_bos: bool | None,
    progress: Any,
) -> Reading:
    if scores is not None and not isinstance(scores, xr.Dataset):
        return reading_of_values(model, prompt, scores, response, count, prepend_bos)
    if scores is None:
        scores = attribute(
            model, prompt, response, method=method, max_new_tokens=count, prepend_bos=prepend_bos,
            progress=progress is True,
        )  # fmt: skip
    elif response is not None:
        raise ProbeError("scores bring the response that they were computed on; leave response= out.")
    reading = reading_of_scores(model, prompt, scores, by, prepend_bos)
    context = source_of(model).context
    if len(reading.read) > context:
        raise ProbeError(
            f"{reading.name} is {len(reading.read)} tokens long with its response; this model reads at most {context}."
        )
    return reading


def _dataset(reading: Reading, own: np.ndarray, curves: np.ndarray, attrs: dict[str, Any]) -> xr.Dataset:
    steps = curves.shape[2] - 1
    fraction = np.arange(steps + 1) / steps
    rank = np.argsort(own)
    ds = xr.Dataset(
        {
            **curve_numbers(curves, fraction),
            "removed_tokens": ("fraction", removed_counts(own.size, steps)),
            "importance": ("source", reading.importance),
            "rank": ("source", rank),
        },
        coords={
            "order": ["attribution", "random"],
            "direction": list(DIRECTIONS),
            "fraction": fraction,
            **reading.coords,
        },
    )
    small = not np.isfinite(float(ds["area"][0, 0]))
    less = f"removing the whole prompt lowers the response by less than {LEAST_GAP:g} nats: no shares of it"
    note = less if small else ""
    return ds.assign_attrs(attrs | {"note": note})


def _attributes(model: Any, prompt: Prompt, reading: Reading, how: dict[str, Any]) -> dict[str, Any]:
    return provenance(
        "faithfulness",
        **source_attrs(model),
        prompt_id=prompt.id,
        prompt_group=prompt.group,
        prompt_text=prompt.text,
        front_tokens=len(reading.front),
        **reading.attrs,
        **how,
    )
