"""Attention: which words each head relates, and whether tuning changed that for instruction verbs (finding 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.attention.columns import (
    MOVED_HEADS,
    SETTINGS,
    VERB_GROUPS,
    WRITTEN_HEADS,
    pair_terms,
    written_terms,
)
from itlens.findings.attention.diff import compare_word_pairs, group_rows, verb_changes, verb_shares
from itlens.findings.attention.diff_pairs import join_pair_tables, moved_heads, pair_changes
from itlens.findings.attention.diff_verdict import conclude_pairs
from itlens.findings.attention.diff_written import written_changes, written_heads
from itlens.findings.attention.view import LEVEL, heads, top_pairs, verbs
from itlens.findings.attention.view_pairs import pair_panel
from itlens.findings.attention.view_places import head_places
from itlens.findings.base import SIDES, Finding, Plan, Saved, Tables, Verdict
from itlens.findings.options import option
from itlens.findings.shared import VECTORS, VOCABULARY
from itlens.report.blocks import Block, Card, Figure, Table, Text
from itlens.report.explorer_places import Place
from itlens.report.numbers import is_number, p_equals, percent, percent_range, whole
from itlens.results.provenance import model_label
from itlens.vocabulary import Vocabulary, WordVectors

if TYPE_CHECKING:
    from itlens.findings.attention.probe_output import BothHalves
    from itlens.findings.benchmark import Benchmark
    from itlens.findings.detector import Detector
    from itlens.weights import Weights

_PANELS = 5  # of the moved heads, with their pairs
_PAIRS = 30  # in each panel
_NARROW = 9  # heads that fit side by side on a telephone
_NAMED = 3  # gained and lost pairs named in the tables of heads
_MOVED = 10  # heads in the table of what heads write
_WRITTEN = 5  # words that a head raises most, for each word that it reads
_SETTINGS = (
    "vocabulary_name", "vocabulary_size", "unknown_to_tokenizer", "unknown_to_vectors", "vectors_name", "top_k",
    "deviations", "baseline", "signed", "min_dims", "lemmas", "draws", "seed",
)  # fmt: skip


@dataclass(frozen=True)
class AttentionOptions:
    """Options of the word pairs."""

    vocabulary: Vocabulary = VOCABULARY
    vectors: WordVectors = VECTORS
    top_k: int = option(100, help="Words per head dimension, as queries and as keys.", at_least=1)
    written_words: int = option(
        150,
        help="Words, from the most frequent, for which is listed what each head writes when it reads them (and the "
        "instruction verbs); 0: none, which saves about 40 % of the time.",
        at_least=0,
    )


class AttentionFinding(Finding):
    """Word pairs that the query and key weights of every head relate, and whether tuning gave instruction verbs more of
    them than other verbs, compared with random sets of verbs."""

    name = "attention"
    question = "Does tuning make attention heads relate the verbs of instructions?"
    label = "Word pairs of heads"
    reads = "weights"
    order = 20
    shortcut_names = ("words", "pairs", "verb_shares", "changes", "moved")
    topic = "instruction verbs in the word pairs of attention heads"
    Options: ClassVar[type] = AttentionOptions
    unit = "layers"
    large = ("pair_changes", "written_changes")

    def units(self, plan: Plan) -> Sequence[str]:
        """One per layer."""
        return [f"layer-{layer:02d}" for layer in plan.layers]

    def check(self, plan: Plan) -> None:
        """Raise ProbeError where no word is known both to the models' tokenizer and to the word vectors."""
        model = plan.models["base"]  # the pair's tokenizers read ordinary text alike
        if model.tokenizer is None:
            raise ProbeError(f"{model.name} has no tokenizer, and words need one; give tokenizer=.")
        vocabulary: Vocabulary = plan.options.vocabulary
        readable = vocabulary.token_ids(model.tokenizer).known
        related = plan.options.vectors.rows(vocabulary.words) >= 0
        if not np.any(readable & related):
            raise ProbeError(
                f"None of the {len(vocabulary)} words of the vocabulary is known both to the tokenizer "
                f"({readable.sum()} words) and to the word vectors ({related.sum()} words); give a vocabulary "
                "and vectors in the language that the model reads, with words written the same way."
            )

    def open(self, source: Weights, plan: Plan) -> BothHalves:
        """Look up the words in the model, and which of them are related, once for all layers."""
        from itlens.findings.attention.probe import LayerSearch
        from itlens.findings.attention.probe_output import BothHalves

        options = plan.options
        search = LayerSearch(source, options.vocabulary, vectors=options.vectors, top_k=options.top_k)
        return BothHalves(source, options.vocabulary, search, count=options.written_words, top_k=_WRITTEN)

    def run(self, source: BothHalves, unit: str, plan: Plan) -> Mapping[str, pd.DataFrame]:
        """Search one layer: the word pairs of its heads, the energies of their dimensions, and what the heads write."""
        return source.layer(int(unit.removeprefix("layer-")))

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Compare the layers that both models have finished.

        word_pairs, pair_changes, verbs, moved_heads: of `itlens.diff`. written_changes, written_heads: of the same,
        where it was computed what heads write. _pairs: all pairs of a model, read on access. _base_pairs, _tuned_pairs:
        those of the moved heads. _names: of the models.
        """
        pairs = PairsOnDisk(saved)
        base, tuned = pairs["base"], pairs["tuned"]
        ds = compare_word_pairs(base, tuned, seed=plan.seed)
        moved = moved_heads(ds)
        return {
            "word_pairs": ds,
            "pair_changes": pair_changes(base, tuned),
            "verbs": verb_changes(ds),
            "moved_heads": moved,
            **_written(saved),
            "_pairs": pairs,
            "_base_pairs": _of_heads(base, moved),
            "_tuned_pairs": _of_heads(tuned, moved),
            "_names": tuple(model_label(table.attrs) for table in (base, tuned)),
        }

    def verdict(self, tables: Tables) -> Verdict:
        """See `itlens.diff.pairs_verdict`."""
        return conclude_pairs(tables["word_pairs"])

    def show(self, tables: Tables) -> Sequence[Block]:
        """Cards, the verbs per group of layers, all heads, the heads whose pairs changed most, and what heads write."""
        return [
            *_cards(tables["word_pairs"]), *_verbs(tables), *_heads(tables), *_moved(tables), *_writing(tables),
            _settings(tables),
        ]  # fmt: skip

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """How many words could not be paired, and groups of layers without a test."""
        attrs = tables["_base_pairs"].attrs
        unknown = {
            "the models' tokenizer": attrs.get("unknown_to_tokenizer", 0),
            "the word vectors": attrs.get("unknown_to_vectors", 0),
        }
        notes = [
            f"{count:,} of {attrs.get('vocabulary_size', 0):,} words are unknown to {where}, and are never paired."
            for where, count in unknown.items()
            if count
        ]
        p = tables["word_pairs"]["p_null"].to_series()
        groups = ["all layers together" if group == "all" else str(group) for group in p.index[p.isna()]]
        return notes + ([f"The verbs of {', '.join(groups)} were not tested: too few changed."] if groups else [])

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Words of the section that need a definition."""
        attrs = tables["word_pairs"].attrs
        terms = pair_terms(attrs.get("top_k", 100), attrs.get("deviations", 1.96), attrs.get("min_dims", 2))
        written = tables.get("written_changes")
        return terms if written is None else terms | written_terms(written.attrs["inputs"], written.attrs["top_k"])

    def places(self, tables: Tables) -> Sequence[Place]:
        """The word pairs of every head in both models, what it writes, and the instruction verbs in its pairs."""
        written = [tables[name] for name in ("written_changes", "written_heads") if name in tables]
        return list(head_places(tables["word_pairs"], tables["pair_changes"], *written))

    def distances(self, tables: Tables) -> Mapping[str, float]:
        """word_pair_overlap: mean over heads of the overlap of both models' pairs."""
        return {"word_pair_overlap": float(tables["word_pairs"]["overlap"].mean())}

    def detectors(self) -> Sequence[type[Detector]]:
        """Word pairs of each head."""
        from itlens.findings.attention.detectors import WordPairs

        return (WordPairs,)

    def benchmarks(self) -> Sequence[type[Benchmark]]:
        """Return the benchmark of word pairs."""
        from itlens.findings.attention.benchmarks import WordPairSpeed

        return (WordPairSpeed,)

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """words, pairs (of "base" and "tuned"), verb_shares, changes, moved."""
        return {
            "words": tables["word_pairs"],
            "pairs": tables["_pairs"],
            "verb_shares": verb_shares(tables["word_pairs"]),
            "changes": tables["pair_changes"],
            "moved": tables["moved_heads"],
        }


