"""Word pairs and their diff in the shape that probe and diff give them, made up: views are tested without any model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from tests.diff.word_tables import random_word_table

INSTRUCTION = ("write", "explain", "describe", "summarize", "list", "answer", "translate", "classify", "edit", "find")
GENERAL = ("run", "eat", "walk", "sing", "cook", "swim", "carry", "laugh", "build", "drink", "sleep", "throw")
NOUNS = ("story", "poem", "essay", "bread", "river", "music", "letter", "question", "letters", "a=b", "c|||d", "café")
WORDS = (*INSTRUCTION, *GENERAL, *NOUNS)


def pair_tables(
    layers: int = 4, heads: int = 3, *, words: Sequence[str] = WORDS, pairs: int = 8
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Base and tuned: the tuned keeps most of the base's pairs and draws some of its own; the last head has none."""
    grid: dict[str, Any] = {"layers": range(layers), "heads": range(heads), "words": words, "dims": 6, "pairs": pairs}
    base = random_word_table(1, model="toy/base", **grid)
    other = random_word_table(2, model="toy/tuned", **grid)
    kept = base.sample(frac=0.7, random_state=3)
    tuned = pd.concat([kept, other.sample(frac=0.3, random_state=4)]).drop_duplicates(
        ["layer", "head", "dim", "query", "key"]
    )
    last = {"layer": layers - 1, "head": heads - 1}
    tables = []
    for table, attrs in ((base, base.attrs), (tuned, other.attrs)):
        full = table[(table["layer"] != last["layer"]) | (table["head"] != last["head"])]
        full = full.sort_values(["layer", "head", "dim", "rank"]).reset_index(drop=True)
        full.attrs = attrs
        tables.append(full)
    return tables[0], tables[1]


def word_diff(base: pd.DataFrame, tuned: pd.DataFrame, *, seed: int = 0) -> xr.Dataset:
    """A Dataset like that of `diff.word_pairs`: true counts of pairs, and made-up verbs and tests."""
    layers, heads = (np.array(base.attrs[axis]) for axis in ("layers", "heads"))
    counts = np.zeros((5, layers.size, heads.size), int)
    for (i, layer), (j, head) in ((a, b) for a in enumerate(layers) for b in enumerate(heads)):
        one, two = (pair_set(table, layer, head) for table in (base, tuned))
        counts[:, i, j] = len(one), len(two), len(one & two), len(two - one), len(one - two)
    either = counts[2:].sum(0)
    rng, shape = np.random.default_rng(seed), (layers.size, heads.size)
    with np.errstate(invalid="ignore"):
        overlap = np.where(either, counts[2] / either, np.nan)
    none = np.where(either, 0.0, np.nan)
    share = rng.uniform(0.02, 0.2, (2, *shape)) + none
    change = rng.integers(-9, 12, shape)
    p = rng.uniform(0.06, 1, shape) + none
    p.flat[1] = 0.003
    names = ("base_pairs", "tuned_pairs", "kept", "gained", "lost")
    grid = dict(zip(names, counts, strict=True)) | {
        "overlap": overlap, "base_instruction_share": share[0], "tuned_instruction_share": share[1],
        "instruction_change": change, "instruction_expected": none + 0.4, "instruction_low": none - 4,
        "instruction_high": none + 5, "instruction_effect": change / 2.5 + none, "instruction_p": p / 3,
        "instruction_p_bh": p,
    }  # fmt: skip
    groups = ["all", *(f"layers {part[0]}-{part[-1]}" for part in np.array_split(layers, min(4, layers.size)))]
    verbs = _verbs(len(groups), rng)
    tests = _tests(groups, verbs, shape, rng)
    coords: dict[str, Any] = {"layer": layers, "head": heads, "group": groups, "verb": list(INSTRUCTION + GENERAL)}
    coords["kind"] = ("verb", ["instruction"] * len(INSTRUCTION) + ["general"] * len(GENERAL))
    attrs = {"probe": "diff.word_pairs", "base_model": "toy/base", "tuned_model": "toy/tuned", "min_dims": 2,
             "draws": 1000, "seed": 0, "top_k": 100, "deviations": 1.96, "vocabulary_name": "builtin"}  # fmt: skip
    data = {name: (("layer", "head"), values) for name, values in grid.items()}
    data |= {name: (("group", "verb"), values) for name, values in verbs.items()}
    return xr.Dataset(data | {name: ("group", values) for name, values in tests.items()}, coords=coords, attrs=attrs)


