"""Shares of tasks and linguistic levels among the concepts of two models, tested (finding 3, the paper's table 5).

1. Share of a category = concepts that carry it / concepts that could be labelled, over all seeds of the labeller. 2.
The difference tuned - base with a bootstrap interval: components are drawn anew within each layer, and the labeller's
seeds, where it has several. 3. Its p from permutations: components change hands between the models, within their layer.
Both treat the two models' concepts as independent samples. They are not (most concepts survive tuning), but pairing
them would need an order or a matching that components do not have; so intervals are wide rather than narrow. 4. Holm
over the tasks, and over the levels. 5. Beside it the paper's t-test over seeds: it knows how much the labeller wavers,
not how much other concepts would differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from itlens.diff.concept_inputs import whole_number
from itlens.diff.label_tables import ANY, KNOWN, NONE, LabelPair, Labels, group_layers, read_labels
from itlens.diff.statistics import adjust, std, welch
from itlens.diff.verb_null import random_sets
from itlens.errors import ResultError
from itlens.provenance import provenance

SHARE_COLUMNS = (
    *("group", "kind", "category", "base", "tuned", "difference", "ci_low", "ci_high", "p", "p_holm"),
    *("base_std", "tuned_std", "t_seeds", "p_seeds", "base_concepts", "tuned_concepts", "note"),
)
_BLOCK, _MINIMUM = 500, 5
_TESTS = ["ci_low", "ci_high", "p", "p_holm", "t_seeds", "p_seeds"]


def concept_shares(
    base_labels: pd.DataFrame,
    tuned_labels: pd.DataFrame,
    *,
    groups: Mapping[str, Iterable[int]] | None = None,
    of: str = KNOWN,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """What share of each model's concepts serves which task and stands on which level, and what tuning changed.

    base_labels, tuned_labels: the DataFrames of `itlens.annotate_concepts`. groups: names with their layers (None:
    quarters of the model); "all" comes first. of: shares of tasks and levels are out of the concepts that could be
    labelled ("known") or of "all". resamples, seed: of the bootstrap and the permutations.

    Columns: group, kind ("task", "level", "known"), category (a task, "any" or "none"; a level or "none"; "known": that
    could be labelled, out of all), base, tuned (shares, 0 to 1; a concept may serve several tasks), difference (tuned -
    base), ci_low, ci_high (95 %), p (permutation, two-sided), p_holm (over the tasks, or the levels, of a group; "any",
    "none" and "known" are questions of their own and keep p), base_std, tuned_std (over seeds), t_seeds, p_seeds (Welch
    over seeds, two-sided; NaN without seeds), base_concepts, tuned_concepts (what shares are out of, mean over
    seeds), note (why there is no test). attrs["seeds"]: how many; attrs["seed_note"] says what that means.

    Raises ResultError when these are no labels or do not match, and for options that make no sense.
    """
    if of not in (KNOWN, "all"):
        raise ResultError(f"of={of!r}: expected 'known' or 'all'.")
    resamples, seed = whole_number("resamples", resamples, 1), whole_number("seed", seed, 0)
    pair = read_labels(base_labels, tuned_labels, of)
    named = group_layers(groups, base_labels, pair.base.layer)
    differences = _bootstrap(pair, named, resamples, seed)
    parts = [
        _group(pair, name, layers, drawn, resamples=resamples, seed=seed)
        for (name, layers), drawn in zip(named.items(), differences, strict=True)
    ]
    table = pd.concat(parts, ignore_index=True)[list(SHARE_COLUMNS)]
    models = {f"{n}_model": t.attrs.get("model", "") for n, t in (("base", base_labels), ("tuned", tuned_labels))}
    count = len(pair.seeds)
    note = (
        f"{pair.labeller} labelled with {count} seeds" if count > 1 else f"{pair.labeller}: one label for each concept"
    )
    table.attrs = provenance(
        "diff.concept_shares", **models, side=base_labels.attrs.get("side", ""), labeller=pair.labeller, of=of,
        seeds=count, seed_note=note if count > 1 else f"{note}, no seeds to test over", resamples=resamples, seed=seed,
    )  # fmt: skip
    return table


def _inside(labels: Labels, layers: np.ndarray) -> Labels:
    rows = np.isin(labels.layer, layers)
    return Labels(labels.layer[rows], labels.counts[rows], labels.whole[rows])


def _divide(counts: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(counts, whole, out=np.full(counts.shape, np.nan), where=whole > 0)


def _group(
    pair: LabelPair, name: str, layers: np.ndarray, drawn: np.ndarray, *, resamples: int, seed: int
) -> pd.DataFrame:
    base, tuned = _inside(pair.base, layers), _inside(pair.tuned, layers)
    shares = [_divide(part.counts.sum((0, 1)), part.whole.sum((0, 1))) for part in (base, tuned)]
    by_seed = [_divide(part.counts.sum(0), part.whole.sum(0)) for part in (base, tuned)]
    tests = [welch(other, one) for one, other in zip(by_seed[0].T, by_seed[1].T, strict=True)]
    low, high = _range(drawn)
    table = pd.DataFrame({"kind": pair.kinds, "category": pair.categories})
    table = table.assign(group=name, base=shares[0], tuned=shares[1], difference=shares[1] - shares[0])
    table = table.assign(ci_low=low, ci_high=high, p=_permutation(base, tuned, resamples, seed))
    table["base_std"], table["tuned_std"] = ([std(column) for column in part.T] for part in by_seed)
    table["t_seeds"], table["p_seeds"] = zip(*tests, strict=True)
    for side, part in (("base", base), ("tuned", tuned)):
        table[f"{side}_concepts"] = part.whole.sum((0, 1)) / len(pair.seeds)
    few = table[["base_concepts", "tuned_concepts"]].min(axis=1) < _MINIMUM
    table["note"] = np.where(few, f"too few concepts for a test (at least {_MINIMUM} in each model needed)", "")
    table["p_holm"] = np.nan
    table.loc[few, _TESTS] = np.nan
    return _corrected(table)


def _range(drawn: np.ndarray) -> np.ndarray:
    """Ends of the 95 % range of each category, without the draws that hold no labelled concept."""
    some = np.isfinite(drawn).any(axis=0)
    ends = np.full((2, drawn.shape[1]), np.nan)
    ends[:, some] = np.nanquantile(drawn[:, some], [0.025, 0.975], axis=0)
    return ends


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    alone = table["category"].isin([ANY, NONE, KNOWN])
    table.loc[alone, "p_holm"] = table.loc[alone, "p"]
    for kind in table.loc[~alone, "kind"].unique():
        rows = ~alone & (table["kind"] == kind)
        table.loc[rows, "p_holm"] = adjust(table.loc[rows, "p"].to_numpy(), "holm")
    return table


def _permutation(base: Labels, tuned: Labels, draws: int, seed: int) -> np.ndarray:
    """Two-sided p of the difference of shares when a layer's components change hands at random; one per category."""
    counts, whole = (np.concatenate([one, other]).sum(axis=1) for one, other in zip(base[1:], tuned[1:], strict=True))
    is_tuned = np.repeat([False, True], [base.layer.size, tuned.layer.size])
    layers = np.unique(np.concatenate([base.layer, tuned.layer]), return_inverse=True)[1]

    def difference(labels: np.ndarray) -> np.ndarray:
        ours, out_of = labels @ counts, labels @ whole
        return _divide(ours, out_of) - _divide(counts.sum(0) - ours, whole.sum(0) - out_of)

    observed = np.abs(difference(is_tuned.astype(float)))
    reached = np.zeros(observed.size)
    for labels in random_sets(is_tuned, layers, draws, seed):
        reached += (np.abs(difference(labels.astype(float))) >= observed - 1e-9).sum(axis=0)
    return np.where(np.isnan(observed), np.nan, (1 + reached) / (1 + draws))


