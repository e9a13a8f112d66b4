"""Two sets of attributions as a user gives them, aligned by prompt id and never by position.

A prompt without an id is known by its text (`itlens.results.provenance.text_id`), as `itlens.attribute` does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.attribution.diff_scores import Scored
from itlens.results.density import span_mask, sparsify
from itlens.results.provenance import text_id

if TYPE_CHECKING:
    from itlens.prompts import Prompt

Results: TypeAlias = Mapping[str, xr.Dataset] | Iterable[xr.Dataset]
_SAME = ("method", "objective_name")  # numbers of different methods are not comparable


class Aligned(NamedTuple):
    """The same prompts on both sides, in the same order; `prompts` holds None where none were given."""

    ids: list[str]
    base: list[Scored]
    tuned: list[Scored]
    prompts: list[Prompt | None]


def align(base: Results, tuned: Results, prompts: Iterable[Prompt] | None, levels: int) -> Aligned:
    """Align two sets of results by prompt id, never by position.

    Raises ResultError that names the ids which one side lacks, that come twice, or that have no prompt or no
    instruction, and for results of different methods.
    """
    sides = {"base": results_by_id(base, "base results"), "tuned": results_by_id(tuned, "tuned results")}
    _require(sides["base"], sides["tuned"], "base results but no tuned ones")
    _require(sides["tuned"], sides["base"], "tuned results but no base ones")
    if not sides["base"]:
        raise ResultError("There are no results to compare: both sides are empty.")
    for name in _SAME:
        values = {str(ds.attrs[name]) for side in sides.values() for ds in side.values() if name in ds.attrs}
        if len(values) > 1:
            raise ResultError(f"The results differ in {name} ({', '.join(sorted(values))}): compare like with like.")
    ids = list(sides["base"])
    by_id = prompts_by_id(prompts)
    if prompts is not None:
        _require(sides["base"], by_id, "results but no prompt")
    chosen = [by_id.get(id) for id in ids]
    scored = {
        name: [_scored(id, side[id], prompt, levels) for id, prompt in zip(ids, chosen, strict=True)]
        for name, side in sides.items()
    }
    return Aligned(ids, scored["base"], scored["tuned"], chosen)


def results_by_id(results: Results, name: str = "results") -> dict[str, xr.Dataset]:
    """Return results by prompt id, in order. name: what errors call them ("base results").

    Raises ResultError for one Dataset or anything else, a result without an id, and an id that comes twice.
    """
    if isinstance(results, xr.Dataset):
        raise ResultError(f"The {name} are one Dataset: pass a list of them, or a mapping from prompt ids.")
    if not isinstance(results, Iterable):
        raise ResultError(f"The {name} are a {type(results).__name__}; expected a list, or a mapping from prompt ids.")
    pairs = list(results.items()) if isinstance(results, Mapping) else [("", ds) for ds in results]
    named: dict[str, xr.Dataset] = {}
    for key, ds in pairs:
        id = _id_of(ds, str(key))
        if not id:
            raise ResultError(f"One of the {name} has no attrs['prompt_id']: give its prompt an id, or pass a mapping.")
        if key and key != id:
            raise ResultError(f"Of the {name}, the one under {key!r} belongs to the prompt {id!r}: check it.")
        if id in named:
            raise ResultError(f"The {name} hold {id!r} twice: keep one of them.")
        named[id] = ds
    return named


def prompts_by_id(prompts: Iterable[Prompt] | None) -> dict[str, Prompt]:
    """Return prompts by id; one without an id has that which `itlens.attribute` makes of its text."""
    listed = list(prompts or ())
    ids = [prompt.id or text_id(prompt.text) for prompt in listed]
    if len({*ids}) < len(ids):
        twice = sorted({id for id in ids if ids.count(id) > 1})
        raise ResultError(f"Several prompts have the id {', '.join(map(repr, twice[:5]))}: ids must differ.")
    return dict(zip(ids, listed, strict=True))


def _id_of(ds: xr.Dataset, key: str) -> str:
    """Return a result's id: its own; its key where the prompt had none and its id was made of its text."""
    own = str(ds.attrs.get("prompt_id", "") or "")
    made = bool(own) and own == text_id(str(ds.attrs.get("prompt_text", "")))
    return key or own if made else own or key


def _require(wanted: Iterable[str], there: Mapping[str, object], what: str) -> None:
    missing = [id for id in wanted if id not in there]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ResultError(f"{len(missing)} prompts have {what}: {', '.join(missing[:5])}{more}.")


def _scored(id: str, ds: xr.Dataset, prompt: Prompt | None, levels: int) -> Scored:
    try:
        levelled = sparsify(ds, levels, threshold=0)
        if prompt is not None:
            mask = span_mask(ds, prompt, "instruction").values
        elif "instruction" in ds.coords:
            mask = ds["instruction"].values.astype(bool)
        else:
            raise ResultError("pass prompts=, they say where its instruction is.")
    except ResultError as error:
        raise ResultError(f"Prompt {id}: {error}") from error
    if not mask.any():
        raise ResultError(f"Prompt {id} has no instruction tokens: mark its instruction, or leave the prompt out.")
    return Scored(levelled.values.astype(np.uint8 if levels < 256 else np.int64), mask, levels, ds)
