"""Attention patterns for a report: of a few prompts, the heads whose attention differs most between the two models.

1. Heads: those with the largest mean divergence of their patterns over all prompts (`pattern_jsd` of the shift).
2. Prompts: those of at most `LONGEST` tokens first, one of each group before a second one of any, in the order of the
   study. A longer one is cut to its first `LONGEST` tokens, and the result says so.
3. Each model reads each of them once, with its response, on the same tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.base import SIDES
from itlens.hooked.patterns import patterns_of, read_texts
from itlens.hooked.tokens import Forced
from itlens.models import HookedModel, ModelPair, source_attrs, source_of
from itlens.results.provenance import provenance

PROMPTS = 4
HEADS = 12
LONGEST = 100  # tokens of a prompt and its response


def changed_heads(shift: xr.Dataset, count: int = HEADS) -> list[tuple[int, int]]:
    """Return (layer, head) of the heads whose patterns differ most, by their mean over prompts, the largest first.

    shift: of `itlens.activation_shift` with "pattern". Raises ProbeError for one without.
    """
    if "pattern_jsd" not in shift:
        raise ProbeError("changed_heads needs an activation shift with the kind 'pattern'; this one has none.")
    mean = shift["pattern_jsd"].mean("prompt").stack(place=("layer", "head"))
    known = mean[np.isfinite(mean.values)]
    order = np.argsort(-known.values, kind="stable")[:count]
    layers, heads = (known[name].values[order] for name in ("layer", "head"))
    return [(int(layer), int(head)) for layer, head in zip(layers, heads, strict=True)]


def prompts_to_show(prompts: Sequence[Forced], count: int = PROMPTS, longest: int = LONGEST) -> list[Forced]:
    """Return the prompts that a report shows, in the order of the study; see the module, step 2."""
    seen: Counter[str] = Counter()
    order = []
    for place, prompt in enumerate(prompts):
        fits = len(prompt.read) <= longest
        order.append((not fits, seen[prompt.group] if fits else 0, place))
        seen[prompt.group] += fits
    return [prompts[place] for place in sorted(place for *_, place in sorted(order)[:count])]


def shown_patterns(
    pair: ModelPair,
    prompts: Sequence[Forced],
    heads: Sequence[tuple[int, int]],
    *,
    longest: int = LONGEST,
    progress: Callable[[int, int], None] = lambda done, everything: None,
) -> xr.Dataset:
    """Return the patterns of some heads on some prompts, of both models on the same tokens.

    heads: (layer, head), in the order in which they are shown.

    Returns a Dataset with pattern(prompt, model, place, query, key), float32, rounded to 1e-4: the share of its
    attention that the token `query` gives to the token `key`; 0 beyond a prompt's length. Coordinates: layer(place),
    head(place), group(prompt), token(prompt, query), length(prompt), tokens that are shown; whole(prompt), tokens that
    there are.

    Raises ProbeError where nothing is asked for.
    """
    if not prompts or not heads:
        raise ProbeError(f"shown_patterns got {len(prompts)} prompts and {len(heads)} heads; give one of each.")
    lengths = [min(longest, len(prompt.read)) for prompt in prompts]
    size = max(lengths)
    values = np.zeros((len(prompts), len(SIDES), len(heads), size, size), dtype=np.float32)
    texts = np.full((len(prompts), size), "", dtype=object)
    attrs: dict[str, object] = {}

    def of_model(model: HookedModel, side: int, done: int) -> None:  # lets go of the model when it returns
        attrs.update({f"{SIDES[side]}_{key}": value for key, value in source_attrs(model).items()})
        for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
            values[row, side, :, :length, :length] = _of_prompt(model, prompt, heads, length)
            tokens = read_texts(prompt.encoded, source_of(model).tokenizer)
            texts[row, :length] = tokens[:length]
            progress(done + row + 1, len(SIDES) * len(prompts))

    of_model(pair.tuned, 1, 0)  # first, since the shift of a study ends with it in memory
    of_model(pair.base, 0, len(prompts))
    return xr.Dataset(
        {"pattern": (("prompt", "model", "place", "query", "key"), values.round(4))},
        coords={
            "prompt": np.array([prompt.id for prompt in prompts], dtype=object),
            "group": ("prompt", np.array([prompt.group for prompt in prompts], dtype=object)),
            "length": ("prompt", np.array(lengths)),
            "whole": ("prompt", np.array([len(prompt.read) for prompt in prompts])),
            "model": list(SIDES),
            "layer": ("place", np.array([layer for layer, _ in heads])),
            "head": ("place", np.array([head for _, head in heads])),
            "token": (("prompt", "query"), texts),
        },
        attrs=provenance("shown_patterns", **attrs),
    )


def _of_prompt(model: HookedModel, prompt: Forced, heads: Sequence[tuple[int, int]], length: int) -> np.ndarray:
    """Return (place, query, key) of one model on one prompt."""
    layers = sorted({layer for layer, _ in heads})
    of_layer = {layer: [head for other, head in heads if other == layer] for layer in layers}
    kept = patterns_of(model, prompt.read[:length], of_layer, f"prompt {prompt.id!r}")
    return np.stack([kept[layer][of_layer[layer].index(head)] for layer, head in heads])
