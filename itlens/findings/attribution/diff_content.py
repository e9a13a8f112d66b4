"""Attributions of formatted prompts, restricted to the prompt's own text: what a chat template wrote is left out.

1. A token is content when its characters are within, or overlap, the prompt's own text (`Framed.body`).
2. Its characters are counted in the ORIGINAL text again: character c of it is at body[0] + c - cut of what the model
   read. So maps of one prompt with and without a template align by characters, whatever tokens were made of it.
3. Scores are levelled after that (`itlens.results.density`): content is compared with content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.attribution.diff_align import Results, prompts_by_id, results_by_id
from itlens.results.density import importance_density, overlaps, source_ranges, span_mask, span_score, target_share

if TYPE_CHECKING:
    from itlens.prompts import Prompt
    from itlens.prompts.formats import Framed


_REMEDY = "frame the same prompts with the same template as were attributed"


def content_only(ds: xr.Dataset, framed: Framed, prompt: Prompt) -> xr.Dataset:
    """Return the result with only the tokens of the prompt's own text, located in that text.

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
    """Return the share (0..1) of the levelled importance on tokens outside the prompt's own text: mean over targets.

    Levels are of all tokens together. NaN where nothing is important (an empty response).
    """
    outside = xr.DataArray(~_content(ds, framed), dims="source")
    share = target_share(ds, outside, levels, threshold).values
    return float(np.nanmean(share)) if np.isfinite(share).any() else np.nan


def prompt_scores(
    results: Results,
    prompts: Iterable[Prompt],
    framed: Iterable[Framed] | None = None,
    *,
    levels: int = 10,
    threshold: int = 7,
    p: float = 4,
) -> pd.DataFrame:
    """Return one model's attributions as a table: id, group, instruction_score, response_tokens, template_share.

    results: Datasets of `itlens.attribute`, a list or a mapping from prompt ids. prompts: the originals, which say
    where the instruction is; there may be more. framed: how the model read them (`itlens.prompts.frame_prompts`); None:
    as they are, and template_share is 0. instruction_score: of the content tokens alone (`itlens.span_score`).

    Raises ResultError: a result without a prompt, or of another text, prompts without an instruction.
    """
    originals = prompts_by_id(prompts)
    frames = None if framed is None else {frame.prompt.id: frame for frame in framed}
    by_id = results_by_id(results)
    if not by_id:
        raise ResultError("There are no results: the list is empty.")
    rows = [_row(id, ds, originals, frames, levels=levels, threshold=threshold, p=p) for id, ds in by_id.items()]
    return pd.DataFrame(rows)


def _row(
    id: str,
    ds: xr.Dataset,
    prompts: Mapping[str, Prompt],
    frames: Mapping[str, Framed] | None,
    *,
    levels: int,
    threshold: int,
    p: float,
) -> dict[str, object]:
    if id not in prompts or (frames is not None and id not in frames):
        raise ResultError(
            f"The result of prompt {id!r} has no prompt (or no framed one); pass the prompts it was made of."
        )
    prompt, share = prompts[id], 0.0
    if frames is not None:
        share = template_share(ds, frames[id], levels, threshold)
        ds = content_only(ds, frames[id], prompt)
    mask = span_mask(ds, prompt)
    if not mask.any():
        raise ResultError(f"Prompt {id!r} has no instruction tokens: mark its instruction, or leave the prompt out.")
    score = span_score(importance_density(ds, levels, threshold, p), mask)
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