class PairsOnDisk(Mapping[str, pd.DataFrame]):
    """All word pairs of "base" and of "tuned" on the finished layers, read on access: a gigabyte for a large model."""

    def __init__(self, saved: Saved) -> None:
        self._saved = saved

    def __getitem__(self, side: str) -> pd.DataFrame:
        return join_pair_tables([layer["pairs"] for layer in self._saved[side].values()])

    def __iter__(self) -> Iterator[str]:
        return iter(SIDES)

    def __len__(self) -> int:
        return len(SIDES)


def _of_heads(pairs: pd.DataFrame, heads: pd.DataFrame) -> pd.DataFrame:
    """The rows of these heads."""
    count = int(pairs.attrs["n_heads"])
    chosen = heads["layer"].to_numpy(np.int64) * count + heads["head"].to_numpy(np.int64)
    rows = pairs[np.isin(pairs["layer"].to_numpy(np.int32) * count + pairs["head"].to_numpy(), chosen)]
    rows.attrs = dict(pairs.attrs)
    return rows


def _written(saved: Saved) -> dict[str, pd.DataFrame]:
    """What heads write in both models; nothing where a layer was computed without."""
    layers = [list(saved[side].values()) for side in SIDES]
    if not all("written" in layer for side in layers for layer in side):
        return {}
    changes = written_changes(*(join_pair_tables([layer["written"] for layer in side]) for side in layers))
    return {"written_changes": changes, "written_heads": written_heads(changes)}