def _bootstrap(pair: LabelPair, groups: Mapping[str, np.ndarray], resamples: int, seed: int) -> list[np.ndarray]:
    """For each group, differences of shares (resamples, category) of components, and seeds, drawn anew."""
    rng = np.random.default_rng(seed)
    found: list[list[np.ndarray]] = [[] for _ in groups]
    for begin in range(0, resamples, _BLOCK):
        count = min(_BLOCK, resamples - begin)
        sides = [_drawn(part, groups, count, rng) for part in (pair.base, pair.tuned)]
        for place, (one, other) in enumerate(zip(*sides, strict=True)):
            found[place].append(other - one)
    return [np.concatenate(part) for part in found]


def _drawn(labels: Labels, groups: Mapping[str, np.ndarray], count: int, rng: np.random.Generator) -> list[np.ndarray]:
    weights = _weights(labels.layer, count, rng)
    seeds = labels.counts.shape[1]
    turns = rng.multinomial(seeds, np.full(seeds, 1 / seeds), count).astype(float)
    out = []
    for layers in groups.values():
        rows = np.isin(labels.layer, layers)
        sums = [np.tensordot(weights[:, rows], part[rows], axes=1) for part in (labels.counts, labels.whole)]
        out.append(_divide(*(np.einsum("ds,dsc->dc", turns, part) for part in sums)))
    return out


def _weights(layers: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """How often each unit is drawn, (count, unit): as many as there are, with replacement, within each layer."""
    out = np.zeros((count, layers.size))
    for layer in np.unique(layers):
        units = np.flatnonzero(layers == layer)
        places = rng.integers(0, units.size, (count, units.size)) + units.size * np.arange(count)[:, None]
        out[:, units] = np.bincount(places.ravel(), minlength=count * units.size).reshape(count, units.size)
    return out
