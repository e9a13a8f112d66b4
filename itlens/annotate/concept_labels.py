"""Labels for the concepts of a model's feed-forward layers, from their strongest words.

`annotate_concepts` gives a row per layer, component and seed; `with_labels` adds the lexicon's labels to the concepts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import xarray as xr

from itlens.annotate.labels import TASKS, TOP, Label, Labeller
from itlens.annotate.lexicon_labels import lexicon
from itlens.errors import AnnotateError, ResultError
from itlens.progress import late_bar
from itlens.results.provenance import provenance

_KEPT = ("model", "revision", "vectors", "signed", "n_layers", "vocabulary", "vocabulary_name", "vocabulary_size")


class _Concept(NamedTuple):
    layer: int
    component: int
    pole: str
    words: tuple[str, ...]


def annotate_concepts(
    concepts: xr.Dataset,
    labeller: str | Labeller = "lexicon",
    *,
    components: int = 50,
    announce: Callable[[Any], None] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Return what the concepts of `itlens.mlp_concepts` are about, from their 15 top words.

    labeller: "lexicon" (offline, always the same), `itlens.annotate.chat(...)`, or any function of a list of words
    that returns a `Label`. components: how many of each layer, from the first. announce: called before anything is
    sent with what a chat model will take (a `Cost`: requests and tokens, about; no price); what it raises stops all.
    progress: a bar on standard error, which says that as well.

    Columns: layer, component, pole ("+" or "-"; "" for unsigned concepts), words, description, one boolean column per
    task (task_daily, ...), level, confidence, known (False: "cannot tell"), seed (0 for a labeller that needs none),
    labeller. .attrs: where the concepts come from, labeller, labeller_identity, seeds (a list, empty for one without),
    components, unknown and unparsed (counts of rows), cost. Source: Wu et al. 2023, section 5; labels of our own.
    Raises ResultError for something else than concepts, AnnotateError for a labeller that is none or cannot answer.
    """
    chosen = labeller_of(labeller)
    listed = list(_concepts(concepts, components))
    seeds: tuple[int, ...] = tuple(getattr(chosen, "seeds", ()))
    cost = chosen.estimate([concept.words for concept in listed]) if hasattr(chosen, "estimate") else None
    if announce is not None and cost is not None:
        announce(cost)
    bar = "labels" if cost is None else f"labels ({cost})"
    before = getattr(chosen, "unparsed", 0)
    with late_bar(bar, progress) as tell:
        labels = _labels(chosen, listed, seeds, tell)
    rows = [_row(concept, seed, label) for (concept, seed), label in labels]
    table: pd.DataFrame = pd.DataFrame(rows).assign(labeller=labeller_name(chosen))
    facts = {name: concepts.attrs[name] for name in _KEPT if name in concepts.attrs}
    name = labeller_name(chosen)
    table.attrs = provenance("annotate_concepts", **facts, labeller=name, components=components, words=TOP)
    table.attrs |= {"seeds": list(seeds), "unknown": int((~table["known"]).sum())}
    table.attrs["labeller_identity"] = labeller_identity(chosen)
    table.attrs["cost"] = "" if cost is None else str(cost)
    table.attrs["unparsed"] = int(getattr(chosen, "unparsed", 0) - before)
    return table


def with_labels(concepts: xr.Dataset, words: int) -> xr.Dataset:
    """Return the concepts with the lexicon's labels, and with only their first `words` words.

    Adds, on the axes of a list of words, description, tasks (text, joined by commas), level and confidence. Labels are
    read off the words there are, at most 15.
    """
    labels = annotate_concepts(concepts, components=concepts.sizes["component"], progress=False)
    labels["tasks"] = [", ".join(task for task in TASKS if row[f"task_{task}"]) for _, row in labels.iterrows()]
    dims = concepts["word"].dims[:-1]
    shape = tuple(concepts.sizes[dim] for dim in dims)  # labels come in the order of the axes
    added = {
        name: (dims, labels[name].to_numpy(dtype=kind).reshape(shape))
        for name, kind in {"description": object, "tasks": object, "level": object, "confidence": float}.items()
    }
    labelled: xr.Dataset = concepts.assign(added).assign_attrs(labeller=labels.attrs["labeller"])
    return first_words(labelled, words)


