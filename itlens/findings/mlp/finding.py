"""The finding on feed-forward layers: do their concepts rotate, and toward user tasks? (Wu et al. 2024, finding 3.)

For each layer and kind of neuron vectors the principal components are concepts, read as their nearest words
(`probe`) and labelled (`itlens.annotate`). Both models' concepts are compared as subspaces (`diff`), by their words
(`diff_listing`) and by the shares of their labels (`diff_labels`). Only weights are read; no prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import xarray as xr

from itlens.annotate.concept_labels import annotate_concepts, first_words, labeller_identity, labeller_of
from itlens.annotate.labels import TOP, Labeller
from itlens.errors import AnnotateError, ItlensError, ProbeError
from itlens.findings.base import Finding, Plan, Reads, Result, Saved, Tables, Verdict
from itlens.findings.mlp.diff_results import LabelledConcepts, compared_concepts, concept_results, joined_layers
from itlens.findings.mlp.diff_verdict import concept_verdict, read_rotation, read_task_share
from itlens.findings.mlp.vectors import VECTORS, ConceptResults, Vectors, component_count
from itlens.findings.mlp.view_places import concept_places
from itlens.findings.mlp.view_section import concept_blocks
from itlens.findings.options import option
from itlens.findings.shared import VOCABULARY
from itlens.report.blocks import Block
from itlens.report.explorer_places import Place
from itlens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from itlens.annotate.chat_prompt import Cost
    from itlens.findings.benchmark import Benchmark
    from itlens.findings.detector import Detector
    from itlens.findings.mlp.probe import LayerConcepts
    from itlens.models.compatibility import Side
    from itlens.weights import Weights


def _labeller_text(labeller: Labeller) -> str:
    """A labeller in a study's identity: labels of other seeds are other labels."""
    seeds = tuple(getattr(labeller, "seeds", ()))
    name = labeller_identity(labeller)
    return f"{name}, seeds {', '.join(map(str, seeds))}" if seeds else name


LABELLER = option(
    "lexicon",
    help='What labels concepts: "lexicon", itlens.annotate.chat(...), or a function of a list of words.',
    load=lambda given, options: labeller_of(given),
    identify=_labeller_text,
    describe=_labeller_text,
    command_line=False,
)


@dataclass(frozen=True)
class MlpOptions:
    """Options of the finding "mlp"."""

    vocabulary: str | Vocabulary = VOCABULARY
    concept_vectors: tuple[str, ...] = option(
        ("value", "key"),
        help="Vectors to analyse: value (W_out rows), key (W_in columns), gate.",
        one_of=VECTORS,
        aliases=("sides", "side"),
    )
    components: int | None = option(
        None, help="Number of components of each layer, by decreasing variance; default: 300, or all.", at_least=1
    )
    resamples: int = option(10, help="Draws of the neurons for the noise floor of a rotation.", at_least=0)
    concept_words: int = option(50, help="Words kept of each concept.", at_least=1)
    labeller: str | Labeller = LABELLER
    labelled: int = option(50, help="Concepts of each layer that are labelled, from the first.", at_least=1)


