"""Shares of tasks and linguistic levels among the concepts of two models, tested (finding 3, the paper's table 5).

1. Share of a category = concepts that carry it / concepts that could be labelled, over all seeds of the labeller. 2.
The difference tuned - base with a bootstrap interval: components are resampled within each layer, and so are the
labeller's seeds, where it has several. 3. Its p from permutations: components are exchanged between the models at
random, within their layer. Both treat the two models' concepts as independent samples. They are not (most concepts
survive tuning), but pairing them would need an order or a matching that components do not have; so intervals are wide
rather than narrow. 4. Holm over the tasks, and over the levels. 5. The paper's t-test over seeds: it covers how much
the labeller varies, not how much other concepts would differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import einops
import numpy as np
import pandas as pd

from itlens.annotate.labels import LEVELS
from itlens.errors import ResultError
from itlens.findings.mlp.diff import listed_numbers, whole_option
from itlens.results.provenance import provenance
from itlens.stats.grouping import layer_groups, random_sets
from itlens.stats.paired import adjust, std, welch

TASK = "task_"
ANY, NONE, KNOWN = "any", "none", "known"
_COLUMNS = ("layer", "component", "level", "known", "seed", "labeller")
_SAME = {"vectors": "kind of vectors", "vocabulary": "vocabulary", "n_layers": "number of layers"}
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
    of: Literal["known", "all"] = "known",
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the shares of both models' concepts that serve each task and belong to each level.

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
    resamples, seed = whole_option("resamples", resamples, 1), whole_option("seed", seed, 0)
    pair = label_pair(base_labels, tuned_labels, of)
    named = group_layers(groups, base_labels, pair.base.layer)
    differences = _bootstrap(pair, named, resamples, seed)
    rows = [
        _group(pair, name, layers, drawn, resamples=resamples, seed=seed)
        for (name, layers), drawn in zip(named.items(), differences, strict=True)
    ]
    table = pd.concat(rows, ignore_index=True)[list(SHARE_COLUMNS)]
    labels = {"base": base_labels, "tuned": tuned_labels}
    models = {f"{side}_model": labels[side].attrs.get("model", "") for side in labels}
    count = len(pair.seeds)
    note = (
        f"{pair.labeller} labelled with {count} seeds" if count > 1 else f"{pair.labeller}: one label for each concept"
    )
    table.attrs = provenance(
        "diff.concept_shares", **models, vectors=base_labels.attrs.get("vectors", ""), labeller=pair.labeller, of=of,
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
    shares = [_divide(labels.counts.sum((0, 1)), labels.whole.sum((0, 1))) for labels in (base, tuned)]
    by_seed = [_divide(labels.counts.sum(0), labels.whole.sum(0)) for labels in (base, tuned)]
    tests = [welch(of_tuned, of_base) for of_base, of_tuned in zip(by_seed[0].T, by_seed[1].T, strict=True)]
    low, high = _range(drawn)
    table = pd.DataFrame({"kind": pair.kinds, "category": pair.categories})
    table = table.assign(group=name, base=shares[0], tuned=shares[1], difference=shares[1] - shares[0])
    table = table.assign(ci_low=low, ci_high=high, p=_permutation(base, tuned, resamples, seed))
    table["base_std"], table["tuned_std"] = ([std(column) for column in values.T] for values in by_seed)
    table["t_seeds"], table["p_seeds"] = zip(*tests, strict=True)
    for side, labels in (("base", base), ("tuned", tuned)):
        table[f"{side}_concepts"] = labels.whole.sum((0, 1)) / len(pair.seeds)
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
    """Two-sided p of the difference of shares when a layer's components are exchanged at random; one per category."""
    counts = np.concatenate([base.counts, tuned.counts]).sum(axis=1)
    whole = np.concatenate([base.whole, tuned.whole]).sum(axis=1)
    is_tuned = np.repeat([False, True], [base.layer.size, tuned.layer.size])
    layers = np.unique(np.concatenate([base.layer, tuned.layer]), return_inverse=True)[1]

    def difference(labels: np.ndarray) -> np.ndarray:
        inside, out_of = labels @ counts, labels @ whole
        return _divide(inside, out_of) - _divide(counts.sum(0) - inside, whole.sum(0) - out_of)

    observed = np.abs(difference(is_tuned.astype(float)))
    reached = np.zeros(observed.size)
    for labels in random_sets(is_tuned, layers, draws, seed):
        reached += (np.abs(difference(labels.astype(float))) >= observed - 1e-9).sum(axis=0)
    return np.where(np.isnan(observed), np.nan, (1 + reached) / (1 + draws))