def _cards(ds: xr.Dataset) -> list[Card]:
    """Instruction verbs, general verbs, and their difference over all layers."""
    row = group_rows(ds).iloc[0]
    cards = []
    for kind in ("instruction", "general"):
        share = row[f"{kind}_share"]
        spread = f"± {percent(row[f'{kind}_std'])} over {whole(row[f'{kind}_verbs'])} verbs that changed"
        detail = spread if is_number(share) else "no verb’s count changed in any head"
        cards.append(Card(f"{kind} verbs: changed heads in which the count rose", _with_unit(share, " %"), detail))
    if is_number(row["p_null"]):
        details = [
            f"95 % interval {percent_range(row['ci_low'], row['ci_high'])}",
            f"permutation p {p_equals(row['p_null'])}", f"Welch p {p_equals(row['p_welch'])}",
            f"{whole(row['changed_heads'])} of {whole(row['heads'])} heads changed",
        ]  # fmt: skip
    else:
        details = [str(row["note"] or "no test was possible")]
    difference = _with_unit(row["difference"], " points", sign=True)
    return [*cards, Card("difference, instruction − general", difference, " · ".join(details))]


def _verbs(tables: Tables) -> list[Block]:
    ds = tables["word_pairs"]
    return [
        Text(
            "For each verb: among the heads where tuning changed how many repeated word pairs hold it, the share where "
            "that number rose. Tuning moves all words a little; the question is whether the verbs of instructions rise "
            "more often than other verbs do.",
            "Instruction verbs",
        ),
        Table(
            group_rows(ds),
            VERB_GROUPS,
            "Instruction verbs and general verbs, per group of layers",
            "Shares in per cent, mean ± standard deviation over verbs; d and p compare the two kinds of verbs. Random "
            "verb sets are as large as the instruction verbs, as frequent and as often in pairs.",
        ),
        Figure(verbs(ds), wide=True),
    ]


