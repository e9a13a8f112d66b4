"""Changes of weights over all layers: a row per matrix, the heads that changed most, and agreement with other rankings.

1. Per matrix: means over layers with a 95 % bootstrap interval of the relative change (layers are drawn). Intruders are
   compared with their null, paired over layers (Wilcoxon, Holm over matrices).
2. Do the matrices change by different amounts? Friedman's test of the relative changes, layers as blocks.
3. CONCENTRATION: of the squared relative changes of all heads, the share that the first tenth of the heads holds.
4. Agreement: Spearman's rank correlation over heads of the relative change of W_QK and of W_OV with 1 - overlap of word
   pairs, with the change of what heads write on the same tokens, and with what they carry when they are patched; 95 %
   bootstrap interval over heads, p of random pairings, Holm over the rows. Heads of one layer are not independent, so
   that p is optimistic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import friedmanchisquare

from itlens.stats.paired import adjust, bootstrap_interval, paired_row
from itlens.stats.ranks import rank_correlation, rank_correlation_interval, rank_correlation_p

TENTH = 10
_MEANS = ("cosine", "unchanged", "equal", "effective_rank", "effective_rank_random", "intruders", "intruders_null")


def matrix_rows(delta: xr.Dataset, *, seed: int = 0) -> pd.DataFrame:
    """Return a row per matrix that the model has: matrix, layers, relative (mean) with ci_low and ci_high, the means of
    cosine, unchanged, equal, effective_rank, effective_rank_random, intruders, intruders_null, and p_intruders (Holm).

    delta: of `itlens.weight_delta`.
    """
    rows = []
    for matrix in delta["matrix"].values:
        own = delta.sel(matrix=matrix)
        relative = own["relative"].values[np.isfinite(own["relative"].values)]
        if not relative.size:
            continue
        low, high = bootstrap_interval(relative, seed=seed, method="percentile")
        row = {"matrix": str(matrix), "layers": int(relative.size), "relative": float(relative.mean())}
        row |= {"ci_low": low, "ci_high": high} | {name: float(own[name].mean()) for name in _MEANS}
        both = np.isfinite(own["intruders_null"].values)  # none of a layer that did not change
        tested = paired_row(own["intruders_null"].values[both], own["intruders"].values[both], seed=seed)
        rows.append(row | {"p_intruders": tested["p_wilcoxon"]})
    table = pd.DataFrame(rows)
    table["p_intruders"] = adjust(table["p_intruders"])
    return table


def matrices_differ(delta: xr.Dataset) -> float:
    """Return Friedman's p that all matrices change alike, layers as blocks; NaN for under three layers or matrices, or
    where nothing changed."""
    values = delta["relative"].dropna("matrix", how="all").values
    if min(values.shape) < 3 or not np.ptp(values) > 0:
        return float("nan")
    return float(friedmanchisquare(*values.T).pvalue)


def concentration(delta: xr.Dataset) -> float:
    """Return the share of the heads' squared relative changes that the first tenth of the heads holds; NaN for none."""
    squares = np.sort((delta["head_relative"] ** 2).sum("product").values.ravel())[::-1]
    count = max(1, round(squares.size / TENTH))
    return float(squares[:count].sum() / squares.sum()) if squares.sum() > 0 else float("nan")


def head_rows(delta: xr.Dataset, words: xr.Dataset | None, top: int = 12) -> pd.DataFrame:
    """Return the heads that changed most, by the larger of both products: layer, head, QK and OV (relative), their
    effective ranks and the first words that the change of W_QK matches, as query and as key ("" without words)."""
    names = {"": "head_relative", "rank_": "head_effective_rank"}
    columns = {f"{mark}{product}": delta[name].sel(product=product, drop=True)
               for mark, name in names.items() for product in ("QK", "OV")}  # fmt: skip
    table = xr.Dataset(columns).to_dataframe(dim_order=["layer", "head"]).reset_index()
    order = (-table[["QK", "OV"]].max(axis=1)).argsort(kind="stable")
    table = table.iloc[order[table[["QK", "OV"]].max(axis=1).to_numpy()[order] > 0]].head(top).reset_index(drop=True)
    for end in ("query", "key"):
        table[f"{end}_words"] = [
            "" if words is None else _first(words.sel(layer=layer, head=head, end=end), "match", "match_score")
            for layer, head in zip(table["layer"], table["head"], strict=True)
        ]
    return table


def written_rows(words: xr.Dataset) -> pd.DataFrame:
    """Return a row per direction that a layer's change writes: layer, matrix, direction, words (the strongest first; ~
    before those of the other end), score (|cosine| of the first), p and p_bh (Benjamini-Hochberg over all rows)."""
    rows = [
        {
            "layer": int(layer),
            "matrix": str(matrix),
            "direction": int(direction),
            "words": _first(words.sel(layer=layer, matrix=matrix, direction=direction), "word", "score"),
            "score": float(abs(words["score"].sel(layer=layer, matrix=matrix, direction=direction)[0])),
            "p": float(words["p"].sel(layer=layer, matrix=matrix, direction=direction)),
        }
        for layer in words["layer"].values
        for matrix in words["matrix"].values
        for direction in words["direction"].values
    ]
    table = pd.DataFrame(rows)
    return table.assign(p_bh=adjust(table["p"], "fdr_bh"))


def _first(direction: xr.Dataset, name: str, score: str) -> str:
    """Return words of both ends of a direction in one line, ~ before those of the end that the first is not of."""
    words, scores = direction[name].values.tolist(), direction[score].values
    front = np.sign(scores[0])
    return ", ".join(
        f"{'' if np.sign(value) == front else '~'}{word}" for word, value in zip(words, scores, strict=True) if word
    )


def other_rankings(tables: Mapping[str, Mapping[str, Any] | None]) -> dict[str, xr.DataArray]:
    """Return, by name, what other findings say of each (layer, head), larger = changed or carries more.

    tables: those of the word pairs, of activations and of patching, where they were compared.
    """
    words, shift, patched = (dict(tables.get(name) or {}) for name in ("attention", "activation", "patching"))
    found: dict[str, xr.DataArray] = {}
    if "word_pairs" in words:
        found["word pairs"] = 1 - words["word_pairs"]["overlap"]
    if "result_relative_change" in (moved := shift.get("_shift", {})):
        found["shift"] = moved["result_relative_change"].sel(token_class="rest").mean("prompt")
    if "recovered" in (carried := patched.get("patching", {})) and set(carried["recovered"].dims) == {"layer", "head"}:
        found["patching"] = abs(carried["recovered"])
    return {name: value for name, value in found.items() if np.isfinite(value.values.astype(float)).any()}


def rankings_agree(delta: xr.Dataset, others: Mapping[str, xr.DataArray], *, seed: int = 0) -> pd.DataFrame:
    """Return a row per product and other ranking: product, other, heads, spearman, ci_low, ci_high, p, p_holm."""
    rows = []
    for product in delta["product"].values:
        own = delta["head_relative"].sel(product=product)
        for name, other in others.items():
            a, b = xr.align(own, other.transpose("layer", "head"), join="inner")
            x, y = a.transpose("layer", "head").values.ravel(), b.values.ravel().astype(float)
            low, high = rank_correlation_interval(x, y, seed=seed)
            row = {"product": str(product), "other": name, "heads": int((np.isfinite(x) & np.isfinite(y)).sum())}
            row |= {"spearman": rank_correlation(x, y), "ci_low": low, "ci_high": high}
            rows.append(row | {"p": rank_correlation_p(x, y, seed=seed)})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=adjust(table["p"]))
