"""Gradient attribution on embeddings: how much each prompt token matters for each response token.

For prompt embeddings e_n at `hook_embed` and an objective o_m of response token m (default: its probability):
1. input_x_gradient  score[n, m] = < d o_m / d e_n , e_n >                                (Wu et al. 2024, section 3.1)
2. saliency          score[n, m] = || d o_m / d e_n ||                                    (Simonyan et al. 2014)
3. integrated_gradients  score[n, m] = < mean over a of d o_m / d e_n at a*e, e_n >, a on a path from 0 to 1 with all
   prompt embeddings scaled together  (Sundararajan et al. 2017). Over n they sum to o_m(e) - o_m(0); attrs
   ["completeness_error"] says how far they are from it, as a share of the largest change: on RMSNorm models, whose
   output jumps near zero, it stays large with any number of steps, and the scores should then not be trusted

Derivatives are exact, of the raw model, at the tokens the model reads (see `jacobian`). Special tokens in front of the
prompt are fed but get no row. Parameters never require gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float

from itlens.errors import ProbeError
from itlens.models import source_attrs, source_of
from itlens.probes.gradient.jacobian import Task
from itlens.probes.gradient.objectives import contrast_ids, objective_function, runner_up
from itlens.probes.gradient.response import with_response
from itlens.probes.gradient.scores import Progress, Scores, completeness_error, scores_of
from itlens.progress import late_bar
from itlens.prompts import Prompt
from itlens.provenance import provenance
from itlens.tokenization import Encoded

METHODS = ("input_x_gradient", "saliency", "integrated_gradients")
MODES = ("auto", "reverse", "forward")


def attribute(
    model: Any,
    prompt: Prompt | str,
    response: str | None = None,
    *,
    method: str = "input_x_gradient",
    objective: str = "prob",
    mode: str = "auto",
    max_new_tokens: int = 200,
    batch_size: int | None = None,
    contrast: Any = None,
    steps: int = 32,
    prepend_bos: bool | None = None,
    progress: Progress | bool = True,
) -> xr.Dataset:
    """Attribute every response token to the prompt tokens of one model.

    model: from `load_model` (HookedTransformer or TransformerBridge). prompt: a `Prompt` or text. response: given text;
    default the prompt's own `response`, else the model's greedy continuation of at most `max_new_tokens` tokens.
    mode: "reverse" (one row per target), "forward" (one column per prompt token; not for saliency) or "auto" (the
    cheaper). batch_size: derivatives taken at a time; default from the memory at hand. contrast: for
    objective="contrastive", a token or one per target (default: the strongest other token at each position). steps:
    quadrature points of integrated gradients. prepend_bos: None keeps the tokenizer's own rule. progress: a bar when it
    takes long (True), none (False), or a function that is called with (done, all) after each batch.

    Returns a Dataset with score(source, target), unit: the objective's; coordinates source_token, source_id,
    source_start, source_stop (characters of attrs["prompt_text"]), target_token, target_id, target_start, target_stop
    (characters of attrs["response_text"]) and objective(target). An empty response gives no targets.

    Raises ProbeError (unknown option, non-finite numbers: names the layer), PromptError (longer than the context).
    """
    _refuse_unknown(method, mode, max_new_tokens, batch_size, steps)
    objective_function(objective)
    if contrast is not None and objective != "contrastive":
        raise ProbeError(f'contrast= is for objective="contrastive"; with objective={objective!r} it has no meaning.')
    prompt = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
    name = f"prompt {prompt.id!r}" if prompt.id else "the prompt"
    given = prompt.response if response is None else response
    with _no_parameter_gradients(model):
        encoded, how = with_response(
            model, prompt.text, given, max_new_tokens=max_new_tokens, prepend_bos=prepend_bos, name=name
        )
        task = _task(model, encoded, objective, contrast)
        mode = _resolve(mode, method, encoded)
        with late_bar("attribution", show=progress is True) as bar:
            tell = progress if callable(progress) else bar
            scores, objectives = scores_of(task, method, mode, batch_size, steps, tell, name)
    attrs = _attributes(model, prompt, encoded, how, method=method, objective_name=objective, mode=mode)
    extra: dict[str, Any] = {}
    if method == "integrated_gradients":
        extra = {"steps": steps, "completeness_error": completeness_error(task, scores, objectives)}
    return _dataset(encoded, scores, objectives, attrs | extra | {"max_new_tokens": max_new_tokens})


def _refuse_unknown(method: str, mode: str, max_new_tokens: int, batch_size: int | None, steps: int) -> None:
    for name, got, known in (("method", method, METHODS), ("mode", mode, MODES)):
        if got not in known:
            raise ProbeError(f"{name}={got!r} is unknown; expected one of {', '.join(known)}.")
    for name, number in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size), ("steps", steps)):
        if number is not None and number < 1:
            raise ProbeError(f"{name}={number}; expected at least 1.")
    if method == "saliency" and mode == "forward":
        raise ProbeError('saliency needs whole gradients, which mode="forward" does not compute; use mode="reverse".')


def _resolve(mode: str, method: str, encoded: Encoded) -> str:
    if mode != "auto":
        return mode
    shorter = len(encoded.prompt_ids) < len(encoded.response_ids)
    return "forward" if shorter and method != "saliency" else "reverse"


@contextmanager
def _no_parameter_gradients(model: Any) -> Iterator[None]:
    """Parameters that require gradients double the cost of every backward pass; the caller's setting is restored."""
    wanting = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)


