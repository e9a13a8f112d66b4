"""What one model's run on real prompts looks like: a few numbers per prompt, layer and head, never whole activations.

1. Each prompt is read with its response (teacher forcing, `itlens.probes.running.forced`): ONE forward pass.
2. Each group of `hooks` is reduced inside its hooks, layer by layer, over the target positions, the ones that predict
   response tokens: "attention" (`attention_mass`), "mlp" (`mlp_sparsity`), "norms" (`activation_norms`), and "lens"
   (`lens`), which unembeds every layer after the pass. The user's own hook points get the user's own function.
3. What is kept per prompt is put on labelled axes. Differences and tests are `itlens.diff.activations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
import xarray as xr

from itlens.errors import ProbeError
from itlens.models import source_attrs, source_of
from itlens.models.memory import Trims
from itlens.probes.grid import whole_number
from itlens.probes.running.forced import Forced, forced, left_out_attrs
from itlens.probes.running.hooking import hook_points, run_hooked
from itlens.probes.running.lens import Lens
from itlens.probes.summaries.attention_mass import AttentionMass
from itlens.probes.summaries.dataset import activation_dataset
from itlens.probes.summaries.mlp_sparsity import MlpSparsity
from itlens.probes.summaries.named import OwnHooks
from itlens.probes.summaries.norms import Norms
from itlens.probes.summaries.summary import Summary, at_layers
from itlens.progress import late_bar
from itlens.provenance import provenance

GROUPS: dict[str, Callable[[Any], Summary]] = {
    "attention": AttentionMass,
    "mlp": MlpSparsity,
    "norms": Norms,
    "lens": Lens,
}


def activations(
    model: Any,
    prompts: Any,
    *,
    hooks: Any = tuple(GROUPS),
    reduce: Any = None,
    responses: Mapping[str, str] | None = None,
    format: str = "raw",
    max_new_tokens: int = 64,
    prepend_bos: bool | None = None,
    lens_positions: Any = None,
    progress: Any = True,
) -> xr.Dataset:
    """Summaries of a model's activations on prompts, per layer and head; see the module.

    model: from `load_model`. prompts: `Prompt` objects, or what `forced` made (then the options on texts are its own).
    hooks: groups, and hook points by name or pattern ("blocks.{layer}.hook_resid_mid"). reduce: function (value, one)
    of the activation at such a hook point (position, ...) and the prompt as it was read (`Forced`), giving a number or
    an array of the same shape every time; it must not change the value (attrs["reduce"] is its name, and only results
    of one name are compared). Default: root mean squares by class of token. responses: texts by prompt id; else the
    prompt's own, else the model's greedy continuation of at most `max_new_tokens` tokens (prompts where that is empty
    are left out, and attrs["left_out"] and ["note"] say so). format: see `format_prompts`. prepend_bos: None keeps the
    tokenizer's own rule. lens_positions: at how many targets per prompt, evenly spread, the lens reads, or "all";
    default what costs about half a forward pass, at least 2. progress: a bar when it takes long, none, or a function of
    (done, all) prompts.

    Returns a Dataset on (prompt, layer, head, token_class, hook), each statistic on some of them and described in its
    attrs["long_name"]; means over target positions; NaN where a class has no token that could be met. "attention":
    attention_mass, attention_lift, attention_entropy (nats), attention_entropy_share. "mlp": mlp_participation,
    mlp_zero, mlp_near_zero, mlp_relative_norm. "norms": resid_rms, head_z_norm, head_result_norm, head_relative_norm.
    "lens": lens_logprob (nats), lens_rank, lens_entropy (nats), lens_kl (nats), lens_agreement on (prompt, layer), and
    lens_commitment, lens_commitment_stays (layers) on (prompt). Own hook points: hook_rms, or hook_reduced. Coordinates
    on (prompt): group, targets (their number), lens_positions (how many of them the lens reads), response_source,
    finish, tokens_digest (the same where the same ids were read); on (prompt, token_class): tokens (their number),
    token_share (of what targets can read).

    Time: about one forward pass a prompt, and for "lens" one unembedding per layer and target that is read. Memory: a
    layer's activations and some 40 MB for "lens".

    Raises ProbeError: unknown groups and hook points (with the nearest names), numbers that are not finite (names the
    layer), reductions of changing shape; PromptError: see `itlens.probes.running.forced.forced`.
    """
    groups, own = _asked(model, hooks, reduce)
    if lens_positions not in (None, "all"):
        lens_positions = whole_number("lens_positions", lens_positions, 1)
    given = list(prompts) if isinstance(prompts, Iterable) and not isinstance(prompts, str) else [prompts]
    already = bool(given) and all(isinstance(one, Forced) for one in given)
    how: dict[str, Any] = {"format": format, "max_new_tokens": max_new_tokens, "prepend_bos": prepend_bos}
    texts = (
        _checked(model, given, responses, **how)
        if already
        else forced(model, given, responses=responses, progress=progress is True, **how)
    )
    lens = Lens(model, lens_positions)
    summaries: list[Summary] = [lens if name == "lens" else GROUPS[name](model) for name in groups]
    summaries += [OwnHooks(own, reduce)] if own else []
    everywhere = any(name.startswith("unembed") for name in own)
    rows = []
    with torch.no_grad(), late_bar("activations", show=progress is True) as bar:
        tell, trim = progress if callable(progress) else bar, Trims()
        for done, one in enumerate(texts, 1):
            rows.append(_one_prompt(model, one, summaries, everywhere))
            tell(done, len(texts))
            trim()
    read_of = prompts if already else texts  # a list of `Forced` may bring what was left out of it
    asked = {"hooks": ", ".join(groups + own)} | ({} if reduce is None else {"reduce": _name(reduce)})
    attrs = _attributes(model, **asked, **({} if already else how), **left_out_attrs(read_of))
    if "lens" not in groups:
        return activation_dataset(model, summaries, rows, texts, own, attrs)
    attrs["lens_positions"] = "default" if lens_positions is None else str(lens_positions)
    counts = ("prompt", np.array([lens.places(one).size for one in texts]))
    return activation_dataset(model, summaries, rows, texts, own, attrs).assign_coords(lens_positions=counts)


def _checked(model: Any, listed: list[Forced], responses: Any, **how: Any) -> list[Forced]:
    """Tokens that were made before, if this model can read them."""
    if responses is not None or how["format"] != "raw" or how["prepend_bos"] is not None:
        raise ProbeError("responses=, format= and prepend_bos= are for Prompt objects; these are tokens already.")
    ids = [one.id for one in listed]
    twice = next((id for id in ids if ids.count(id) > 1), None)
    if twice is not None:
        raise ProbeError(f"Two prompts have the id {twice!r}; give every prompt its own id.")
    vocabulary, context = int(model.cfg.d_vocab), source_of(model).context
    for one in listed:
        highest = max(*one.read, *one.targets)
        if highest >= vocabulary or len(one.read) > context:
            raise ProbeError(
                f"Prompt {one.id!r} was made for another model: {len(one.read)} tokens with ids up to {highest}, but "
                f"this one reads {context} tokens with ids below {vocabulary}."
            )
    return listed


def _asked(model: Any, hooks: Any, reduce: Any) -> tuple[list[str], list[str]]:
    """The groups and the full names of the hook points that were asked for."""
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
    points = hook_points(model, own)
    if not groups and not points:
        raise ProbeError(f"hooks= is empty; expected some of {', '.join(GROUPS)}, or names of hook points.")
    if reduce is not None and not (callable(reduce) and points):
        why = "hooks= names no hook point to apply it to" if callable(reduce) else "expected a function (value, one)"
        raise ProbeError(f"reduce={reduce!r}: {why}.")
    return groups, points


def _name(reduce: Any) -> str:
    return str(getattr(reduce, "__name__", type(reduce).__name__))


def _one_prompt(model: Any, one: Forced, summaries: list[Summary], everywhere: bool) -> dict[str, np.ndarray]:
    """All statistics of one prompt, from one forward pass."""

    def refuse(layer: int, value: torch.Tensor) -> None:
        if not bool(torch.isfinite(value).all()):
            raise ProbeError(
                f"Activations of layer {layer} are not finite on prompt {one.id!r}; load the model with "
                'dtype="float32" or check its weights.'
            )

    tokens = torch.tensor([one.read], device=next(model.parameters()).device)
    hooks = [*at_layers(model, "hook_resid_post", refuse), *(hook for s in summaries for hook in s.hooks(one))]
    positions = slice(None) if everywhere else [one.positions[0]]  # an own hook at the unembedding sees all positions
    logits = run_hooked(model, tokens, hooks, positions=positions)[0, one.positions[0] if everywhere else 0]
    if not bool(torch.isfinite(logits).all()):
        raise ProbeError(
            f"The logits are not finite on prompt {one.id!r} although all activations are; load the model with "
            'dtype="float32" or check its unembedding.'
        )
    return {name: value for summary in summaries for name, value in summary.values(one, logits).items()}


def _attributes(model: Any, **parameters: Any) -> dict[str, Any]:
    return provenance(
        "activations",
        **source_attrs(model),
        **parameters,
    )
