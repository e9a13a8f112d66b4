"""What the finding knows of each layer, for the panels of the page: how far its concepts rotated, and the concepts.

A concept of the tuned model stands next to the base component that matches it, one to one, so that every component of
either model is in one place. How many words of each are listed depends on how many concepts there are, so that a page
stays small; whether a word is in one model's list only is judged by all words kept of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.findings.mlp.columns import count_rows
from itlens.findings.mlp.vectors import ConceptResults
from itlens.report.explorer_places import Place, PlaceNumber, PlaceWords

MOST_WORDS = 25  # of a concept
_FEWEST, _OF_PAGE = 6, 240_000  # words of a concept at least, and of all concepts of both models together about
_TASK = "task_"
_CHANGES = {
    "kept": "concepts of tuned with a like in base",
    "gained": "concepts of tuned only",
    "lost": "concepts of base only",
}


def concept_places(results: Sequence[ConceptResults], most: int | None = None) -> Iterator[Place]:
    """Yield, for each kind of vectors, a place for every layer, then one for every concept in it.

    most: words of a concept; default 25, or fewer where there are very many concepts.
    """
    lists = sum(2 * kind.tuned.sizes["layer"] * kind.tuned.sizes["component"] for kind in results)
    most = min(MOST_WORDS, max(_FEWEST, _OF_PAGE // max(1, lists))) if most is None else most
    for kind in results:
        yield from _layers(kind)
        yield from _concepts(kind, most)


def _layers(kind: ConceptResults) -> Iterator[Place]:
    turned = kind.turned
    counts = count_rows(kind.changes).set_index("layer").to_dict("index")
    at = {str(name): turned[name].transpose("layer", "k").values for name in _ROTATION}
    random = {end: turned[f"random_{end}"].values.tolist() for end in ("overlap", "low", "high")}
    for i, layer in enumerate(turned["layer"].values.tolist()):
        numbers = []
        for j, k in enumerate(turned["k"].values.tolist()):
            cell = {name: float(values[i, j]) for name, values in at.items()}
            numbers += _rotation(cell, k, *(random[end][j] for end in ("overlap", "low", "high")))
        of_layer = counts.get(layer, {})
        numbers += [PlaceNumber(words, float(of_layer[name])) for name, words in _CHANGES.items() if name in of_layer]
        yield Place(layer, what=f"Rotation of the {kind.vectors} concepts", numbers=numbers)


def _rotation(cell: Mapping[str, float], k: int, random: float, low: float, high: float) -> list[PlaceNumber]:
    return [
        PlaceNumber(f"overlap of the first {k} (p: noise of the neurons)", cell["overlap"], p=cell["p_floor"]),
        PlaceNumber(f"noise floor of the overlap, k = {k}", None, cell["floor_base"], cell["floor_tuned"]),
        PlaceNumber(f"overlap of random spaces, k = {k}", random, low=low, high=high),
        PlaceNumber(f"mean principal angle, k = {k}", float(np.degrees(cell["mean_angle"])), unit="°"),
        PlaceNumber(f"tuned variance that base's first {k} explain", 100 * cell["transfer_base"], unit="%"),
    ]


_ROTATION = ("overlap", "p_floor", "floor_base", "floor_tuned", "mean_angle", "transfer_base")


def _concepts(kind: ConceptResults, most: int) -> Iterator[Place]:
    what = f"{kind.vectors.capitalize()} concepts"
    labels = {"base": concept_labels(kind.base_labels), "tuned": concept_labels(kind.tuned_labels)}
    for layer in kind.tuned["layer"].values.tolist():
        base, tuned = (_Layer(ds, layer) for ds in (kind.base, kind.tuned))
        at_layer = kind.turned.sel(layer=layer)
        match = dict(zip(at_layer["component"].values.tolist(), at_layer["match"].values.tolist(), strict=True))
        cosine = dict(zip(at_layer["component"].values.tolist(), at_layer["match_cosine"].values.tolist(), strict=True))
        for component in tuned.components:
            other = int(match[component])
            words = tuned.words[component], base.words[other]
            common = set(words[0]) & set(words[1])
            numbers = [
                PlaceNumber("component", None, other, component),
                PlaceNumber("share of the variance", None, base.explained[other], tuned.explained[component], unit="%"),
                PlaceNumber("|cosine| of the two components", float(cosine[component])),
                PlaceNumber(f"words in both lists, of {len(words[0])}", len(common)),
            ]
            yield Place(
                layer, what=what, part=f"concept {component}", numbers=numbers,
                base=base.listed(other, common, labels["base"].get((layer, other), ""), most),
                tuned=tuned.listed(component, common, labels["tuned"].get((layer, component), ""), most),
            )  # fmt: skip


class _Layer:
    """The concepts of one model's layer. explained: by component, in per cent."""

    def __init__(self, ds: xr.Dataset, layer: int) -> None:
        of_layer = ds.sel(layer=layer).transpose("component", ...)
        self.components: list[int] = of_layer["component"].values.tolist()
        rows = [of_layer[name].values.reshape(len(self.components), -1).tolist() for name in ("word", "score")]
        self.words: dict[int, list[str]] = dict(zip(self.components, rows[0], strict=True))
        self._scores: dict[int, list[float]] = dict(zip(self.components, rows[1], strict=True))
        shares = (100 * of_layer["explained"].values.astype(float)).tolist()
        self.explained: dict[int, float] = dict(zip(self.components, shares, strict=True))

    def listed(self, component: int, common: set[str], label: str, most: int) -> PlaceWords:
        """Return the first words of a component."""
        words = self.words[component]
        shown = words[:most]
        scores = {"|cosine|": self._scores[component][:most]}
        return PlaceWords(shown, scores, [word not in common for word in shown], len(words), label)


def concept_labels(labels: pd.DataFrame) -> Mapping[tuple[int, int], str]:
    """Return what was said of each (layer, component): its description, level and tasks, by the first seed that knows.

    "cannot tell" where no more than half of the seeds (and poles) know.
    """
    said: dict[tuple[int, int], str] = {}
    if not len(labels):
        return said
    tasks = [str(name) for name in labels.columns if str(name).startswith(_TASK)]
    lists: dict[tuple[int, int], list[dict[str, Any]]] = {}
    names = ("layer", "component", "known", "description", "level", *tasks)
    for values in zip(*(labels[name].tolist() for name in names), strict=True):
        row = dict(zip(names, values, strict=True))
        lists.setdefault((int(row["layer"]), int(row["component"])), []).append(row)
    for place, rows in lists.items():
        known = [row for row in rows if row["known"]]
        if 2 * len(known) <= len(rows):
            said[place] = "cannot tell"
            continue
        first = known[0]
        parts = [str(first["description"]), str(first["level"])]
        parts += [name.removeprefix(_TASK) for name in tasks if first[name]]
        said[place] = " · ".join(filter(None, parts))
    return said
