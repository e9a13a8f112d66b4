"""What one model's run on real prompts looks like: a few numbers per prompt, layer and head, never whole activations.

1. Each prompt is read with its response (teacher forcing, `itlens.hooked.tokens`): ONE forward pass.
2. Each group of `hooks` is reduced inside its hooks, layer by layer, over the target positions, the ones that predict
   response tokens: "attention", "mlp" and "norms" (`probe_statistics`), and "lens" (`itlens.hooked.lens`), which
   unembeds every layer after the pass. The user's own hook points get the user's own function (`probe_hooks`).
3. What is kept per prompt is put on labelled axes. Differences and tests are `itlens.diff.activations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.activation.probe_hooks import OwnHooks, OwnPoints, Reduction, checked_axes, reduction_name
from itlens.findings.activation.probe_statistics import AttentionMass, MlpSparsity, Norms, class_shares
from itlens.hooked.hooks import Summary, at_layers, run_hooked
from itlens.hooked.lens import Lens
from itlens.hooked.tokens import CLASSES, Forced, forced, left_out_attrs
from itlens.models import HookedModel, refuse_no_model, source_attrs, source_of
from itlens.models.memory import Trims, room_for
from itlens.models.running import undisturbed
from itlens.progress import late_bar
from itlens.results.provenance import provenance
from itlens.selection import whole_number

if TYPE_CHECKING:
    from itlens.hooked.response import ResponseLike
    from itlens.prompts import PromptsLike

GROUPS: dict[str, Callable[[HookedModel], Summary]] = {
    "attention": AttentionMass,
    "mlp": MlpSparsity,
    "norms": Norms,
    "lens": Lens,
}


def activations(
    model: HookedModel,
    prompts: PromptsLike | Sequence[Forced],
    *,
    hooks: str | Sequence[str] = tuple(GROUPS),
    reduce: Reduction | None = None,
    axes: str | Sequence[str] = (),
    responses: Mapping[str, ResponseLike] | None = None,
    format: str = "raw",
    max_new_tokens: int = 64,
    prepend_bos: bool | None = None,
    lens_positions: int | Literal["all"] | None = None,
    progress: bool | Callable[[int, int], None] = True,
) -> xr.Dataset:
    """Summarise a model's activations on prompts, per layer and head; see the module.

    model: from `load_model`. prompts: texts, `Prompt` objects, or what `forced` made (then the options on texts are its
    own). hooks: groups, and hook points by name or pattern ("blocks.{layer}.hook_resid_mid"). reduce: function (value,
    prompt) of the activation at such a hook point (position, ...) and the prompt as it was read (`Forced`), giving a
    number or an array of the same shape every time; it must not change the value (attrs["reduce"] is its name, and only
    results of one name are compared). Default: root mean squares by class of token. axes: names of the axes of that
    array, such as "feature", or "head" where it has a number per head. responses: texts by prompt id; else the prompt's
    own, else the model's greedy continuation of at most `max_new_tokens` tokens (prompts where that is empty are left
    out, see attrs["left_out"] and ["note"]). format: see `format_prompts`. prepend_bos: None keeps the tokenizer's own
    rule. lens_positions: number of targets per prompt, evenly spread, that the lens reads, or "all"; default what costs
    about half a forward pass, at least 2. progress: a bar when it takes long, none, or a function of (done, all)
    prompts.

    Returns a Dataset on (prompt, layer, head, token_class, hook), each statistic on some of them and described in its
    attrs["long_name"]; means over target positions; NaN where a class has no token that could be met. "attention":
    attention_mass, attention_lift, attention_entropy (nats), attention_entropy_share. "mlp": mlp_participation,
    mlp_zero, mlp_near_zero, mlp_relative_norm. "norms": resid_rms, head_z_norm, head_result_norm, head_relative_norm.
    "lens": lens_logprob (nats), lens_rank, lens_entropy (nats), lens_kl (nats), lens_agreement on (prompt, layer), and
    lens_commitment, lens_commitment_stays (layers) on (prompt). Own hook points: hook_rms or hook_reduced on (prompt,
    hook, ...), and on (prompt, hook, layer, ...) where every name holds {layer}. Coordinates on (prompt): group,
    targets (their number), lens_positions (how many of them the lens reads), response_source, finish, tokens_digest
    (the same where the same ids were read); on (prompt, token_class): tokens (their number), token_share (of what
    targets can read).

    Time: about one forward pass a prompt, and for "lens" one unembedding per layer and target that is read. Memory: a
    layer's activations and some 40 MB for "lens".

    Raises ModelError for anything but a loaded model; ProbeError: unknown groups and hook points (with the nearest
    names), numbers that are not finite (names the layer), reductions of changing shape; PromptError: see
    `itlens.hooked.tokens.forced`.
    """
    refuse_no_model(model, "activations")
    groups, own = _checked_hooks(model, hooks, reduce)
    axes = checked_axes(axes, reduce)
    if lens_positions not in (None, "all"):
        lens_positions = whole_number("lens_positions", lens_positions, 1)
    given: list[Any] = list(prompts) if isinstance(prompts, Iterable) and not isinstance(prompts, str) else [prompts]
    already = bool(given) and all(isinstance(prompt, Forced) for prompt in given)
    how: dict[str, Any] = {"format": format, "max_new_tokens": max_new_tokens, "prepend_bos": prepend_bos}
    with undisturbed(model):
        texts = (
            _checked_tokens(model, given, responses, **how)
            if already
            else forced(model, given, responses=responses, progress=progress is True, **how)
        )
        lens = Lens(model, lens_positions)
        summaries: list[Summary] = [lens if name == "lens" else GROUPS[name](model) for name in groups]
    summaries += [OwnHooks(own, reduce, axes, heads=model.cfg.n_heads)] if own.points else []
    everywhere = any(name.startswith("unembed") for name in own.points)
    rows = []
    with undisturbed(model), torch.no_grad(), late_bar("activations", show=progress is True) as bar:
        tell, trim = progress if callable(progress) else bar, Trims()
        for done, prompt in enumerate(texts, 1):
            with room_for(model, f"prompt {prompt.id!r}", len(prompt.read)):
                rows.append(_one_prompt(model, prompt, summaries, everywhere))
            tell(done, len(texts))
            trim()
    read_from: Any = prompts if already else texts  # a list of `Forced` may bring what was left out of it
    left_out = left_out_attrs(read_from)
    settings = {"hooks": ", ".join((*groups, *own.labels))}
    settings |= {} if reduce is None else {"reduce": reduction_name(reduce)}
    attrs = provenance("activations", **source_attrs(model), **settings, **({} if already else how), **left_out)
    if "lens" not in groups:
        return _dataset(model, summaries, rows, texts, own.labels, attrs)
    attrs["lens_positions"] = "default" if lens_positions is None else str(lens_positions)
    ds = _dataset(model, summaries, rows, texts, own.labels, attrs)
    counts = np.array([lens.places(prompt).size for prompt in texts])
    with_counts: xr.Dataset = ds.assign_coords(lens_positions=("prompt", counts))
    return with_counts


def _checked_hooks(model: HookedModel, hooks: object, reduce: object) -> tuple[list[str], OwnPoints]:
    """Return the groups and the hook points that were requested."""
    if not isinstance(hooks, Iterable):
        raise ProbeError(f"hooks={hooks!r}; expected some of {', '.join(GROUPS)}, or names of hook points.")
    names = [hooks] if isinstance(hooks, str) else list(hooks)
    groups = [name for name in GROUPS if name in names]
    own = [name for name in names if not (isinstance(name, str) and name in GROUPS)]
    for name in own:
        if isinstance(name, str) and not any(mark in name for mark in (".", "hook", "*")):
            near = get_close_matches(name, GROUPS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ProbeError(
                f"hooks= holds {name!r}; {hint}expected {', '.join(GROUPS)}, or names of hook points such as "
                '"blocks.{layer}.hook_resid_mid".'
            )
    points = OwnPoints.of(model, own)
    if not groups and not points.points:
        raise ProbeError(f"hooks= is empty; expected some of {', '.join(GROUPS)}, or names of hook points.")
    if reduce is not None and not (callable(reduce) and points.points):
        why = "hooks= names no hook point to apply it to" if callable(reduce) else "expected a function (value, prompt)"
        raise ProbeError(f"reduce={reduce!r}: {why}.")
    return groups, points


def _checked_tokens(model: HookedModel, listed: list[Forced], responses: object, **how: object) -> list[Forced]:
    """Return tokens that were made before, if this model can read them."""
    if responses is not None or how["format"] != "raw" or how["prepend_bos"] is not None:
        raise ProbeError("responses=, format= and prepend_bos= are for prompts; these are tokens already.")
    ids = [prompt.id for prompt in listed]
    twice = next((id for id in ids if ids.count(id) > 1), None)
    if twice is not None:
        raise ProbeError(f"Two prompts have the id {twice!r}; give every prompt its own id.")
    vocabulary, context = int(model.cfg.d_vocab), source_of(model).context
    for prompt in listed:
        highest = max(*prompt.read, *prompt.targets)
        if highest >= vocabulary or len(prompt.read) > context:
            raise ProbeError(
                f"Prompt {prompt.id!r} was made for another model: {len(prompt.read)} tokens with ids up to {highest}, "
                f"but this one reads {context} tokens with ids below {vocabulary}."
            )
    return listed


def _one_prompt(
    model: HookedModel, prompt: Forced, summaries: list[Summary], everywhere: bool
) -> dict[str, np.ndarray]:
    """Return all statistics of one prompt, from one forward pass."""

    def refuse(layer: int, value: torch.Tensor) -> None:
        if not bool(torch.isfinite(value).all()):
            raise ProbeError(
                f"Activations of layer {layer} are not finite on prompt {prompt.id!r}; load the model with "
                'dtype="float32" or check its weights.'
            )

    tokens = torch.tensor([prompt.read], device=next(model.parameters()).device)
    hooks = [*at_layers(model, "hook_resid_post", refuse), *(hook for s in summaries for hook in s.hooks(prompt))]
    positions = slice(None) if everywhere else [prompt.positions[0]]  # own hooks at the unembedding see all positions
    logits = run_hooked(model, tokens, hooks, positions=positions)[0, prompt.positions[0] if everywhere else 0]
    if not bool(torch.isfinite(logits).all()):
        raise ProbeError(
            f"The logits are not finite on prompt {prompt.id!r} although all activations are; load the model with "
            'dtype="float32" or check its unembedding.'
        )
    return {name: value for summary in summaries for name, value in summary.values(prompt, logits).items()}


def _dataset(
    model: HookedModel,
    summaries: Sequence[Summary],
    rows: Sequence[dict[str, np.ndarray]],
    texts: Sequence[Forced],
    labels: Sequence[str],
    attrs: dict[str, object],
) -> xr.Dataset:
    """Put one row of numbers per prompt on labelled axes. Raises ProbeError for a statistic that overflowed."""
    variables = {}
    for summary in summaries:
        for name, dims in summary.dims.items():
            values = np.stack([row[name] for row in rows])
            _refuse_infinite(values, dims, name, texts)
            variables[name] = (("prompt", *dims), values, {"long_name": summary.names[name]})
    ds: xr.Dataset = xr.Dataset(variables, coords=_prompt_coordinates(texts), attrs=attrs)
    own = {
        "layer": np.arange(model.cfg.n_layers),
        "head": np.arange(model.cfg.n_heads),
        "hook": np.array(labels, dtype=np.str_),
    }
    ds = ds.assign_coords({name: values for name, values in own.items() if name in ds.dims})
    return ds


def _refuse_infinite(values: np.ndarray, dims: tuple[str, ...], name: str, texts: Sequence[Forced]) -> None:
    wrong = np.argwhere(np.isinf(values))
    if len(wrong):
        layer = f" of layer {wrong[0][1]}" if dims[:1] == ("layer",) else ""
        raise ProbeError(
            f"{name}{layer} is not finite on prompt {texts[wrong[0][0]].id!r}; check the weights there, or load the "
            'model with dtype="float32".'
        )


def _prompt_coordinates(texts: Sequence[Forced]) -> dict[str, object]:
    def strings(values: list[str]) -> tuple[str, np.ndarray]:
        return "prompt", np.array(values, dtype=np.str_)

    counts = np.array([np.bincount(prompt.classes, minlength=len(CLASSES)) for prompt in texts])
    return {
        "prompt": strings([prompt.id for prompt in texts]),
        "token_class": np.array(CLASSES, dtype=np.str_),
        "group": strings([prompt.group for prompt in texts]),
        "targets": ("prompt", np.array([len(prompt.targets) for prompt in texts])),
        "response_source": strings([prompt.source for prompt in texts]),
        "finish": strings([prompt.finish for prompt in texts]),
        "tokens_digest": strings([prompt.digest for prompt in texts]),
        "tokens": (("prompt", "token_class"), counts),
        "token_share": (("prompt", "token_class"), np.array([class_shares(prompt) for prompt in texts])),
    }