def _bootstrap(pair: LabelPair, groups: Mapping[str, np.ndarray], resamples: int, seed: int) -> list[np.ndarray]:
    """For each group, differences of shares (resamples, category) of resampled components, and seeds."""
    rng = np.random.default_rng(seed)
    blocks: list[list[np.ndarray]] = [[] for _ in groups]
    for begin in range(0, resamples, _BLOCK):
        count = min(_BLOCK, resamples - begin)
        base, tuned = (_drawn(labels, groups, count, rng) for labels in (pair.base, pair.tuned))
        for place, (of_base, of_tuned) in enumerate(zip(base, tuned, strict=True)):
            blocks[place].append(of_tuned - of_base)
    return [np.concatenate(block) for block in blocks]


def _drawn(labels: Labels, groups: Mapping[str, np.ndarray], count: int, rng: np.random.Generator) -> list[np.ndarray]:
    weights = _weights(labels.layer, count, rng)
    seeds = labels.counts.shape[1]
    turns = rng.multinomial(seeds, np.full(seeds, 1 / seeds), count).astype(float)
    out = []
    for layers in groups.values():
        rows = np.isin(labels.layer, layers)
        sums = [np.tensordot(weights[:, rows], values[rows], axes=1) for values in (labels.counts, labels.whole)]
        pattern = "draw seed, draw seed category -> draw category"
        out.append(_divide(*(einops.einsum(turns, values, pattern) for values in sums)))
    return out