class MlpFinding(Finding):
    """Principal angles between the first concepts of each feed-forward layer, compared with random subspaces and a
    noise floor, and the shares of labelled concepts that serve a task or a level of language."""

    name: ClassVar[str] = "mlp"
    question: ClassVar[str] = "Does tuning rotate what feed-forward layers write and read toward user tasks?"
    label: ClassVar[str] = "Feed-forward concepts"
    topic: ClassVar[str] = "concepts of feed-forward layers"
    reads: ClassVar[Reads] = "weights"
    order = 30
    shortcut_names = ("concepts",)
    unit: ClassVar[str] = "layers"
    Options: ClassVar[type] = MlpOptions

    def units(self, plan: Plan) -> Sequence[str]:
        """Return a unit per kind of vectors and layer: value-00, value-01 ..., key-00 ..."""
        return [_unit(vectors, layer) for vectors in plan.options.concept_vectors for layer in plan.layers]

    def check(self, plan: Plan) -> None:
        """Raise an ItlensError for vectors, components, words or a labeller that do not fit the models."""
        model, options = plan.models["base"], plan.options
        if labeller_identity(options.labeller) == "<lambda>":
            raise AnnotateError(
                "The labeller is a lambda, whose labels a resumed study could not distinguish from another's; define "
                "it by a name (def)."
            )
        check_model(model, options.vocabulary, options.concept_vectors, options.components)
        if experts := model.facts.get("experts"):
            raise ProbeError(
                f"{model.name} has feed-forward layers that are mixtures of {experts} experts; expected one network in "
                "each layer: keys and values of experts cannot be read yet."
            )

    def describe(self, plan: Plan) -> Mapping[str, object]:
        """Return how many components are read of each layer, and the seed of the noise floor's draws."""
        return {"components_read": _components(plan), "resample_seed": plan.seed}

    def cost(self, plan: Plan) -> Cost | None:
        """Return what a chat labeller will take for all concepts of both models, about (a `Cost`); None for others.

        The words are not known yet: lists of the vocabulary stand for them, of which none is in the cache.
        """
        labeller = plan.options.labeller
        if not hasattr(labeller, "estimate"):
            return None
        words = plan.options.vocabulary.words
        count = 2 * len(self.units(plan)) * _labelled(plan)
        return labeller.estimate([[words[(start + i) % len(words)] for i in range(TOP)] for start in range(count)])

    def open(self, source: Weights, plan: Plan) -> Callable[[Vectors], LayerConcepts]:
        """Return the probe of each kind of vectors; words are looked up once for all of its layers."""
        from itlens.findings.mlp.probe import LayerConcepts

        options = plan.options
        current: dict[Vectors, LayerConcepts] = {}

        def probe(vectors: Vectors) -> LayerConcepts:
            if vectors not in current:
                current.clear()  # the vectors of all words take much memory: one kind at a time
                current[vectors] = LayerConcepts(
                    source,
                    options.vocabulary,
                    vectors=vectors,
                    layers=plan.layers,
                    components=options.components,
                    top_k=max(options.concept_words, TOP),
                    signed=False,
                    resamples=options.resamples,
                    seed=plan.seed,
                )
            return current[vectors]

        return probe

    def leaves_out(self, error: ItlensError) -> bool:
        """Return whether the model does not allow a layer (a dead one); a labeller that fails, fails on all."""
        return isinstance(error, ProbeError)

    def run(self, source: Callable[[Vectors], LayerConcepts], unit: str, plan: Plan) -> Mapping[str, Result]:
        """Return the concepts of one layer's vectors, and the labels of the first of them."""
        vectors, layer = _of_unit(unit)
        concepts = source(vectors).read(layer)
        labels = annotate_concepts(concepts, plan.options.labeller, components=_labelled(plan), progress=False)
        return {"concepts": first_words(concepts, plan.options.concept_words), "labels": labels}

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Compare both models' concepts, one kind of vectors at a time."""
        tables: dict[str, Result] = {}
        for vectors in plan.options.concept_vectors:
            units = [unit for unit in saved["base"] if _of_unit(unit)[0] == vectors]
            if units:
                base, tuned = (_read(saved[side], units) for side in ("base", "tuned"))
                tables |= compared_concepts(vectors, base, tuned, seed=plan.seed)
        return tables

    def verdict(self, tables: Tables) -> Verdict:
        """Return whether any kind of vectors rotated, and whether toward user tasks."""
        results = concept_results(tables)
        tasks = {str(name): read_task_share(kind.shares) for name, kind in results.items() if kind.shares is not None}
        return concept_verdict([read_rotation(kind.turned) for kind in results.values()], tasks)

    def show(self, tables: Tables) -> Sequence[Block]:
        """Return the figures at the top, then rotation, topics, concepts gained and lost, and cards."""
        return concept_blocks(list(concept_results(tables).values()))

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Return caveats on words, sizes, the noise floor, spectra and answers of a labeller."""
        results = list(concept_results(tables).values())
        if not results:
            return ()
        notes = [*_unknown_words(results[0].base), *_cut_sizes(results[0].turned)]
        if not plan.options.resamples:
            notes.append(
                "Concepts were probed without resampled neurons, so there is no noise floor: whether subspaces rotated "
                "more than the noise of their neurons is not known."
            )
        return [*notes, *(note for kind in results for note in _notes_on(kind))]

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Return definitions of the words of the section."""
        return _TERMS

    def places(self, tables: Tables) -> Sequence[Place]:
        """Return the rotation of every layer, and each of its concepts with words and labels in both models."""
        return list(concept_places(list(concept_results(tables).values())))

    def distances(self, tables: Tables) -> Mapping[str, float]:
        """Return the overlap of each kind of vectors at the quoted size, mean over layers."""
        return {
            f"{name}_overlap": float(np.nanmean(kind.turned["overlap"].sel(k=kind.k)))
            for name, kind in concept_results(tables).items()
        }

    def detectors(self) -> Sequence[type[Detector]]:
        """Return the detectors of rotated values and keys."""
        from itlens.findings.mlp.detectors import Concepts, KeyConcepts

        return (Concepts, KeyConcepts)

    def benchmarks(self) -> Sequence[type[Benchmark]]:
        """Return the benchmark of concepts."""
        from itlens.findings.mlp.benchmarks import ConceptSpeed

        return (ConceptSpeed,)

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """Offer `concepts`: the results of each kind of vectors."""
        return {"concepts": concept_results(tables)}