def _heads(tables: Tables) -> list[Block]:
    ds = tables["word_pairs"]
    return [
        Text(
            "Each cell is a head: which pairs of related words do its query and key dimensions bring together, before "
            "and after tuning? Point at a cell for its counts, and for the pairs gained and lost first.",
            "Head by head",
        ),
        Figure(heads(ds, value=_first_map(ds), changes=tables["pair_changes"]), wide=ds.sizes["head"] > _NARROW),
    ]


def _first_map(ds: xr.Dataset) -> str:
    """The quantity that the map opens on: the finding's own, where any head's count of instruction verbs changed."""
    return "instruction_change" if bool((ds["instruction_change"].fillna(0) != 0).any()) else "gained"


def _moved(tables: Tables) -> list[Block]:
    heading, moved = "The heads that changed most", tables["moved_heads"]
    if not len(moved):
        return [Text("No head changed: all have the same word pairs in both models.", heading)]
    intro = (
        "Heads with the least overlap of their word pairs come first. A head with few pairs changes easily: read the "
        f"counts next to the overlap. p BH is the test of instruction verbs, corrected for all heads (below {LEVEL:g}: "
        "significant)."
    )
    places = [(int(layer), int(head)) for layer, head in zip(moved["layer"], moved["head"], strict=True)]
    sides = tables["_base_pairs"], tables["_tuned_pairs"]
    panels = [
        pair_panel(*sides, layer=layer, head=head, top=_PAIRS, names=tables["_names"])
        for layer, head in places[:_PANELS]
    ]
    listed = _with_pairs(moved, places, tables["pair_changes"])
    return [
        Text(intro, heading),
        Table(listed, MOVED_HEADS, "Heads that changed most", sortable=True, terminal=False),
        *(replace(panel, folded=number > 0) for number, panel in enumerate(panels)),
    ]


def _writing(tables: Tables) -> list[Block]:
    """What heads write: those whose list changed most."""
    changes = tables.get("written_changes")
    if changes is None:
        return []
    heading, by_head = "What heads write", tables["written_heads"]
    moved = by_head[by_head["gained"] + by_head["lost"] > 0].sort_values(
        ["overlap", "layer", "head"], kind="stable", ignore_index=True
    )
    if not len(moved):
        return [Text("No head changed: all write the same words in both models.", heading)]
    intro = (
        f"For {changes.attrs['inputs']} words (the most frequent ones and the instruction verbs): which "
        f"{changes.attrs['top_k']} words does a head raise most when it reads one? Heads with the least overlap of "
        "these pairs come first; this is not tested. The panel of a head lists what it writes in both models."
    )
    first = moved.head(_MOVED)
    places = [(int(layer), int(head)) for layer, head in zip(first["layer"], first["head"], strict=True)]
    listed = _with_pairs(first, places, changes.rename(columns={"input": "query", "output": "key"}))
    title = "Heads whose written words changed most"
    return [Text(intro, heading), Table(listed, WRITTEN_HEADS, title, sortable=True, terminal=False)]


def _with_pairs(moved: pd.DataFrame, places: Sequence[tuple[int, int]], changes: pd.DataFrame) -> pd.DataFrame:
    """The heads with the first pairs that they gained and lost."""
    named = {}
    for change in ("gained", "lost"):
        pairs = top_pairs(changes, change, _NAMED)
        named[f"first_{change}"] = [
            ", ".join(f"{query} → {key}" for query, key in pairs.get(place, [])) for place in places
        ]
    return moved.assign(**named)


def _settings(tables: Tables) -> Table:
    ds = tables["word_pairs"]
    attrs = {**tables["_base_pairs"].attrs, **ds.attrs}
    rows = {"heads compared": whole(ds.sizes["layer"] * ds.sizes["head"])}
    rows |= {name.replace("_", " "): str(attrs[name]) for name in _SETTINGS if attrs.get(name, "") != ""}
    data = pd.DataFrame({"setting": list(rows), "value": list(rows.values())})
    return Table(data, SETTINGS, "Settings of the word pairs", folded=True, terminal=False)


def _with_unit(share: object, unit: str, *, sign: bool = False) -> str:
    shown = percent(share, sign=sign)
    return shown + unit if is_number(share) else shown


FINDING = AttentionFinding()
