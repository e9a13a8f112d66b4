"""Did tuning make the model lean more on the instruction? Two sets of attributions, compared prompt by prompt.

1. Align the two sets by prompt id, never by position. A prompt without an id is known by its text
(`itlens.results.provenance.text_id`), as `itlens.attribute` does it. 2. Score each prompt for both models: the
instruction's importance density (`itlens.results.density`). 3. Test the paired differences over all prompts and per
group, with Holm's correction over the groups; the paper's unpaired one-sided Welch test is in the same table. 4. Repeat
at equal response length, with response lengths as controls, and over the cut-off and the power (`diff_scores`).
5. Follow the instruction's share of the importance along the response. 6. Where ratings say which responses followed
the instruction, compare those with the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError, first_few
from itlens.findings.attribution.diff_scores import Scored, length_regression, response_profile, sensitivity_grid
from itlens.findings.attribution.diff_verdict import conclusion
from itlens.findings.shared import model_names
from itlens.results.density import span_mask, sparsify
from itlens.results.provenance import provenance, text_id
from itlens.stats.groups import paired
from itlens.stats.paired import mean, std, too_few, welch

if TYPE_CHECKING:
    from itlens.prompts import Prompt


_RATED_TARGETS = 5  # the paper leaves shorter responses out of its followed / unfollowed contrast
_PRINTED = (
    *("group", "n", "base_mean", "tuned_mean", "difference", "ci_low", "ci_high", "effect_size", "p_paired", "p_holm"),
    "note",
)


class AttributionDiff(NamedTuple):
    """What `attributions` found. Every table and dataset has its provenance in `.attrs`.

    prompts: one row per prompt. groups: one row for "all" and one per group (`itlens.diff.paired`). equal_length: the
    same with the longer response cut to the length of the shorter one. regression: the difference with log lengths as
    controls. sensitivity: tests on (threshold, power). profile: the instruction's share of the importance on (model,
    position). ratings: followed compared with unfollowed instructions, or None without ratings.
    """

    prompts: pd.DataFrame
    groups: pd.DataFrame
    equal_length: pd.DataFrame
    regression: pd.DataFrame
    sensitivity: xr.Dataset
    profile: xr.Dataset
    ratings: pd.DataFrame | None

    def __repr__(self) -> str:
        table = self.groups[list(_PRINTED)].to_string(index=False, float_format="{:.3g}".format, na_rep="")
        return f"{verdict(self)}\n\n{table}"


def attributions(
    base: Results,
    tuned: Results,
    prompts: Iterable[Prompt] | None = None,
    *,
    levels: int = 10,
    threshold: int = 7,
    p: float = 4,
    seed: int = 0,
    resamples: int = 10_000,
    minimum: int = 5,
) -> AttributionDiff:
    """Compare two models' attributions of the same prompts: per prompt, per group and over all, with tests.

    base, tuned: mappings from prompt id to the Datasets of `itlens.attribute` (or `load`), or iterables of them.
    prompts: where the instructions are, and groups and ratings; each as the model read it (after formatting), and there
    may be more than results. Without prompts, each Dataset needs a boolean coordinate `instruction` on (source).
    levels, threshold, p: see `density`. minimum: groups of fewer prompts get no test. An empty response
    scores 0; a rating judges the tuned model's response, unless a Dataset has its own `attrs["rating"]`.

    Raises ResultError when the two sides or the prompts do not match; the message lists the ids.
    """
    aligned = align(base, tuned, prompts, levels)
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    table = _prompt_table(aligned, threshold, p)
    regression = length_regression(
        *(table[name].to_numpy(float) for name in ("difference", "base_targets", "tuned_targets")), minimum=minimum
    )
    made = AttributionDiff(
        prompts=table,
        groups=_tested(table, **options),
        equal_length=_tested(_equal_length_table(aligned, table, threshold, p), **options),
        regression=regression,
        sensitivity=sensitivity_grid(aligned.base, aligned.tuned, levels, minimum=minimum),
        profile=response_profile(
            aligned.base, aligned.tuned, levels, threshold, seed=seed, resamples=min(resamples, 2_000)
        ),
        ratings=_rating_table(aligned, table, minimum),
    )
    attrs = provenance(
        "diff.attributions", base_model=model_names(scored.result for scored in aligned.base),
        tuned_model=model_names(scored.result for scored in aligned.tuned), levels=levels,
        threshold=threshold, power=p, prompt_count=len(aligned.ids), **options,
    )  # fmt: skip
    for result in made:
        if result is not None:
            result.attrs = {**attrs, **result.attrs}
    return made


def _tested(table: pd.DataFrame, *, seed: int, resamples: int, minimum: int) -> pd.DataFrame:
    """Return `itlens.diff.paired` of a table, without its provenance: that of the whole diff takes its place."""
    tested = paired(table, seed=seed, resamples=resamples, minimum=minimum)
    tested.attrs = {}
    return tested


def verdict(diff: AttributionDiff, alpha: float = 0.05) -> str:
    """Return what came out in at most two sentences: the direction with its figures, and the caveat that matters most.

    The paired t-test over all prompts decides (Wilcoxon's test where all differences are the same).
    """
    return conclusion(diff._asdict(), alpha).sentence


def _prompt_table(aligned: Aligned, threshold: int, p: float) -> pd.DataFrame:
    base, tuned = ([_score(s, threshold, p) for s in side] for side in (aligned.base, aligned.tuned))
    table = pd.DataFrame(
        {
            "id": aligned.ids,
            "group": [_group(s, prompt) for s, prompt in zip(aligned.base, aligned.prompts, strict=True)],
            "base": base,
            "tuned": tuned,
            "difference": np.subtract(tuned, base),
            "base_targets": [s.targets for s in aligned.base],
            "tuned_targets": [s.targets for s in aligned.tuned],
            "base_finish": [str(s.result.attrs.get("finish", "")) for s in aligned.base],
            "tuned_finish": [str(s.result.attrs.get("finish", "")) for s in aligned.tuned],
            "instruction_tokens": [int(s.mask.sum()) for s in aligned.tuned],
            "prompt_tokens": [s.mask.size for s in aligned.tuned],
        }
    )
    ratings = [None if prompt is None else prompt.rating for prompt in aligned.prompts]
    return table.assign(rating=np.array(ratings, dtype=float)) if any(r is not None for r in ratings) else table


def _equal_length_table(aligned: Aligned, table: pd.DataFrame, threshold: int, p: float) -> pd.DataFrame:
    """Return the table of prompts with both responses cut to the shorter one, without those with an empty response."""
    lengths = table[["base_targets", "tuned_targets"]].min(axis=1)
    base, tuned = (
        np.array([_score(s, threshold, p, m) for s, m in zip(side, lengths, strict=True)])
        for side in (aligned.base, aligned.tuned)
    )
    return table.assign(base=base, tuned=tuned, difference=tuned - base)[lengths > 0]


def _rating_table(aligned: Aligned, table: pd.DataFrame, minimum: int) -> pd.DataFrame | None:
    """Compare followed (rating >= 2) with unfollowed (rating 1) instructions, on responses of at least five tokens.

    Returns None without ratings.
    """
    given = table["rating"] if "rating" in table else pd.Series(np.nan, table.index)
    rows = []
    for name, side in (("base", aligned.base), ("tuned", aligned.tuned)):
        own = np.array([float(s.result.attrs.get("rating", np.nan)) for s in side])
        rating = own if np.isfinite(own).any() or name == "base" else given.to_numpy(float)
        if not np.isfinite(rating).any():
            continue
        long = table[f"{name}_targets"].to_numpy() >= _RATED_TARGETS
        scores = table[name].to_numpy(float)
        rows.append({"model": name, **_rating_row(scores[long & (rating >= 2)], scores[long & (rating == 1)], minimum)})
    return pd.DataFrame(rows) if rows else None


def _rating_row(followed: np.ndarray, unfollowed: np.ndarray, minimum: int) -> dict[str, object]:
    note = too_few(min(followed.size, unfollowed.size), minimum)
    t, p = (np.nan, np.nan) if note else welch(followed, unfollowed, alternative="greater")
    rated = {"followed": followed, "unfollowed": unfollowed}
    described = {
        f"{name}_{what}": function(scores)
        for name, scores in rated.items()
        for what, function in (("n", len), ("mean", mean), ("std", std))
    }
    return {**described, "difference": mean(followed) - mean(unfollowed), "t_welch": t, "p_welch": p, "note": note}


def _score(scored: Scored, threshold: int, p: float, targets: int | None = None) -> float:
    return float(scored.scores([threshold], [p], targets)[0, 0])


def _group(scored: Scored, prompt: Prompt | None) -> str:
    return prompt.group if prompt is not None else str(scored.result.attrs.get("prompt_group", ""))


Results: TypeAlias = Mapping[str, xr.Dataset] | Iterable[xr.Dataset]
# ---- alignment by prompt id

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
        raise ResultError(f"{len(missing)} prompts have {what}: {first_few(missing)}.")


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