def check_model(
    model: Side, vocabulary: Vocabulary, vectors: Sequence[str] = ("value",), components: int | None = None
) -> int:
    """Return how many components of a layer are read, before any weights are loaded; components=None: 300, or all.

    Raises ProbeError for vectors that the model does not have, words that its tokenizer does not know, and more
    components than there are.
    """
    from itlens.models.architectures import PLAIN_MLP

    if "gate" in vectors and model.facts["architecture"] in PLAIN_MLP:
        raise ProbeError(
            f'gate vectors: the feed-forward layers of {model.name} have no W_gate; expected "value" or "key".'
        )
    if model.tokenizer is None:
        raise ProbeError(f"{model.name} has no tokenizer, and words need one; give tokenizer=.")
    if not vocabulary.token_ids(model.tokenizer).known.any():
        raise ProbeError(
            f"The tokenizer knows none of the {len(vocabulary)} words of the vocabulary; give a vocabulary in the "
            "language and script that the model reads."
        )
    return component_count(components, model.facts["d_mlp"], model.facts["d_model"])


def _unit(vectors: Vectors, layer: int) -> str:
    return f"{vectors}-{layer:02d}"


def _of_unit(unit: str) -> tuple[Vectors, int]:
    vectors, layer = unit.split("-")
    return next(kind for kind in VECTORS if kind == vectors), int(layer)


def _components(plan: Plan) -> int:
    facts = plan.models["base"].facts
    return component_count(plan.options.components, facts["d_mlp"], facts["d_model"])


def _labelled(plan: Plan) -> int:
    return min(plan.options.labelled, _components(plan))


def _read(saved: Mapping[str, Any], units: Sequence[str]) -> LabelledConcepts:
    return joined_layers(
        [LabelledConcepts(found["concepts"], found["labels"]) for found in map(saved.__getitem__, units)]
    )


def _unknown_words(concepts: xr.Dataset) -> list[str]:
    attrs = concepts.attrs
    number = attrs.get("unknown_to_tokenizer", 0)
    if not number:
        return []
    return [
        f"{number:,} of {attrs['vocabulary_size']:,} words are unknown to the models' tokenizer, and in no concept."
    ]


def _cut_sizes(rotation: xr.Dataset) -> list[str]:
    note = rotation.attrs.get("note", "")
    return [f"Of concepts, {note}."] if note else []


def _notes_on(kind: ConceptResults) -> list[str]:
    notes = []
    if lost := max(ds.attrs.get("without_direction", 0) for ds in (kind.base, kind.tuned)):
        notes.append(
            f"{lost:,} words have no direction (a vector of zeros) to compare {kind.vectors} vectors with, and are "
            "left out."
        )
    if sizes := _without_gap(kind.turned):
        notes.append(
            f"The spectrum of {kind.vectors} vectors has no gap at {'; '.join(sizes)}: which components are the first "
            "k is a matter of chance there, and the largest angles are too."
        )
    for side, labels in {"base": kind.base_labels, "tuned": kind.tuned_labels}.items():
        if unparsed := labels.attrs["unparsed"]:
            notes.append(
                f"{unparsed:,} of {len(labels):,} answers on the {side} model's {kind.vectors} concepts could not be "
                'read, and count as "cannot tell".'
            )
    return notes


def _without_gap(rotation: xr.Dataset) -> list[str]:
    flat = rotation["degenerate"].to_series()
    by_size: pd.Series = flat[flat].reset_index().groupby("k")["layer"].apply(list)
    return [
        f"k = {k} in {'layer' if len(layers) == 1 else 'layers'} {', '.join(map(str, sorted(layers)))}"
        for k, layers in by_size.items()
    ]


_TERMS = {
    "Concept": "A main direction of a layer's neuron vectors (a principal component, by variance), read as its nearest "
    "words. Value vectors are what each neuron of the feed-forward layer writes, key and gate vectors what it looks "
    "for. A concept is a direction of variance: nothing says that the model uses it as a whole.",
    "Overlap of spaces": "Concepts have no sign and no fixed order, so spaces of the first k are compared: the mean "
    "squared cosine of the principal angles between them. 1 is the same space; random ones have k / d_model.",
    "Noise floor": "Each model against itself, with its neurons resampled: how far a space rotates because it is "
    "estimated from a limited number of neurons. It is not a second training run: most of what tuning moves, any "
    "further training would move too.",
    "Degenerate": "The components k and k + 1 explain nearly the same. Which are the first k is then left to chance, "
    "and the largest angles mean little.",
    "Kept, gained, lost": "By words: kept when a concept of the other model shares about half of them. The component "
    "next to it is matched by |cosine|, one to one. “Inside” is how much of a concept is within all components of the "
    "other model that were kept.",
    "Label": "What a labeller says of the 15 top words: a description, a linguistic level, the user tasks that they "
    "serve, or “cannot tell” where fewer than half agree.",
    "Interval and p of shares": "The interval resamples concepts within each layer. p exchanges concepts between the "
    "models at random. Holm's correction allows for the number of tasks, or of levels. Rotation and labels are two "
    "questions: neither says where a space rotated to.",
}

FINDING = MlpFinding()
