"""Synthetic results of `itlens.mlp_concepts`: bases of planted subspaces, and the Datasets that the probe would return.

A basis is an array (layers, d_model, d_model) of orthonormal rows, strongest first: `random_bases`, `turned`, `mixed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

COMPONENTS, TOP_K, WIDTH, WORDS = 12, 5, 40, 200


def random_bases(seed: int, *, layers: int = 3, width: int = WIDTH) -> np.ndarray:
    """Random orthonormal bases, one per layer."""
    drawn = np.random.default_rng(seed).standard_normal((layers, width, width))
    return np.linalg.qr(drawn)[0].transpose(0, 2, 1)


def turned(bases: np.ndarray, layer: int, inside: int, outside: int, angle: float) -> np.ndarray:
    """The bases with a Givens rotation by `angle` (radians) in the plane of two components of one layer (by place)."""
    out = bases.copy()
    one, other = bases[layer, inside], bases[layer, outside]
    out[layer, inside] = np.cos(angle) * one + np.sin(angle) * other
    out[layer, outside] = np.cos(angle) * other - np.sin(angle) * one
    return out


def mixed(bases: np.ndarray, first: int, last: int, seed: int = 0) -> np.ndarray:
    """The bases with the components first..last-1 of every layer replaced by another basis of the same subspace."""
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((last - first, last - first)))[0]
    out = bases.copy()
    out[:, first:last] = turn @ bases[:, first:last]
    return out


def spectrum(width: int = WIDTH, decay: float = 0.9) -> np.ndarray:
    """Shares of the variance that fall by a constant factor; they sum to 1."""
    shares = decay ** np.arange(width)
    return shares / shares.sum()


def word_list(count: int = WORDS) -> list[str]:
    """Words in the vocabulary's order, some of them hostile."""
    return ["the", "a=b", "c|||d", "<script>", *(f"word{number}" for number in range(count - 4))]


def concept_table(
    bases: np.ndarray,
    *,
    components: int = COMPONENTS,
    top_k: int = TOP_K,
    shares: np.ndarray | None = None,
    words: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    signed: bool = False,
    floor: np.ndarray | None = None,
    ks: Sequence[int] = (),
    model: str = "base",
    **attrs: Any,
) -> xr.Dataset:
    """The Dataset of `itlens.mlp_concepts` for a model whose components are the first rows of `bases`.

    shares: of the variance, (d_model,) or (layers, d_model). layers: their numbers (default from 0). floor: overlaps
    (layers, k, draw) of the noise floor at the sizes `ks`. attrs: override any attribute.
    """
    count, width = bases.shape[0], bases.shape[2]
    shares = np.broadcast_to(spectrum(width) if shares is None else shares, (count, width))
    directions = _fixed_signs(bases[:, :components]).astype(np.float32)
    vocabulary = word_list() if words is None else list(words)
    word, score = _words(directions, vocabulary, top_k, signed)
    dims = ("layer", "component", "pole", "rank") if signed else ("layer", "component", "rank")
    coords: dict[str, Any] = {"layer": np.arange(count) if layers is None else np.asarray(layers)}
    coords |= {"component": np.arange(components), "rank": np.arange(top_k)}
    coords |= {"pole": ["+", "-"]} if signed else {}
    rows = 4 * width
    ds = xr.Dataset(
        {
            "word": (dims, word),
            "score": (dims, score),
            "explained": (("layer", "component"), shares[:, :components].astype(np.float64)),
            "direction": (("layer", "component", "d_model"), directions),
            "total_variance": ("layer", np.full(count, 7.0)),
            "rows": ("layer", np.full(count, rows)),
        },
        coords=coords,
    )
    if floor is not None:
        angles = np.arccos(np.sqrt(floor))
        ds = ds.assign(floor=(("layer", "k", "draw"), floor), floor_angle=(("layer", "k", "draw"), angles))
        ds = ds.assign_coords(k=list(ks), draw=np.arange(floor.shape[2]))
    known: dict[str, Any] = {"probe": "mlp_concepts", "model": model, "revision": "", "architecture": "llama"}
    known |= {"dtype": "float32", "n_layers": int(ds["layer"].max()) + 1, "d_model": width, "d_mlp": rows}
    known |= {"vocabulary": "sha256:0123456789abcdef", "vocabulary_name": "words.txt"}
    known |= {"vocabulary_size": len(vocabulary), "unknown_to_tokenizer": 0, "without_direction": 0, "vectors": "value"}
    known |= {"components": components, "top_k": top_k, "signed": int(signed)}
    known |= {"resamples": 0 if floor is None else floor.shape[2], "seed": 0}
    known |= {"layers": ds["layer"].values.tolist(), "itlens_version": "0"}
    return ds.assign_attrs({**known, **attrs})


def _fixed_signs(rows: np.ndarray) -> np.ndarray:
    largest = np.take_along_axis(rows, np.abs(rows).argmax(-1, keepdims=True), -1)
    return rows * np.where(largest < 0, -1.0, 1.0)


def _words(directions: np.ndarray, words: Sequence[str], top_k: int, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """The strongest words of each component, on random unit word vectors that are the same for every model."""
    vectors = np.random.default_rng(99).standard_normal((len(words), directions.shape[-1]))
    products = directions @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
    scores = np.stack([products, -products], axis=2) if signed else np.abs(products)
    order = np.argsort(-scores, axis=-1, kind="stable")[..., :top_k]
    text = np.array(words, dtype=object)[order]
    return text, np.take_along_axis(scores, order, -1).astype(np.float32)
