"""Weight change: where tuning moved the weights, in how many directions, and which words these are near."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.base import Finding, Headline, Plan, Result, Saved, Tables, Verdict
from itlens.findings.shared import VOCABULARY
from itlens.findings.weight_delta.columns import AGREEMENT, HEADS, TERMS, WRITTEN, shown_matrices, span
from itlens.findings.weight_delta.diff import (
    TENTH,
    concentration,
    head_rows,
    matrices_differ,
    matrix_rows,
    other_rankings,
    rankings_agree,
    written_rows,
)
from itlens.findings.weight_delta.view import weight_heads, weight_matrices, weight_places
from itlens.report.blocks import Block, Card, Figure, Table, Text
from itlens.report.explorer_places import Place
from itlens.report.numbers import number, percent
from itlens.stats.paired import p_text
from itlens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from itlens.findings.benchmark import Benchmark
    from itlens.findings.detector import Detector
    from itlens.findings.weight_delta.probe_words import ChangeInWords
    from itlens.weights import WeightPair

LEVEL = 0.05
_NARROW = 9  # heads that fit side by side on a telephone
_IN_TERMINAL = 8
_CAVEAT = "Sizes say where training moved the weights, not which of it matters for the output."


@dataclass(frozen=True)
class WeightDeltaOptions:
    """vocabulary: the words that directions are read in."""

    vocabulary: Vocabulary = VOCABULARY


class WeightDelta(Finding):
    """The difference of both models' weights, by matrix and by head."""

    name = "weight_delta"
    label = "Weight change"
    question = "Where did tuning change the weights, and in how many directions?"
    topic = "the change of the weights"
    reads = "weight_pair"
    order = 55
    unit = "layers"
    uses = ("attention", "activation", "patching")
    shortcut_names = ("weight_change",)
    Options: ClassVar[type] = WeightDeltaOptions

    def units(self, plan: Plan) -> Sequence[str]:
        """Return a unit per layer."""
        return [f"layer-{layer:02d}" for layer in plan.layers]

    def check(self, plan: Plan) -> None:
        """Raise ProbeError for mixtures of experts."""
        model = plan.models["base"]
        if experts := model.facts.get("experts"):
            raise ProbeError(
                f"{model.name} has feed-forward layers that are mixtures of {experts} experts; expected one network in "
                "each layer: the change of experts cannot be read yet."
            )

    def describe(self, plan: Plan) -> Mapping[str, object]:
        """Return the seed of the nulls' draws."""
        return {"delta_seed": plan.seed}

    def open(self, source: WeightPair, plan: Plan) -> tuple[WeightPair, ChangeInWords | None]:
        """Check the shapes, and look up the words once for all layers; no words without a tokenizer that knows any."""
        from itlens.findings.weight_delta.probe import checked_weights
        from itlens.findings.weight_delta.probe_words import ChangeInWords

        checked_weights(source.base, source.tuned)
        vocabulary, tokenizer = plan.options.vocabulary, source.tuned.tokenizer
        if tokenizer is None or not vocabulary.token_ids(tokenizer).known.any():
            return source, None
        return source, ChangeInWords(source.base, source.tuned, vocabulary, seed=plan.seed)

    def run(self, source: tuple[WeightPair, ChangeInWords | None], unit: str, plan: Plan) -> Mapping[str, Result]:
        """Compare one layer of both models."""
        from itlens.findings.weight_delta.probe import layer_changes

        (base, tuned), words = source
        layer = int(unit.removeprefix("layer-"))
        delta, writes = layer_changes(base, tuned, layer, seed=plan.seed)
        return {"delta": delta} if words is None else {"delta": delta, "words": words.read(layer, writes)}

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Return weight_delta (of `itlens.weight_delta`), weight_matrices, weight_heads; weight_words where there are
        words; weight_agreement where another finding ranks heads."""
        layers = list(saved["pair"].values())
        delta = _joined([layer["delta"] for layer in layers])
        spoken = [layer["words"] for layer in layers if "words" in layer]
        words = _joined(spoken) if len(spoken) == len(layers) else None
        tables: dict[str, Any] = {
            "weight_delta": delta,
            "weight_matrices": matrix_rows(delta, seed=plan.seed),
            "weight_heads": head_rows(delta, words),
        }
        if words is not None:
            tables["weight_words"] = written_rows(words)
        others = other_rankings({name: plan.tables(name) for name in self.uses})
        if others and bool((delta["head_relative"] > 0).any()):
            tables["weight_agreement"] = rankings_agree(delta, others, seed=plan.seed)
        return tables

    def verdict(self, tables: Tables) -> Verdict:
        """Return by how much the matrices changed, which most, and in how many directions."""
        delta, rows = tables["weight_delta"], tables["weight_matrices"]
        if not (rows["relative"] > 0).any():
            sentence = "No change: the weights of both models' layers are the same numbers."
            return Verdict(sentence, numbers=(Headline("relative change", 0.0, n=int(rows["layers"].max())),))
        mean, (low, high) = _overall(delta)
        ranked = rows.sort_values("relative", ascending=False, kind="stable")
        most, least = ranked.iloc[0], ranked.iloc[-1]
        p, layers = matrices_differ(delta), int(delta.sizes["layer"])
        spread = float(rows["effective_rank"].sum() / rows["effective_rank_random"].sum())
        which = f"with no significant difference between matrices (Friedman's {p_text(p)})"
        if p < LEVEL:
            which = (
                f"{most['matrix']} most ({percent(most['relative'])} %) and {least['matrix']} least "
                f"({percent(least['relative'])} %; Friedman's {p_text(p)})"
            )
        sentence = (
            f"Tuning moved the matrices by {percent(mean)} % of their size on average over layers "
            f"{span(low, high)}, {which}. The change spreads over {percent(spread, 0)} % of the directions "
            "that noise would take."
        )
        numbers = (
            Headline("relative change of the matrices", mean, low, high, n=layers, signed=False),
            Headline("most less least changed matrix", float(most["relative"] - least["relative"]), p=p, n=layers),
            Headline("effective rank as a share of noise", spread, signed=False),
            Headline("share of the first tenth of the heads", concentration(delta), signed=False),
        )
        short = (
            f"weights moved by {percent(mean)} % of their size, over {percent(spread, 0)} % of the directions of noise"
        )
        return Verdict(sentence, "changed", caveat=_CAVEAT, numbers=numbers, short=short)

    def show(self, tables: Tables) -> Sequence[Block]:
        """Return cards, lines of matrices with their table, maps of heads with theirs, words, and agreement."""
        delta, rows = tables["weight_delta"], tables["weight_matrices"]
        if not (rows["relative"] > 0).any():
            return [Text("Every weight of every layer is the same in both models.")]
        wide = delta.sizes["head"] > _NARROW
        columns, stayed = shown_matrices(rows)
        blocks: list[Block] = [
            *_cards(delta, rows),
            Text("How far every matrix moved, and over how many directions; norms are left out here.", "By matrix"),
            Figure(weight_matrices(delta), wide=True),
            Table(rows, columns, "Matrices", "; ".join(filter(None, ("means over layers", stayed))), sortable=True),
            Text(
                "W_QK decides which words attend to which, W_OV what is moved. Both are compared as products: a change "
                "of W_Q that one of W_K undoes is none.",
                "Head by head",
            ),
            *(Figure(weight_heads(delta, str(product)), wide=wide) for product in delta["product"].values),
            Table(
                tables["weight_heads"], HEADS, "The heads that changed most", sortable=True, terminal_rows=_IN_TERMINAL
            ),
        ]
        if "weight_words" in tables:
            blocks.append(_words(tables["weight_words"]))
        if "weight_agreement" in tables:
            title = "Do other ways of asking point at the same heads?"
            blocks.append(Table(tables["weight_agreement"], AGREEMENT, title, "rank correlation over heads"))
        return blocks

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Return caveats on words that stand out of nothing, and on files in half precision."""
        notes = []
        if "weight_words" in tables and not (tables["weight_words"]["p_bh"] < LEVEL).any():
            notes.append(
                "No direction of the change is nearer to a word than random directions of the base are: their words "
                "are no finding."
            )
        return notes

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Return definitions of the words of the section."""
        return TERMS

    def distances(self, tables: Tables) -> Mapping[str, float]:
        """Return weight_change: the mean relative change of the matrices."""
        return {"weight_change": _overall(tables["weight_delta"])[0]}

    def detectors(self) -> Sequence[type[Detector]]:
        """Return the detector of changed heads."""
        from itlens.findings.weight_delta.detectors import HeadWeights

        return (HeadWeights,)

    def benchmarks(self) -> Sequence[type[Benchmark]]:
        """Return the benchmark of the change of layers."""
        from itlens.findings.weight_delta.benchmarks import WeightChangeSpeed

        return (WeightChangeSpeed,)

    def places(self, tables: Tables) -> Sequence[Place]:
        """Return how far the weights of every head and layer moved, and what the change of a layer writes."""
        return list(weight_places(tables["weight_delta"], tables.get("weight_words")))

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """Offer `weight_change`: the Dataset of `itlens.weight_delta`."""
        return {"weight_change": tables["weight_delta"]}


def _joined(layers: list[xr.Dataset]) -> xr.Dataset:
    return xr.concat(layers, dim="layer", data_vars="all", coords="minimal", join="exact", combine_attrs="override")


def _overall(delta: xr.Dataset) -> tuple[float, tuple[float, float]]:
    """Return the relative change, mean over matrices and layers, and its bootstrap interval over layers."""
    from itlens.stats.paired import bootstrap_interval

    by_layer = delta["relative"].mean("matrix").values
    return float(by_layer.mean()), bootstrap_interval(by_layer, method="percentile")


def _cards(delta: xr.Dataset, rows: pd.DataFrame) -> list[Card]:
    mean, (low, high) = _overall(delta)
    most = rows.sort_values("relative", ascending=False, kind="stable").iloc[0]
    rank, noise = number(rows["effective_rank"].mean(), 1), number(rows["effective_rank_random"].mean(), 1)
    layers, heads = delta.sizes["layer"], delta.sizes["layer"] * delta.sizes["head"]
    whole, own = span(low, high), span(most["ci_low"], most["ci_high"])
    even = f"of all heads' squared change · {100 // TENTH} % if all {heads} changed alike"
    return [
        Card(
            "change of the matrices", f"{percent(mean)} %", f"of their size · 95 % interval {whole} · {layers} layers"
        ),
        Card("changed most", str(most["matrix"]), f"{percent(most['relative'])} % · 95 % interval {own}"),
        Card("directions of the change", rank, f"effective rank, mean over matrices · noise: {noise}"),
        Card("held by the first tenth of the heads", f"{percent(concentration(delta), 0)} %", even),
    ]


def _words(written: pd.DataFrame) -> Table:
    first = written.sort_values(["p", "score"], ascending=[True, False], kind="stable")
    text = "the first three directions of the change of W_O and W_out in each layer, those of the smallest p first"
    return Table(first, WRITTEN, "What the change writes, in words", text, sortable=True, folded=True, terminal=False)


FINDING = WeightDelta()
