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

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
import xarray as xr
from einops import einsum
from jaxtyping import Float

from itlens.errors import ProbeError
from itlens.hooked.gradients import (
    Embeddings,
    Task,
    forward_blocks,
    read_embeddings,
    refuse_non_finite,
    reverse_blocks,
    target_logits,
)
from itlens.hooked.objectives import contrast_ids, objective_function, runner_up
from itlens.hooked.response import ResponseLike, with_response
from itlens.models import HookedModel, refuse_no_model, source_attrs, source_of
from itlens.models.memory import room_for, rows_at_a_time
from itlens.models.running import undisturbed
from itlens.progress import late_bar
from itlens.prompts import Prompt, format_prompts
from itlens.results.provenance import provenance, text_id
from itlens.tokenization import Encoded, Tokenizer

Method: TypeAlias = Literal["input_x_gradient", "saliency", "integrated_gradients"]
ObjectiveName: TypeAlias = Literal["prob", "logprob", "logit", "contrastive"]
Mode: TypeAlias = Literal["auto", "reverse", "forward"]
Progress: TypeAlias = Callable[[int, int], None]
Scores: TypeAlias = Float[torch.Tensor, "source target"]
Objectives: TypeAlias = Float[torch.Tensor, "target"]

METHODS: tuple[Method, ...] = get_args(Method)
MODES: tuple[Mode, ...] = get_args(Mode)


def attribute(
    model: HookedModel,
    prompt: Prompt | str,
    response: ResponseLike | None = None,
    *,
    method: Method = "input_x_gradient",
    objective: ObjectiveName = "prob",
    mode: Mode = "auto",
    format: str = "raw",
    tokenizer: Tokenizer | None = None,
    max_new_tokens: int = 200,
    batch_size: int | None = None,
    contrast: str | int | Sequence[str | int] | None = None,
    steps: int = 32,
    prepend_bos: bool | None = None,
    progress: Progress | bool = True,
) -> xr.Dataset:
    """Attribute every response token to the prompt tokens of one model.

    model: from `load_model` (HookedTransformer or TransformerBridge). prompt: a `Prompt` or text; without an id it gets
    one from its text. response: a text, or ids or a `Response` that a model generated; default the prompt's own
    `response`, else the model's greedy continuation of at most `max_new_tokens` tokens. format: "raw", "chat" or a text
    with {prompt}, as in `format_prompts`; tokenizer: whose chat template (default: the model's). mode: "reverse" (one
    row per target), "forward" (one column per prompt token; not for saliency) or "auto" (the cheaper). batch_size:
    derivatives computed at a time; default by memory. contrast: for objective="contrastive", a token or one per target
    (default: the strongest other token at each position). steps: quadrature points of integrated gradients.
    prepend_bos: None keeps the tokenizer's own rule. progress: a bar when it takes long (True), none (False), or a
    function that is called with (done, all) after each batch.

    Returns a Dataset with score(source, target), unit: the objective's; coordinates source_token, source_id,
    source_start, source_stop (characters of attrs["prompt_text"]), target_token, target_id, target_start, target_stop
    (characters of attrs["response_text"]) and objective(target). An empty response gives no targets.

    Raises ModelError (no loaded model), ProbeError (unknown option, non-finite numbers: names the layer), PromptError
    (longer than the context, a format that does not fit).
    """
    refuse_no_model(model, "attribute")
    _refuse_unknown(method, mode, max_new_tokens, batch_size, steps)
    objective_function(objective)
    if contrast is not None and objective != "contrastive":
        raise ProbeError(f'contrast= is for objective="contrastive"; with objective={objective!r} it has no meaning.')
    prompt = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
    if format != "raw":
        (prompt,) = format_prompts([prompt], format, tokenizer or source_of(model).tokenizer)
    name = f"prompt {prompt.id!r}" if prompt.id else "the prompt"
    given = prompt.response if response is None else response
    with undisturbed(model, derivatives=True):
        encoded, how = with_response(
            model, prompt.text, given, max_new_tokens=max_new_tokens, prepend_bos=prepend_bos, name=name
        )
        task = _task(model, encoded, objective, contrast)
        mode = _resolve(mode, method, encoded)
        with late_bar("attribution", show=progress is True) as bar:
            tell = progress if callable(progress) else bar
            scores, objectives = scores_of(task, method, mode, batch_size, steps, tell, name)
        extra: dict[str, Any] = {}
        if method == "integrated_gradients":
            extra = {"steps": steps, "completeness_error": completeness_error(task, scores, objectives)}
    attrs = _attributes(model, prompt, encoded, how, method=method, objective_name=objective, mode=mode)
    return _dataset(encoded, scores, objectives, attrs | extra | {"max_new_tokens": max_new_tokens})


def _refuse_unknown(method: Method, mode: Mode, max_new_tokens: int, batch_size: int | None, steps: int) -> None:
    for name, got, known in (("method", method, METHODS), ("mode", mode, MODES)):
        if got not in known:
            raise ProbeError(f"{name}={got!r} is unknown; expected one of {', '.join(known)}.")
    for name, number in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size), ("steps", steps)):
        if number is not None and number < 1:
            raise ProbeError(f"{name}={number}; expected at least 1.")
    if method == "saliency" and mode == "forward":
        raise ProbeError('saliency needs whole gradients, which mode="forward" does not compute; use mode="reverse".')


