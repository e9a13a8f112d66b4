"""The finding "task_words": did the directions of feed-forward layers rotate toward the words of user tasks?

The question of Wu et al. 2024, finding 3, without labels: energies of sets of words in both models' first directions
(`probe`), with control sets (`controls`), tested (`diff`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ItlensError, ProbeError
from itlens.findings.base import LONGEST_WORD, Finding, Headline, Plan, Result, Saved, Tables, Verdict
from itlens.findings.options import option
from itlens.findings.shared import VOCABULARY
from itlens.findings.task_words.columns import CHANGES, GAINS, KIND_NAMES, TERMS, WORDS, shown_columns
from itlens.findings.task_words.diff import LEVEL, task_changes, task_gains
from itlens.findings.task_words.energies import Kind, set_energies
from itlens.findings.task_words.sets import BUILTIN, known_sets, loaded_task_sets
from itlens.findings.task_words.view import task_gain_map, task_places
from itlens.report.blocks import Block, Card, Figure, Table, Text
from itlens.report.explorer_places import Place
from itlens.report.numbers import number
from itlens.stats.paired import p_text
from itlens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from itlens.findings.detector import Detector
    from itlens.findings.task_words.probe import TaskWords
    from itlens.weights import WeightPair

_KINDS: tuple[Kind, ...] = ("value", "key")
_WORDS = "words"  # the unit with sets and control sets
_DIRECTIONS = "mlp"  # the finding whose units hold each model's components
_INTRO = (
    "Each task stands for a set of words. Its energy is the share of their vectors that lies in a layer's first "
    "directions; a gain after tuning would mean that the layer turned toward the task. Any rotation changes the energy "
    "of all words, so gains are compared with those of control sets."
)
_CHANGE = "how much of each task's words lies in the first directions of tuned - base itself"


@dataclass(frozen=True)
class TaskWordsOptions:
    """Options of the finding "task_words"."""

    vocabulary: str | Vocabulary = VOCABULARY
    task_words: str = option(
        BUILTIN,
        help='Word sets of tasks: builtin, a .json file, or a text file with lines "name: word word ...".',
        load=lambda given, options: loaded_task_sets(given),
        describe=lambda sets: f"{sets.name}, {len(sets.words)} sets",
    )


class TaskWordsFinding(Finding):
    """Energies of task words in the first directions of both models' feed-forward layers, against control sets."""

    name = "task_words"
    question = "Toward which tasks did feed-forward layers rotate?"
    label = "Task words"
    topic = "words of user tasks in feed-forward layers"
    reads = "weight_pair"
    order = 35
    unit = "results"
    uses = (_DIRECTIONS,)
    shortcut_names = ("task_energy",)
    Options: ClassVar[type] = TaskWordsOptions

    def units(self, plan: Plan) -> Sequence[str]:
        """Return, for values and keys, a unit for the words and one for each layer."""
        return [
            unit for kind in _KINDS for unit in (f"{kind}-{_WORDS}", *(f"{kind}-{layer:02d}" for layer in plan.layers))
        ]

    def check(self, plan: Plan) -> None:
        """Raise ProbeError for mixtures of experts, and for sets of one's own without enough known words."""
        model, sets = plan.models["base"], plan.options.task_words
        if experts := model.facts.get("experts"):
            raise ProbeError(
                f"{model.name} has feed-forward layers that are mixtures of {experts} experts; expected one network in "
                "each layer: keys and values of experts cannot be read yet."
            )
        if sets.name != BUILTIN and model.tokenizer is not None:
            words = plan.options.vocabulary
            known = words.token_ids(model.tokenizer).known
            known_sets(sets, [word for word, there in zip(words.words, known, strict=True) if there])

    def describe(self, plan: Plan) -> Mapping[str, object]:
        """Return the seed of the control sets."""
        return {"control_seed": plan.seed}

    def open(self, source: WeightPair, plan: Plan) -> Callable[[Kind], TaskWords]:
        """Return the words of each kind of vectors, looked up once for all layers."""
        from itlens.findings.task_words.probe import TaskWords, checked_shapes

        checked_shapes(source.base, source.tuned)
        current: dict[Kind, TaskWords] = {}

        def words(kind: Kind) -> TaskWords:
            if kind not in current:
                current.clear()  # the vectors of all words take much memory: one kind at a time
                current[kind] = TaskWords(
                    *source, plan.options.task_words, plan.options.vocabulary, vectors=kind, seed=plan.seed
                )
            return current[kind]

        words(_KINDS[0])
        return words

    def leaves_out(self, error: ItlensError) -> bool:
        """Return whether a layer has no directions; sets without words fail before any layer is read."""
        return isinstance(error, ProbeError)

    def run(self, source: Callable[[Kind], TaskWords], unit: str, plan: Plan) -> Result:
        """Return the words and their control sets, or the energies of one layer."""
        kind, _, part = unit.partition("-")
        words = source("value" if kind == "value" else "key")
        if part == _WORDS:
            return words.controls()
        held = [plan.saved(_DIRECTIONS, unit, side) for side in ("base", "tuned")]
        known = [side["concepts"]["direction"].values[0] for side in held if side is not None]
        return words.read(int(part), (known[0], known[1]) if len(known) == len(held) else None)

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Return task_energy (of `itlens.task_energy`), task_gains, task_changes, and task_lists (the words)."""
        units = saved["pair"]
        found: dict[Kind, tuple[xr.Dataset, xr.Dataset]] = {}
        for kind in _KINDS:
            layers = [units[unit] for unit in units if unit.startswith(f"{kind}-") and not unit.endswith(_WORDS)]
            if f"{kind}-{_WORDS}" in units and layers:
                joined = xr.concat(layers, dim="layer", join="exact", combine_attrs="override")
                found[kind] = units[f"{kind}-{_WORDS}"], joined
        if not found:
            raise ProbeError("No layer of task_words is finished; run the same comparison again.")
        energy = set_energies(found)
        return {
            "task_energy": energy,
            "task_gains": task_gains(energy, seed=plan.seed),
            "task_changes": task_changes(energy, seed=plan.seed),
            "task_lists": _lists(next(iter(found.values()))[0]),
        }

    def verdict(self, tables: Tables) -> Verdict:
        """Return which tasks gained, by how much, beyond words like theirs and topics like them."""
        gains, energy = tables["task_gains"], tables["task_energy"]
        if not int(np.nansum(energy["change_rank"].values)):
            sentence = "No change: the feed-forward weights of both models are the same numbers."
            return Verdict(sentence, numbers=(Headline("gain of task words", 0.0, n=len(gains)),))
        known = gains[np.isfinite(gains["p_holm"])]
        if not len(known):
            return Verdict("Not tested: no task has energies in any layer.", tested=False)
        significant = known[known["p_holm"] < LEVEL]
        first = significant if len(significant) else known.sort_values("p", kind="stable").head(1)
        numbers = tuple(_headline(row) for _, row in first.iterrows())
        if not len(significant):
            row = first.iloc[0]
            sentence = (
                f"No significant rotation toward or away from a task: of {len(known)} sets, {_said(row)} comes nearest "
                f"(Holm {p_text(float(row['p_holm']))})."
            )
            return Verdict(sentence, numbers=numbers, short="no significant gain or loss of a task")
        toward, away = (significant[sign * significant["excess"] > 0] for sign in (1, -1))
        ways = [(rows, words) for rows, words in ((away, "away from"), (toward, "toward")) if len(rows)]
        parts = [f"{words} {_listed(rows)}" for rows, words in ways]
        short = [f"{words} {_tasks(rows)}" for rows, words in ways]
        none = [] if len(toward) else [f"toward none of the {known['task'].nunique()} tasks"]
        subject = "the feed-forward layers rotated"
        return Verdict(
            f"Compared with control words, {subject} {' and '.join([*parts, *none])}.",
            direction="changed" if len(ways) > 1 else "higher" if len(toward) else "lower",
            caveat="Sets of words stand for tasks: directions that serve a task without its words are not seen.",
            numbers=numbers,
            short=f"{subject} {' and '.join([*short, *none])}",
            word=short[0] if len(ways) == 1 and len(short[0]) <= LONGEST_WORD else "",
        )

    def show(self, tables: Tables) -> Sequence[Block]:
        """Return cards, maps of tasks x layers for values and keys, both tables, and the words."""
        gains, energy = tables["task_gains"], tables["task_energy"]
        words = Table(tables["task_lists"], WORDS, "The words of each task", folded=True, terminal=False)
        if not int(np.nansum(energy["change_rank"].values)):
            return [Text("The feed-forward weights of both models are the same numbers."), words]
        kinds = list(dict.fromkeys(gains["vectors"]))
        changes = tables["task_changes"]
        (gained, of_gains), (changed, of_changes) = (
            shown_columns(table, columns) for table, columns in ((gains, GAINS), (changes, CHANGES))
        )
        return [
            *(card for kind in kinds for card in _cards(gains[gains["vectors"] == kind], kind)),
            Text(_INTRO),
            *(Figure(task_gain_map(energy, gains, kind), wide=True) for kind in kinds),
            Table(gains, gained, "Gains of the tasks", _joined("means over layers", of_gains), sortable=True),
            Table(changes, changed, "Tasks in the change", _joined(_CHANGE, of_changes), sortable=True, terminal=False),
            words,
        ]

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Return a caveat where controls cannot tell a topic, and on few layers."""
        gains = tables["task_gains"]
        only = gains[(gains["p_matched"] < LEVEL) & (gains["p_topic"] >= LEVEL)]
        notes = []
        if len(only):
            tasks = ", ".join(dict.fromkeys(only["task"]))
            notes.append(
                f"Against matched words alone, the p of {tasks} is below 0.05; random topics move as far, so that this "
                "is not counted."
            )
        return notes

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Return definitions of the words of the section."""
        return TERMS

    def places(self, tables: Tables) -> Sequence[Place]:
        """Return the energies of all tasks in every layer."""
        return list(task_places(tables["task_energy"]))

    def detectors(self) -> Sequence[type[Detector]]:
        """Return the detector of rotated values."""
        from itlens.findings.task_words.detectors import WordEnergy

        return (WordEnergy,)

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """Offer `task_energy`: the Dataset of `itlens.task_energy`."""
        return {"task_energy": tables["task_energy"]}


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def _lists(controls: xr.Dataset) -> pd.DataFrame:
    words = controls["word"].values.astype(object)
    rows = []
    for task in controls["set"].values:
        own = words[controls["member"].sel(set=task).values].tolist()
        rows.append({"task": str(task), "words": len(own), "listed": ", ".join(own)})
    return pd.DataFrame(rows)


def _said(row: pd.Series[Any], test: str = "") -> str:
    low, high = 100 * row["ci_low"], 100 * row["ci_high"]
    over = f", 95 % over {row['layers']} layers [{number(low, 2)}, {number(high, 2)}]" if low == low else ""
    sign = "+" if row["excess"] > 0 else ""
    return f"{row['task']} in {row['vectors']}s ({sign}{number(100 * row['excess'], 2)} points{over}{test})"


def _listed(rows: pd.DataFrame) -> str:
    """Return tasks with their gains and p-values: "mathematics in keys (−0.71 points, Holm p = 0.024)"."""
    return ", ".join(_said(row, f", Holm {p_text(float(row['p_holm']))}") for _, row in rows.iterrows())


def _tasks(rows: pd.DataFrame) -> str:
    return ", ".join(dict.fromkeys(rows["task"]))


def _headline(row: pd.Series[Any]) -> Headline:
    name = f"{row['task']} in {row['vectors']}s, more than controls"
    low, high, p = (float(row[each]) for each in ("ci_low", "ci_high", "p_holm"))
    value = 100 * float(row["excess"])
    return Headline(name, value, 100 * low, 100 * high, p, int(row["layers"]), "points")


def _cards(rows: pd.DataFrame, kind: str) -> list[Card]:
    if rows["excess"].isna().all():
        return []
    most = rows.sort_values("excess", ascending=False, kind="stable").iloc[0]
    gained = rows[(rows["p_holm"] < LEVEL) & (rows["excess"] > 0)]
    detail = f"most: {_said(most)}"
    return [Card(f"tasks that gained · {KIND_NAMES[kind]}", f"{len(gained)} of {len(rows)}", detail)]


FINDING = TaskWordsFinding()
