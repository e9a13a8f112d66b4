"""Labels of two models' concepts as counts: which concepts carry which task, level or none, seed by seed.

Both tables are those of `itlens.annotate_concepts`. A component of a layer is the unit that is resampled, with all its
seeds (and with both poles, where concepts are signed).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from itlens.annotate.labels import LEVELS
from itlens.diff.concept_inputs import listed_numbers
from itlens.diff.verb_groups import layer_groups
from itlens.errors import ResultError

TASK = "task_"
ANY, NONE, KNOWN = "any", "none", "known"
_COLUMNS = ("layer", "component", "level", "known", "seed", "labeller")
_SAME = {"side": "side", "vocabulary": "vocabulary", "n_layers": "number of layers"}


class Labels(NamedTuple):
    """One model's labels. layer (unit); counts (unit, seed, category): how many of the unit's concepts carry it;
    whole (unit, seed, category): out of how many, the denominator of that category's share."""

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


def read_labels(base: pd.DataFrame, tuned: pd.DataFrame, of: str) -> LabelPair:
    """Align two tables of labels. of: what shares of tasks and levels are out of, "known" or "all".

    Raises ResultError for anything but two such tables, and when they differ in labeller, seeds, tasks, layers or in
    what was labelled.
    """
    sides = {"base_labels": base, "tuned_labels": tuned}
    for name, table in sides.items():
        _check_table(table, name)
    _check_same(base, tuned)
    tasks = _tasks(base)
    seeds = tuple(sorted(base["seed"].unique().tolist()))
    made = [_count(table, name, tasks, seeds, of) for name, table in sides.items()]
    categories = (*tasks, ANY, NONE, *LEVELS, NONE, KNOWN)
    kinds = ("task",) * (len(tasks) + 2) + ("level",) * (len(LEVELS) + 1) + (KNOWN,)
    return LabelPair(made[0], made[1], categories, kinds, seeds, str(base["labeller"].iloc[0]))


def group_layers(
    groups: Mapping[str, Iterable[int]] | None, base: pd.DataFrame, layers: np.ndarray
) -> dict[str, np.ndarray]:
    """The layers of each group, "all" first; None: quarters of the model. Raises ResultError for groups of no layer."""
    probed = np.unique(layers)
    if groups is None:
        depth = int(base.attrs.get("n_layers", probed.max() + 1))
        return {"all": probed, **layer_groups(probed, depth)}
    if not isinstance(groups, Mapping) or not groups:
        raise ResultError(f"groups={groups!r}: expected names with their layers, such as {{'layers 0-7': range(8)}}.")
    found = {str(name): np.intersect1d(probed, list(part)) for name, part in groups.items()}
    if empty := [name for name, part in found.items() if not part.size]:
        raise ResultError(
            f"groups: {empty[0]!r} holds no labelled layer; labelled are {probed.min()} to {probed.max()}."
        )
    return {"all": probed, **found}


def _check_table(table: Any, name: str) -> None:
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
    for (name, one), other in zip(_facts(base).items(), _facts(tuned).values(), strict=True):
        if one != other:
            raise ResultError(
                f"The labels differ in {name}: base {one}, tuned {other}. Label the same layers and components of both "
                "models with the same labeller."
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
        layer, component = (int(part) for part in sizes.index[at][:2])
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
