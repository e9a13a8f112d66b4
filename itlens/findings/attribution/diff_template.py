"""Does the change come from the weights or from the chat template? Base and tuned, each with and without it.

1. Four sets of attributions: base and tuned, read without ("off") and with the template ("on").
2. Each is restricted to the prompt's own text (`content_only`): a token is content when its characters are within, or
   overlap, that text (`Framed.body`). Its characters are counted in the ORIGINAL text again: character c of it is at
   body[0] + c - cut of what the model read. So all four align by characters, whatever the tokens.
3. They are scored there: levelled after that (`itlens.results.density`), so that content is compared with content.
4. Per statistic and prompt: main effects of weights and of template, and their interaction (`itlens.stats.two_by_two`).
5. With the template on, how much of the importance lies on the template itself: base and tuned, paired.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.attribution.diff import Results, prompts_by_id, results_by_id
from itlens.findings.shared import model_names
from itlens.results.density import importance_density, overlaps, source_ranges, span_mask, span_score, target_share
from itlens.results.provenance import provenance
from itlens.stats.groups import paired
from itlens.stats.two_by_two import CELLS, Cell, Numbers, TemplateEffects, refuse_other_cells, two_by_two

if TYPE_CHECKING:
    from itlens.prompts import Prompt
    from itlens.prompts.formats import Framed


_STATISTICS = ("instruction_score", "response_tokens")


def template_effects(
    cells: Mapping[Cell, Results],
    prompts: Iterable[Prompt],
    framed: Iterable[Framed],
    *,
    statistics: Mapping[str, Mapping[Cell, Numbers]] | None = None,
    levels: int = 10,
    threshold: int = 7,
    p: float = 4,
    seed: int = 0,
    resamples: int = 10_000,
    minimum: int = 5,
) -> TemplateEffects:
    """Test the effects of weights and chat template, and their interaction, on what `itlens.attribute` measures.

    cells: ("base" | "tuned", "off" | "on") -> results of `itlens.attribute` by prompt id, "off" of the prompts as they
    are, "on" of the formatted ones. prompts: the originals. framed: of `itlens.prompts.frame_prompts(prompts, "chat",
    tokenizer)`, the template of the "on" cells. statistics: further numbers, a name to four Series by prompt id each.
    levels, threshold, p: as in `itlens.importance_density`. minimum: groups of fewer prompts get no test.

    Statistics: instruction_score (on content tokens, spans moved along), response_tokens, and those given.
    Raises ResultError for missing cells or prompts, "on" results that were read without the template, and results that
    do not belong to their prompts.
    """
    refuse_other_cells(cells)
    originals, frames = list(prompts), list(framed)
    _refuse_unframed(originals, frames)
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    scored = {
        cell: prompt_scores(
            results, originals, frames if cell[1] == "on" else None, levels=levels, threshold=threshold, p=p
        ).set_index("id")
        for cell, results in cells.items()
    }
    given = {name: {cell: scored[cell][name] for cell in CELLS} for name in _STATISTICS} | dict(statistics or {})
    groups = scored["base", "off"]["group"]
    effects = pd.concat(
        [two_by_two(values, groups, **options).assign(statistic=name) for name, values in given.items()],
        ignore_index=True,
    )
    effects.insert(0, "statistic", effects.pop("statistic"))
    made = TemplateEffects(effects, _share_table(scored["base", "on"], scored["tuned", "on"], **options), _long(scored))
    attrs = provenance(
        "diff.template_effects", **_models(cells), levels=levels, threshold=threshold, power=p, **options
    )
    for table in made:
        table.attrs = attrs
    return made


def _refuse_unframed(prompts: list[Prompt], framed: list[Framed]) -> None:
    texts = {prompt.id: prompt.text for prompt in prompts}
    if framed and all(frame.prompt.text == texts.get(frame.prompt.id) for frame in framed):
        raise ResultError(
            'The framed prompts read as the originals do, so there is no template to compare; frame them with "chat".'
        )


def _share_table(base: pd.DataFrame, tuned: pd.DataFrame, *, seed: int, resamples: int, minimum: int) -> pd.DataFrame:
    """Compare base with tuned, the template on; prompts of which one model has no importance at all are left out."""
    both = pd.DataFrame({"group": base["group"], "base": base["template_share"], "tuned": tuned["template_share"]})
    return paired(both, seed=seed, resamples=resamples, minimum=minimum).drop(columns="p_holm")


def _long(scored: Mapping[Cell, pd.DataFrame]) -> pd.DataFrame:
    cells = [table.reset_index().assign(model=model, template=state) for (model, state), table in scored.items()]
    prompts = pd.concat(cells, ignore_index=True)
    prompts["template_share"] = np.where(prompts["template"] == "on", prompts["template_share"], np.nan)
    return prompts[["id", "group", "model", "template", "instruction_score", "response_tokens", "template_share"]]


def _models(cells: Mapping[Cell, Results]) -> dict[str, str]:
    def listed(results: Results) -> Iterable[xr.Dataset]:
        return results.values() if isinstance(results, Mapping) else results

    return {f"{side}_model": model_names(listed(cells[side, "off"])) for side in ("base", "tuned")}


# ---- the prompt's own text

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


def within_body(frame: Framed) -> tuple[Framed, Prompt]:
    """Return a frame and the prompt within it, whose text is what the template left of the original one.

    White space that a template cuts off the ends belongs to no token, so that scores are those of the original.
    """
    first, last = frame.body
    spans = {
        kind: [(start - first, stop - first) for start, stop in frame.prompt.spans(kind)]
        for kind in ("instruction", "context")
    }
    return frame._replace(cut=0), frame.prompt.replace(text=frame.prompt.text[first:last], **spans)


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