def _resolve(mode: Mode, method: Method, encoded: Encoded) -> Mode:
    if mode != "auto":
        return mode
    shorter = len(encoded.prompt_ids) < len(encoded.response_ids)
    return "forward" if shorter and method != "saliency" else "reverse"


def _task(
    model: HookedModel, encoded: Encoded, objective: ObjectiveName, contrast: str | int | Sequence[str | int] | None
) -> Task:
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


def _attributes(
    model: HookedModel, prompt: Prompt, encoded: Encoded, how: dict[str, str], **parameters: object
) -> dict[str, Any]:
    return provenance(
        "attribution",
        **source_attrs(model),
        prompt_id=prompt.id or text_id(prompt.text),
        prompt_group=prompt.group,
        prompt_text=encoded.prompt_text,
        response_text=encoded.response_text,
        front_tokens=len(encoded.front),
        **how,
        **parameters,
    )


def _dataset(encoded: Encoded, scores: Scores, objectives: Objectives, attrs: dict[str, Any]) -> xr.Dataset:
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


def scores_of(
    task: Task, method: Method, mode: Mode, batch_size: int | None, steps: int, progress: Progress | None, name: str
) -> tuple[Scores, Objectives]:
    """Return the scores (source, target) by one of the methods, and the objectives; none for an empty response.

    float32, or float64 for a float64 model, whatever the mode. name: of the prompt, for errors.
    """
    count = task.sources.stop - task.sources.start
    if len(task.positions) == 0:
        return torch.zeros(count, 0), torch.zeros(0)
    batch = batch_size or rows_at_a_time(task.model, len(task.tokens))
    rows = min(batch, count if mode == "forward" else len(task.positions))
    with room_for(task.model, name, len(task.tokens), rows=rows, recorded=mode != "forward", targets=rows):
        embeddings = read_embeddings(task)
        if method != "integrated_gradients":
            return _at_point(task, embeddings, embeddings, method, mode, batch, progress, name)
        return _along_path(task, embeddings, mode, batch, steps, progress, name)


def _along_path(
    task: Task, embeddings: Embeddings, mode: Mode, batch: int, steps: int, progress: Progress | None, name: str
) -> tuple[Scores, Objectives]:
    """Average input x gradient scores over points between zero and the prompt embeddings (integrated gradients)."""
    total: Scores | None = None
    for step, (share, weight) in enumerate(zip(*_quadrature(steps), strict=True)):
        point = embeddings.clone()
        point[task.sources] *= share
        scores, _ = _at_point(task, point, embeddings, "input_x_gradient", mode, batch, None, name)
        total = scores * weight if total is None else total + scores * weight
        _tell(progress, step + 1, steps)
    assert total is not None  # steps >= 1
    return total, _objectives(task, embeddings)


def _objectives(task: Task, embeddings: Embeddings) -> Objectives:
    with torch.no_grad():
        return task.at_targets(target_logits(task, embeddings), slice(0, len(task.positions)))


def completeness_error(task: Task, scores: Scores, objectives: Objectives) -> float:
    """Return the largest |sum of scores - (o(e) - o(0))| over targets, as a share of the largest change."""
    if len(task.positions) == 0:
        return 0.0
    empty = read_embeddings(task)
    empty[task.sources] = 0
    change = objectives - _objectives(task, empty)
    return float((scores.sum(0) - change).abs().max() / change.abs().max().clamp(min=1e-12))


def _quadrature(steps: int) -> tuple[list[float], list[float]]:
    """Return Gauss-Legendre points and weights on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    return [float(point + 1) / 2 for point in points], [float(weight) / 2 for weight in weights]


def _at_point(
    task: Task,
    point: Embeddings,
    embeddings: Embeddings,
    method: Method,
    mode: Mode,
    batch: int,
    progress: Progress | None,
    name: str,
) -> tuple[Scores, Objectives]:
    """Return scores with derivatives at `point`, multiplied (where the method does) by `embeddings`."""
    directions = embeddings[task.sources]
    wide = directions.dtype if directions.dtype == torch.float64 else torch.float32
    scores = torch.zeros(len(directions), len(task.positions), dtype=wide, device=directions.device)
    objectives = torch.zeros(len(task.positions), dtype=wide, device=directions.device)
    if mode == "forward":
        for block, columns, values in forward_blocks(task, point, directions, batch):
            refuse_non_finite(task, columns, name)
            scores[block], objectives[:] = columns, values
            _tell(progress, block.stop, len(directions))
        return scores, objectives
    for block, rows, values in reverse_blocks(task, point, batch):
        refuse_non_finite(task, rows, name)
        if method == "saliency":
            scores[:, block] = torch.linalg.vector_norm(rows, dim=-1).T
        else:
            wider = directions.to(wide)
            scores[:, block] = einsum(rows, wider, "target source d_model, source d_model -> source target")
        objectives[block] = values
        _tell(progress, block.stop, len(task.positions))
    return scores, objectives


def _tell(progress: Progress | None, done: int, everything: int) -> None:
    if progress is not None:
        progress(done, everything)
