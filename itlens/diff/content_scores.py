"""Attributions of formatted prompts, seen on the prompt's own text: what a chat template wrote is set apart.

1. A token is content when its characters lie in, or overlap, the prompt's own text (`Framed.body`).
2. Its characters are counted in the ORIGINAL text again: character c of it stands at body[0] + c - cut of what the
   model read. So maps of one prompt with and without a template align by characters, whatever tokens were made of it.
3. Scores are levelled after that (`itlens.density`): content is compared with content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.density import (
    importance_density,
    overlaps,
    source_ranges,
    span_mask,
    span_score,
    target_share,
)
from itlens.errors import ResultError

if TYPE_CHECKING:
    from itlens.prompts import Prompt
    from itlens.prompts.formats import Framed

_REMEDY = "frame the same prompts with the same template as were attributed"


def content_only(ds: xr.Dataset, framed: Framed, prompt: Prompt) -> xr.Dataset:
    """The result with only the tokens of the prompt's own text, placed in that text.

    ds: of `itlens.attribute` on `framed.prompt`. framed: of `itlens.prompts.frame_prompts`. prompt: the original one.
    source_start and source_stop count in `prompt.text`, which attrs["prompt_text"] then is. A token that straddles
    (a template's space and a word) keeps its characters in the prompt. Raises ResultError when the three do not match.
    """
    inside, (_, start, stop) = _content(ds, framed), source_ranges(ds)
    first, last = framed.body
    if framed.prompt.text[first:last] != prompt.text[framed.cut : framed.cut + last - first]:
        raise ResultError(f"Prompt {prompt.id!r}: the formatted prompt is not made of this original; {_REMEDY}.")
    shift = framed.cut - first
    ranges = {
        name: ("source", (np.clip(values, first, last) + shift)[inside])
        for name, values in (("source_start", start), ("source_stop", stop))
    }
    return ds.isel(source=np.flatnonzero(inside)).assign_coords(ranges).assign_attrs(prompt_text=prompt.text)


def template_share(ds: xr.Dataset, framed: Framed, levels: int = 10, threshold: int = 7) -> float:
    """Which share (0..1) of the levelled importance lies on tokens outside the prompt's own text: mean over targets.

    Levels are of all tokens together. NaN where nothing is important (an empty response).
    """
    outside = xr.DataArray(~_content(ds, framed), dims="source")
    share = target_share(ds, outside, levels, threshold).values
    return float(np.nanmean(share)) if np.isfinite(share).any() else np.nan


def prompt_scores(
    results: Any,
    prompts: Iterable[Prompt],
    framed: Iterable[Framed] | None = None,
    *,
    levels: int = 10,
    threshold: int = 7,
    p: float = 4,
) -> pd.DataFrame:
    """One model's attributions as a table, a row per prompt: id, group, instruction_score, response_tokens,
    template_share.

    results: Datasets of `itlens.attribute`, a list or a mapping from prompt ids. prompts: the originals, which say
    where the instruction is; there may be more. framed: how the model read them (`itlens.prompts.frame_prompts`); None:
    as they are, and template_share is 0. instruction_score: of the content tokens alone (`itlens.span_score`).

    Raises ResultError: a result without a prompt, or of another text, prompts without an instruction.
    """
    by_id = {prompt.id: prompt for prompt in prompts}
    frames = None if framed is None else {one.prompt.id: one for one in framed}
    rows = [
        _row(id, ds, by_id, frames, levels=levels, threshold=threshold, p=p)
        for id, ds in listed_results(results).items()
    ]
    return pd.DataFrame(rows)


def listed_results(results: Any) -> dict[str, xr.Dataset]:
    """Results by prompt id, in order. Raises ResultError for anything else, missing ids and ids that come twice."""
    if isinstance(results, xr.Dataset) or not isinstance(results, (Mapping, Iterable)):
        raise ResultError("Expected results of itlens.attribute in a list, or a mapping from prompt ids.")
    pairs = list(results.items()) if isinstance(results, Mapping) else [("", ds) for ds in results]
    found: dict[str, xr.Dataset] = {}
    for key, ds in pairs:
        id = str(ds.attrs.get("prompt_id", "") or key)
        if not id or (key and key != id) or id in found:
            raise ResultError(
                f"The results hold {key or id!r} twice, without an id or under another's; name each once."
            )
        found[id] = ds
    if not found:
        raise ResultError("There are no results: the list is empty.")
    return found


def _row(
    id: str, ds: xr.Dataset, prompts: Mapping[str, Prompt], frames: Mapping[str, Framed] | None, **how: Any
) -> dict[str, Any]:
    if id not in prompts or (frames is not None and id not in frames):
        raise ResultError(
            f"The result of prompt {id!r} has no prompt (or no framed one); pass the prompts it was made of."
        )
    prompt, share = prompts[id], 0.0
    if frames is not None:
        share = template_share(ds, frames[id], how["levels"], how["threshold"])
        ds = content_only(ds, frames[id], prompt)
    mask = span_mask(ds, prompt)
    if not mask.any():
        raise ResultError(f"Prompt {id!r} has no instruction tokens: mark its instruction, or leave the prompt out.")
    score = span_score(importance_density(ds, how["levels"], how["threshold"], how["p"]), mask)
    tokens = int(ds.sizes["target"])
    return {
        "id": id, "group": prompt.group, "instruction_score": score, "response_tokens": tokens, "template_share": share,
    }  # fmt: skip


def _content(ds: xr.Dataset, framed: Framed) -> np.ndarray:
    text, start, stop = source_ranges(ds)
    first, last = framed.body
    if text != framed.prompt.text:
        raise ResultError(
            f"Prompt {framed.prompt.id!r}: the result is of another text than the formatted one; {_REMEDY}."
        )
    return overlaps(text, start, stop, [framed.body]) | ((start >= first) & (stop <= last))