def first_words(concepts: xr.Dataset, words: int) -> xr.Dataset:
    """Return the concepts with only their first `words` words: labels may need more than are kept."""
    shown: xr.Dataset = concepts.isel(rank=slice(words)).assign_attrs(top_k=words)
    return shown


def labeller_of(labeller: object) -> Labeller:
    """Return the labeller itself, "lexicon" looked up. Raises AnnotateError for something that is none."""
    if labeller == "lexicon":
        return lexicon()
    if isinstance(labeller, str) or not callable(labeller):
        raise AnnotateError(
            f"labeller={labeller!r}; expected 'lexicon', itlens.annotate.chat(model), or a function of a list of words."
        )
    return cast(Labeller, labeller)


def labeller_name(labeller: Labeller) -> str:
    """Return what tables call it."""
    return str(getattr(labeller, "name", getattr(labeller, "__name__", type(labeller).__name__)))


def labeller_identity(labeller: Labeller) -> str:
    """Return what its labels depend on, seeds apart: its `identity` where it has one, else its name."""
    return str(getattr(labeller, "identity", labeller_name(labeller)))


def _concepts(concepts: object, components: int) -> Iterator[_Concept]:
    """The chosen concepts in order. Raises ResultError."""
    if not isinstance(concepts, xr.Dataset) or "word" not in concepts:
        raise ResultError("annotate_concepts takes the Dataset of itlens.mlp_concepts; got something else.")
    dims = tuple(concepts["word"].dims)
    if dims not in (("layer", "component", "rank"), ("layer", "component", "pole", "rank")):
        raise ResultError(f"annotate_concepts: the words have the axes {dims}; expected those of itlens.mlp_concepts.")
    there = concepts.sizes["component"]
    if type(components) is not int or not 1 <= components <= there:
        raise ResultError(f"components={components!r}; there are concepts for 1 to {there} components.")
    words = concepts["word"].isel(component=slice(components), rank=slice(TOP))
    if "pole" not in dims:
        words = words.expand_dims({"pole": [""]}, axis=2)
    axes = [words[name].values.tolist() for name in ("layer", "component", "pole")]
    for place in np.ndindex(*words.shape[:3]):
        layer, component, pole = (axis[at] for axis, at in zip(axes, place, strict=True))
        yield _Concept(int(layer), int(component), str(pole), tuple(str(word) for word in words.values[place]))


def _labels(
    labeller: Labeller, concepts: list[_Concept], seeds: tuple[int, ...], tell: Callable[[int, int], None]
) -> list[tuple[tuple[_Concept, int | None], Label]]:
    """Every concept with every seed, in order; several at a time where the labeller says so."""
    jobs: list[tuple[_Concept, int | None]] = [(concept, seed) for concept in concepts for seed in seeds or (None,)]
    labels = []
    with ThreadPoolExecutor(getattr(labeller, "workers", 1)) as pool:
        try:
            for number, label in enumerate(pool.map(_asker(labeller), jobs), start=1):
                labels.append((jobs[number - 1], label))
                tell(number, len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what is not sent yet stays unsent
            raise
    return labels


def _asker(labeller: Labeller) -> Callable[[tuple[_Concept, int | None]], Label]:
    def ask(job: tuple[_Concept, int | None]) -> Label:
        concept, seed = job
        words = list(concept.words)
        label = labeller(words) if seed is None else labeller(words, seed=seed)
        if not isinstance(label, Label):
            raise AnnotateError(
                f"The labeller {labeller_name(labeller)} returned {label!r}; expected an itlens.annotate.Label."
            )
        return label

    return ask


def _row(concept: _Concept, seed: int | None, label: Label) -> dict[str, Any]:
    return {
        "layer": concept.layer,
        "component": concept.component,
        "pole": concept.pole,
        "words": " ".join(concept.words),
        "description": label.description,
        **{f"task_{task}": task in label.tasks for task in TASKS},
        "level": label.level,
        "confidence": float(label.confidence),
        "known": label.known,
        "seed": seed or 0,
    }