def _weights(layers: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """How often each unit is drawn, (count, unit): as many as there are, with replacement, within each layer."""
    out = np.zeros((count, layers.size))
    for layer in np.unique(layers):
        units = np.flatnonzero(layers == layer)
        places = rng.integers(0, units.size, (count, units.size)) + units.size * np.arange(count)[:, None]
        out[:, units] = np.bincount(places.ravel(), minlength=count * units.size).reshape(count, units.size)
    return out


class Labels(NamedTuple):
    """One model's labels, on units (components).

    layer (unit); counts (unit, seed, category): how many of the unit's concepts carry the category; whole (unit, seed,
    category): the denominator of that category's share.
    """

    layer: np.ndarray
    counts: np.ndarray
    whole: np.ndarray


class LabelPair(NamedTuple):
    """Both models' labels on the same seeds and categories; kinds names each category's kind (task, level, known)."""

    base: Labels
    tuned: Labels
    categories: tuple[str, ...]
    kinds: tuple[str, ...]
    seeds: tuple[int, ...]
    labeller: str


def label_pair(base: pd.DataFrame, tuned: pd.DataFrame, of: str) -> LabelPair:
    """Align two tables of labels. of: what shares of tasks and levels are out of, "known" or "all".

    Raises ResultError for anything but two such tables, and when they differ in labeller, seeds, tasks, layers or in
    what was labelled.
    """
    tables = {"base_labels": base, "tuned_labels": tuned}
    for name, table in tables.items():
        _check_table(table, name)
    _check_same(base, tuned)
    tasks = _tasks(base)
    seeds = tuple(sorted(base["seed"].unique().tolist()))
    made = [_count(table, name, tasks, seeds, of) for name, table in tables.items()]
    categories = (*tasks, ANY, NONE, *LEVELS, NONE, KNOWN)
    kinds = ("task",) * (len(tasks) + 2) + ("level",) * (len(LEVELS) + 1) + (KNOWN,)
    return LabelPair(made[0], made[1], categories, kinds, seeds, str(base["labeller"].iloc[0]))


def group_layers(
    groups: Mapping[str, Iterable[int]] | None, base: pd.DataFrame, layers: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the layers of each group, "all" first; None: quarters. Raises ResultError for groups of no layer."""
    probed = np.unique(layers)
    if groups is None:
        depth = int(base.attrs.get("n_layers", probed.max() + 1))
        return {"all": probed, **layer_groups(probed, depth)}
    if not isinstance(groups, Mapping) or not groups:
        raise ResultError(f"groups={groups!r}: expected names with their layers, such as {{'layers 0-7': range(8)}}.")
    if "all" in groups:
        raise ResultError('groups: "all" is the row of all layers; give that group another name.')
    named = {str(name): np.intersect1d(probed, list(inside)) for name, inside in groups.items()}
    if empty := [name for name, inside in named.items() if not inside.size]:
        raise ResultError(
            f"groups: {empty[0]!r} holds no labelled layer; labelled are {probed.min()} to {probed.max()}."
        )
    return {"all": probed, **named}


def _check_table(table: object, name: str) -> None:
    if not isinstance(table, pd.DataFrame):
        raise ResultError(
            f"{name} is a {type(table).__name__}: give the DataFrame that itlens.annotate_concepts returned."
        )
    missing = [column for column in _COLUMNS if column not in table.columns]
    if missing or not _tasks(table):
        raise ResultError(
            f"{name} is no table of labels (no column {', '.join(missing) or TASK + '...'}): give the DataFrame that "
            "itlens.annotate_concepts returned."
        )
    if table.empty:
        raise ResultError(f"{name} holds no labels: label at least one concept of each model.")
    if odd := set(table["level"].unique().tolist()) - {*LEVELS, ""}:
        raise ResultError(f"{name} holds the level {sorted(map(str, odd))[0]!r}; expected {', '.join(LEVELS)} or ''.")
    if table["labeller"].nunique() != 1:
        raise ResultError(f"{name} mixes the labels of several labellers: compare one labeller at a time.")


def _tasks(table: pd.DataFrame) -> tuple[str, ...]:
    return tuple(str(column)[len(TASK) :] for column in table.columns if str(column).startswith(TASK))


def _check_same(base: pd.DataFrame, tuned: pd.DataFrame) -> None:
    of_tuned = _facts(tuned)
    for name, of_base in _facts(base).items():
        if of_base != of_tuned[name]:
            raise ResultError(
                f"The labels differ in {name}: base {of_base}, tuned {of_tuned[name]}. Label the same layers and "
                "components of both models with the same labeller."
            )
    for key, name in _SAME.items():
        facts = [table.attrs.get(key) for table in (base, tuned)]
        if None not in facts and facts[0] != facts[1]:  # pandas may have dropped them
            raise ResultError(
                f"The labels differ in {name}: base {facts[0]}, tuned {facts[1]}. Label concepts of one kind."
            )


def _facts(table: pd.DataFrame) -> dict[str, str]:
    numbers = {name: listed_numbers(sorted(table[name].unique().tolist())) for name in ("seed", "layer", "component")}
    poles = sorted(table["pole"].unique().tolist()) if "pole" in table.columns else [""]
    named = {"labeller": table["labeller"].iloc[0], "tasks": ", ".join(_tasks(table)), "poles": ", ".join(poles)}
    return {**{name: str(value) for name, value in named.items()}, **numbers}


def _count(table: pd.DataFrame, name: str, tasks: tuple[str, ...], seeds: tuple[int, ...], of: str) -> Labels:
    unit = ["layer", "component"]
    concept = [*unit, *(["pole"] if "pole" in table.columns else [])]
    if (sizes := table.groupby(concept).size()).ne(len(seeds)).any() or table.duplicated([*concept, "seed"]).any():
        at = int(np.argmax(sizes.to_numpy() != len(seeds)))
        layer, component = (int(number) for number in sizes.index[at][:2])
        raise ResultError(
            f"{name}: component {component} of layer {layer} has {sizes.iloc[at]} labels for {len(seeds)} seeds; "
            "expected one for each concept and seed."
        )
    known = table["known"].to_numpy(bool)
    flags = table[[TASK + task for task in tasks]].to_numpy(bool) & known[:, None]
    levels = (table["level"].to_numpy(object)[:, None] == np.array(LEVELS, dtype=object)) & known[:, None]
    some, level = flags.any(axis=1), levels.any(axis=1)
    alone = np.column_stack([flags, some, known & ~some, levels, known & ~level, known]).astype(float)
    whole = np.ones_like(alone)
    if of == KNOWN:
        whole[:, :-1] = known[:, None]
    return _by_unit(table, unit, seeds, alone, whole)


def _by_unit(
    table: pd.DataFrame, unit: list[str], seeds: tuple[int, ...], counts: np.ndarray, whole: np.ndarray
) -> Labels:
    places = table.groupby(unit).ngroup().to_numpy()
    layer = table.groupby(unit).size().index.get_level_values(0).to_numpy()
    at = places * len(seeds) + np.searchsorted(seeds, table["seed"].to_numpy())
    out = []
    for values in (counts, whole):
        sums = np.zeros((layer.size * len(seeds), values.shape[1]))
        np.add.at(sums, at, values)
        out.append(sums.reshape(layer.size, len(seeds), -1))
    return Labels(layer, *out)