def _task(model: Any, encoded: Encoded, objective: str, contrast: Any) -> Task:
    device = next(model.parameters()).device
    front, count = len(encoded.front), len(encoded.prompt_ids)
    tokens = torch.tensor(encoded.ids[:-1] if encoded.response_ids else encoded.ids, device=device)
    targets = torch.tensor(encoded.response_ids, dtype=torch.long, device=device)
    others = contrast_ids(contrast, source_of(model).tokenizer, encoded.response_ids)
    function = objective_function(objective)

    def at_targets(logits: torch.Tensor, which: slice) -> torch.Tensor:
        logits = logits if logits.dtype == torch.float64 else logits.float()
        wanted = targets[which]
        if others is None:
            against = runner_up(logits.detach(), wanted) if objective == "contrastive" else wanted
        else:
            against = torch.tensor(others[which], device=device)
        return function(logits, wanted, against)

    positions = torch.arange(len(targets), device=device) + front + count - 1
    return Task(model, tokens, slice(front, front + count), positions, at_targets)


def _attributes(model: Any, prompt: Prompt, encoded: Encoded, how: dict[str, str], **parameters: Any) -> dict[str, Any]:
    return provenance(
        "attribution",
        **source_attrs(model),
        prompt_id=prompt.id,
        prompt_group=prompt.group,
        prompt_text=encoded.prompt_text,
        response_text=encoded.response_text,
        front_tokens=len(encoded.front),
        **how,
        **parameters,
    )


def _dataset(
    encoded: Encoded, scores: Scores, objectives: Float[torch.Tensor, "target"], attrs: dict[str, Any]
) -> xr.Dataset:
    def strings(values: tuple[str, ...]) -> np.ndarray:
        return np.array(values, dtype=object)

    def whole(values: tuple[int, ...]) -> np.ndarray:
        return np.array(values, dtype=np.int64)

    return xr.Dataset(
        {"score": (("source", "target"), scores.detach().cpu().numpy(), {"method": attrs["method"]})},
        coords={
            "source_token": ("source", strings(encoded.prompt_tokens)),
            "source_id": ("source", whole(encoded.prompt_ids)),
            "source_start": ("source", whole(encoded.prompt_start)),
            "source_stop": ("source", whole(encoded.prompt_stop)),
            "target_token": ("target", strings(encoded.response_tokens)),
            "target_id": ("target", whole(encoded.response_ids)),
            "target_start": ("target", whole(encoded.response_start)),
            "target_stop": ("target", whole(encoded.response_stop)),
            "objective": ("target", objectives.detach().cpu().numpy()),
        },
        attrs=attrs,
    )
