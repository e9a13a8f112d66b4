"""Attention patterns of one text: how much of its attention each token (query) gives to each before it (key)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import xarray as xr

from itlens.errors import PromptError
from itlens.hooked.hooks import at_layers, run_hooked, wide
from itlens.hooked.pair_inputs import as_pair
from itlens.models import HookedModel, ModelPair, refuse_no_model, source_attrs, source_of
from itlens.models.memory import room_for
from itlens.models.running import undisturbed
from itlens.prompts import Prompt
from itlens.prompts.formats import format_prompts
from itlens.results.provenance import provenance
from itlens.selection import Numbers, chosen
from itlens.tokenization import Encoded, Tokenizer, encode, refuse_beyond

_WHO = ("model", "revision", "adapter")
LONGEST = 512  # tokens: 512 x 512 numbers a head are what a page can draw


def attention_patterns(
    model: HookedModel | ModelPair | Sequence[Any],
    prompt: Prompt | str,
    layer: Numbers = None,
    head: Numbers = None,
    *,
    response: str | None = None,
    format: str = "raw",
    prepend_bos: bool | None = None,
    longest: int = LONGEST,
) -> xr.Dataset:
    """Return the attention patterns of one model, or of base and tuned on the same tokens, for one text.

    model: from `load_model`, or a `load_pair` or (base, tuned). prompt: a `Prompt` or text. layer, head:
    a number or several; None for all. response: read after the prompt; default the prompt's own `response`, if any.
    format: "raw", "chat" or a text with {prompt}, as in `format_prompts`. longest: tokens; a longer text is cut there,
    and attrs["note"] says so.

    Returns a Dataset with pattern(layer, head, query, key), float32: the share of its attention that the token `query`
    gives to the token `key`, so that rows sum to 1; of a pair with the axis model ("base", "tuned") in front.
    Coordinates: token(query) and key_token(key), both the same texts, and token_id(query).

    Raises ModelError (no loaded model), ProbeError (no such layer or head), PromptError (longer than the context, or
    two models that read the text as different tokens).
    """
    if not isinstance(model, (ModelPair, tuple, list)):
        return _of_one(cast(HookedModel, model), prompt, layer, head, response, format, prepend_bos, longest)
    found: dict[str, xr.Dataset] = {}
    pair = as_pair(model)
    for side in ("base", "tuned"):
        one = pair.base if side == "base" else pair.tuned
        found[side] = _of_one(one, prompt, layer, head, response, format, prepend_bos, longest)
    _refuse_other_tokens(found)
    both = xr.concat(
        [found[side].drop_attrs() for side in found], xr.DataArray(list(found), dims="model", name="model")
    )
    base, tuned = (found[side].attrs for side in found)
    both.attrs = {name: value for name, value in tuned.items() if name not in ("model", "revision", "adapter")}
    both.attrs |= {f"{side}_{name}": each[name] for side, each in (("base", base), ("tuned", tuned)) for name in _WHO}
    return both


def _of_one(
    model: HookedModel,
    prompt: Prompt | str,
    layer: Numbers,
    head: Numbers,
    response: str | None,
    format: str,
    prepend_bos: bool | None,
    longest: int,
) -> xr.Dataset:
    refuse_no_model(model, "attention_patterns")
    source = source_of(model)
    prompt = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
    if format != "raw":
        (prompt,) = format_prompts([prompt], format, source.tokenizer)
    encoded = encode(source.tokenizer, prompt.text, response or prompt.response, prepend_bos=prepend_bos)
    layers = chosen("layer", layer, model.cfg.n_layers)
    heads = chosen("head", head, model.cfg.n_heads)
    name = f"prompt {prompt.id!r}" if prompt.id else "the prompt"
    refuse_beyond(encoded, source.tokenizer, model.cfg.d_vocab, name, source.name)
    ids, texts = encoded.ids[:longest], read_texts(encoded, source.tokenizer)[:longest]
    if len(ids) > source.context:
        raise PromptError(
            f"The text is {len(ids)} tokens long; {source.name} reads at most {source.context}: shorten it."
        )
    if not ids:
        raise PromptError("The text has no token; give a prompt.")
    kept = patterns_of(model, ids, dict.fromkeys(layers, heads), name)
    cut = len(encoded.ids) - len(ids)
    note = f"cut to the first {len(ids)} of {len(encoded.ids)} tokens" if cut else ""
    attrs = provenance("attention_patterns", prompt_id=prompt.id, prompt_text=encoded.prompt_text, note=note)
    return xr.Dataset(
        {"pattern": (("layer", "head", "query", "key"), np.stack([kept[number] for number in layers]))},
        coords={
            "layer": layers,
            "head": heads,
            "token": ("query", np.array(texts, dtype=object)),
            "token_id": ("query", np.array(ids)),
            "key_token": ("key", np.array(texts, dtype=object)),
        },
        attrs={**attrs, **source_attrs(model)},
    )


def patterns_of(
    model: HookedModel, ids: Sequence[int], heads: Mapping[int, Sequence[int]], name: str
) -> dict[int, np.ndarray]:
    """Return by layer the patterns of some of its heads, (head, query, key), float32, of one forward pass over `ids`.

    heads: by layer. name: of the text, for the error where the memory does not suffice.
    """
    kept: dict[int, np.ndarray] = {}

    def keep(layer: int, value: torch.Tensor) -> None:
        kept[layer] = wide(value[0, list(heads[layer])]).cpu().numpy().astype(np.float32)

    hooks = [hook for layer, hook in enumerate(at_layers(model, "attn.hook_pattern", keep)) if layer in heads]
    with undisturbed(model), torch.no_grad(), room_for(model, name, len(ids)):
        run_hooked(model, torch.tensor([list(ids)], device=next(model.parameters()).device), hooks)
    return kept


def read_texts(encoded: Encoded, tokenizer: Tokenizer) -> list[str]:
    """Return the text of every token that is read; of special tokens in front their names."""
    front = [str(name) for name in tokenizer.convert_ids_to_tokens(list(encoded.front))]
    return [*front, *encoded.prompt_tokens, *encoded.response_tokens]


def _refuse_other_tokens(found: Mapping[str, xr.Dataset]) -> None:
    base, tuned = (found[side]["token_id"].values.tolist() for side in ("base", "tuned"))
    if base != tuned:
        raise PromptError(
            f"Base and tuned read the text as different tokens ({len(base)} and {len(tuned)}), so their patterns "
            "have no difference; look at each model by itself."
        )
