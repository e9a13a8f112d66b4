"""Concepts kept, gained and lost by their words, each next to the component it matches.

A concept is kept when some component of the other model, at any place in the order, shares half of its words (Jaccard
overlap of the word lists of at least 1/3: of two lists of 50, 25 words in common). The matching of components only
chooses what is shown next to it. Where variances are nearly equal, components mix and words change although the
subspace stays: `inside` tells such a concept from one that points out of what the other model's components span.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr
from scipy.sparse import csr_array

from itlens.errors import ResultError
from itlens.findings.mlp.diff import ConceptPair, layer_basis, read_concepts, whole_option
from itlens.results.provenance import provenance
from itlens.stats.subspaces import match_components

STATUSES = ("kept", "gained", "lost")
THRESHOLD = 1 / 3


def concept_changes(
    base: xr.Dataset,
    tuned: xr.Dataset,
    *,
    layers: int | Iterable[int] | None = None,
    threshold: float = THRESHOLD,
    words: int = 10,
) -> pd.DataFrame:
    """List every concept of the tuned model as "kept" or "gained", and those of the base model that are "lost".

    base, tuned: the Datasets of `itlens.mlp_concepts`. layers: only these (None: all that were probed). threshold:
    Jaccard overlap, 0 to 1, from which a concept counts as kept. words: how many are shown.

    Columns: layer, status, component (of the tuned model; of the base model for "lost"), matched (the other model's
    component matched to it, one to one), match_cosine (|cosine|), overlap (Jaccard of the words of these two), nearest
    (the other model's component whose words overlap most) and nearest_overlap, which decides the status; inside
    (squared length of the direction within the other model's components, 0 to 1), explained (share of its own model's
    variance), words_base and words_tuned (text, of component and matched, for reading). Per layer: the tuned model's
    components in order, then the lost ones.

    Raises ResultError when these are no such results or do not match, and for a layer that was not probed.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 < threshold <= 1:
        raise ResultError(f"threshold={threshold!r}: expected a number above 0, up to 1.")
    shown, pair = whole_option("words", words, 1), read_concepts(base, tuned)
    tables = [_layer_changes(pair, place, float(threshold), shown) for place in _places(layers, pair.layers)]
    table = pd.concat(tables, ignore_index=True)
    table["status"] = pd.Categorical(table["status"], categories=list(STATUSES))
    models = {f"{name}_model": ds.attrs.get("model", "") for name, ds in (("base", base), ("tuned", tuned))}
    settings = {"vectors": base.attrs["vectors"], "vocabulary": base.attrs["vocabulary"], "threshold": float(threshold)}
    table.attrs |= provenance("diff.concept_changes", **models, **settings)
    return table


def word_overlap(base: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    """Return the Jaccard overlap of two models' word lists (component, words): (component of base, component of tuned).

    A list counts as a set; poles are one list.
    """
    if base.shape[1:] != tuned.shape[1:]:
        raise ResultError(
            f"The base model's concepts have {base.shape[-1]} words each, the tuned model's {tuned.shape[-1]}: probe "
            "both with a vocabulary of which both know as many words."
        )
    count = len(base)
    codes = pd.factorize(np.concatenate([base.reshape(count, -1), tuned.reshape(len(tuned), -1)]).ravel())[0]
    rows = np.repeat(np.arange(count + len(tuned)), codes.size // (count + len(tuned)))
    there = csr_array((np.ones(codes.size), (rows, codes)))
    there.sum_duplicates()
    there.data[:] = 1
    both = (there[:count] @ there[count:].T).toarray()
    size: np.ndarray = np.asarray(there.sum(axis=1)).ravel()
    return np.asarray(both / (size[:count, None] + size[None, count:] - both))


def _places(layers: int | Iterable[int] | None, known: np.ndarray) -> list[int]:
    """The places of the requested layers."""
    if layers is None:
        return list(range(known.size))
    listed = [layers] if isinstance(layers, (int, np.integer)) else list(layers)
    if not listed or (strange := [value for value in listed if value not in known]):
        got = ", ".join(str(value) for value in strange) if listed else "none"
        raise ResultError(f"No such layer in these results: {got}; probed are {known.min()} to {known.max()}.")
    return sorted({int(np.flatnonzero(known == value)[0]) for value in listed})


def _layer_changes(pair: ConceptPair, place: int, threshold: float, shown: int) -> pd.DataFrame:
    inner = layer_basis(pair.base, "base", place) @ layer_basis(pair.tuned, "tuned", place).T
    lists = [_words(ds, place) for ds in (pair.base, pair.tuned)]
    jaccard = word_overlap(*lists)
    matched, _ = match_components(inner)
    texts = [[_text(rows, shown) for rows in words] for words in lists]
    of_tuned = _rows(pair.tuned, place, inner, jaccard, matched, texts[::-1])
    kept = of_tuned["nearest_overlap"] >= threshold
    of_tuned.insert(0, "status", np.where(kept, "kept", "gained"))
    of_base = _rows(pair.base, place, inner.T, jaccard.T, np.argsort(matched), texts)
    of_base = of_base[of_base["nearest_overlap"] < threshold]
    of_base.insert(0, "status", "lost")
    names = {"own": "words_tuned", "other": "words_base"}
    lost = of_base.rename(columns={"own": "words_base", "other": "words_tuned"})
    table = pd.concat([of_tuned.rename(columns=names), lost[of_tuned.rename(columns=names).columns]])
    for column in ("component", "matched", "nearest"):
        table[column] = pair.components[table[column].to_numpy(dtype=np.int64)]
    table.insert(0, "layer", pair.layers[place])
    return table


def _rows(
    ds: xr.Dataset, place: int, inner: np.ndarray, jaccard: np.ndarray, matched: np.ndarray, texts: list[list[str]]
) -> pd.DataFrame:
    """One model's components, by place. inner, jaccard: (other, own). texts: of its own concepts, then the other's."""
    own = np.arange(len(matched))
    columns = {
        "component": own,
        "matched": matched,
        "match_cosine": np.minimum(np.abs(inner[matched, own]), 1.0),
        "overlap": jaccard[matched, own],
        "nearest": jaccard.argmax(axis=0),
        "nearest_overlap": jaccard.max(axis=0),
        "inside": np.minimum(np.square(inner).sum(axis=0), 1.0),
        "explained": ds["explained"].values[place],
        "other": [texts[1][i] for i in matched],
        "own": texts[0],
    }
    return pd.DataFrame(columns)


def _words(ds: xr.Dataset, place: int) -> np.ndarray:
    """(component, rank) or (component, pole, rank)."""
    words = ds["word"].isel(layer=place)
    return np.asarray(words.transpose("component", ..., "rank").values, dtype=object)


def _text(words: np.ndarray, shown: int) -> str:
    if words.ndim == 1:
        return ", ".join(words[:shown])
    return "; ".join(f"{pole} {', '.join(listed[:shown])}" for pole, listed in zip(("+", "-"), words, strict=True))