def _verbs(groups: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    shape = (groups, len(INSTRUCTION) + len(GENERAL))
    chance = np.where(np.arange(shape[1]) < len(INSTRUCTION), 0.68, 0.5)
    changed = rng.integers(0, 12, shape)
    raised = rng.binomial(changed, chance)
    share = np.where(changed > 0, raised / np.maximum(changed, 1), np.nan)
    return {"raised": raised, "lowered": changed - raised, "share": share}


def _tests(
    groups: list[str], verbs: dict[str, np.ndarray], shape: tuple[int, int], rng: np.random.Generator
) -> dict[str, Any]:
    own = np.arange(verbs["share"].shape[1]) < len(INSTRUCTION)
    parts = {"instruction": verbs["share"][:, own], "general": verbs["share"][:, ~own]}
    n = len(groups)
    found: dict[str, Any] = {"heads": np.full(n, shape[0] * shape[1]), "changed_heads": np.full(n, 7)}
    for kind, share in parts.items():
        found |= {f"{kind}_verbs": np.isfinite(share).sum(1), f"{kind}_share": np.nanmean(share, 1)}
        found |= {f"{kind}_std": np.nanstd(share, 1)}
    d = found["instruction_share"] - found["general_share"]
    found |= {"difference": d, "ci_low": d - 0.11, "ci_high": d + 0.11, "effect_size": d * 4, "t_welch": d * 19}
    found |= {"p_welch": rng.uniform(0.0001, 0.6, n), "null_mean": np.full(n, 0.004), "null_low": np.full(n, -0.13)}
    found |= {"null_high": np.full(n, 0.14), "p_null": rng.uniform(0.001, 0.9, n), "note": [""] * n}
    return found


def change_table(base: pd.DataFrame, tuned: pd.DataFrame) -> pd.DataFrame:
    """A table like that of `diff.pair_changes`: kept, gained and lost pairs of every head, ranked by relatedness."""
    rows = []
    for layer in base.attrs["layers"]:
        for head in base.attrs["heads"]:
            one, two = (pair_set(table, layer, head) for table in (base, tuned))
            for change, pairs in (("kept", one & two), ("gained", two - one), ("lost", one - two)):
                rows += [(layer, head, change, *pair, rank) for rank, pair in enumerate(sorted(pairs), start=1)]
    return pd.DataFrame(rows, columns=["layer", "head", "change", "query", "key", "rank"])


def moved_table(ds: xr.Dataset, top: int = 10) -> pd.DataFrame:
    """A table like that of `diff.moved_heads`: the heads with the least overlap first."""
    names = [name for name in ds.data_vars if ds[name].dims == ("layer", "head")]
    rows = ds[names].to_dataframe().reset_index().dropna(subset="overlap")
    return rows.sort_values("overlap").head(top).reset_index(drop=True)


def pair_set(table: pd.DataFrame, layer: int, head: int) -> set[tuple[str, str]]:
    """The distinct ordered pairs of one head."""
    rows = table[(table["layer"] == layer) & (table["head"] == head)]
    return set(zip(rows["query"], rows["key"], strict=True))


def attention_tables(layers: int = 4, heads: int = 3, *, words: Sequence[str] = WORDS) -> dict[str, Any]:
    """What the finding of attention shows."""
    base, tuned = pair_tables(layers, heads, words=words)
    ds = word_diff(base, tuned)
    return {
        "word_pairs": ds, "pair_changes": change_table(base, tuned), "moved_heads": moved_table(ds),
        "_base_pairs": base, "_tuned_pairs": tuned, "_names": ("base", "tuned"),
    }  # fmt: skip
