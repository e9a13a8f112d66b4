"""What tuning changed in the words that heads relate, and whether instruction verbs gained (finding 2).

1. Align two tables of word pairs by layer and head. 2. Per head: distinct pairs kept, gained and lost. 3. Count the
verbs in each head's repeated pairs (`diff_verbs`). 4. Per head: how much the instruction verbs' counts changed,
compared with random verb sets and with base and tuned swapped in random dimensions, Benjamini-Hochberg over the heads.
5. Per group of layers, the paper's table: of the heads whose count of a verb changed, in what share did it rise? The
instruction verbs' shares compared with those of the general verbs: difference of means with its bootstrap interval,
Cohen's d, the paper's test (Welch over verbs, here two-sided), and both nulls, in random heads; `p_null` is the larger
p of the two.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.attention.diff_pairs import PairTables, pair_overlap, read_pair_tables
from itlens.findings.attention.diff_verbs import (
    VerbCounts,
    VerbLookup,
    count_verbs,
    swap_dimensions,
    swap_heads,
    verb_lookup,
    verb_strata,
)
from itlens.findings.shared import attrs_of_sides
from itlens.results.provenance import provenance
from itlens.stats.grouping import label_chance, layer_groups, set_null
from itlens.stats.paired import adjust, bootstrap_difference, cohen_d, mean, std, welch

_KEPT_ATTRS = (
    *("n_layers", "n_heads", "n_key_value_heads", "d_head", "vocabulary", "vocabulary_name", "vocabulary_size"),
    *("vectors", "vectors_name", "top_k", "deviations", "baseline", "signed"),
)
_ALPHA = 0.05


def compare_word_pairs(
    base: pd.DataFrame,
    tuned: pd.DataFrame,
    *,
    verbs: Iterable[str] | None = None,
    general: Iterable[str] | None = None,
    lemmas: bool = False,
    min_dims: int = 2,
    draws: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Compare two models' word pairs, head by head, and the instruction verbs in them with general verbs.

    base, tuned: the tables of `itlens.qk_word_pairs` of both models (or `itlens.load`). verbs, general: instruction and
    general verbs; None is the built-in list. lemmas: inflected forms count with their lemma. min_dims: a pair counts
    for the verbs when it is in that many dimensions. draws: of the nulls (more where many heads need a finer p).

    Returns, on (layer, head): base_pairs, tuned_pairs, kept, gained, lost (distinct ordered pairs), overlap (Jaccard;
    NaN without pairs); base_instruction_share, tuned_instruction_share (of the words in repeated pairs);
    instruction_change (tuned - base count of the instruction verbs), instruction_expected, _low, _high (mean and 95 %
    range of random verb sets of the same size and profile), instruction_effect ((change - expected) / their standard
    deviation), instruction_p_sets (by those sets), instruction_p_swap (base and tuned swapped in random
    dimensions), instruction_p (the larger of the two), instruction_p_bh (Benjamini-Hochberg over the heads in which any
    verb's count changed; 1 for the others). On (group), for all layers and for each quarter of the depth: heads,
    changed_heads, the numbers of verbs that changed, the tests of `group_tables`, and a note when there is
    none. On (group, verb): heads in which the verb's count was raised and lowered, share (raised of both).

    Raises ResultError when the tables are no word pairs or do not match, and for verb lists without a usable verb.
    """
    for name, value in (("draws", draws), ("min_dims", min_dims)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ResultError(f"{name}={value!r}: expected a whole number of at least 1.")
    tables = read_pair_tables(base, tuned)
    lookup = verb_lookup(tables, verbs, general, lemmas=lemmas)
    counts = count_verbs(tables, lookup, min_dims)
    used, instruction = counts.used, lookup.instruction[counts.used]
    names = tuple(lookup.verbs[i] for i in used)
    strata = verb_strata(names, instruction, (counts.base + counts.tuned).sum(axis=0)[used])
    change = (counts.tuned - counts.base)[:, used]
    groups = layer_groups(tables.layers, int(base.attrs["n_layers"]))
    on_heads = {
        **pair_overlap(tables),
        **_head_tests(tables, lookup, counts, strata, min_dims=min_dims, draws=draws, seed=seed),
    }
    members = {"all": np.ones(tables.cells, bool)}
    members |= {name: np.repeat(np.isin(tables.layers, layers), tables.heads.size) for name, layers in groups.items()}
    on_groups = group_tables(change, instruction, strata, members, draws=draws, seed=seed)
    on_grid = {name: (("layer", "head"), values.reshape(tables.shape)) for name, values in on_heads.items()}
    return xr.Dataset(
        {**on_grid, **on_groups},
        coords={
            "layer": tables.layers,
            "head": tables.heads,
            "group": list(members),
            "verb": ("verb", np.array(names, dtype=np.str_)),
            "kind": ("verb", np.where(instruction, "instruction", "general")),
            "layer_group": (
                "layer",
                np.array([name for name, layers in groups.items() for _ in layers], dtype=np.str_),
            ),
        },
        attrs=_attrs(base, tuned, lookup, lemmas=lemmas, min_dims=min_dims, draws=draws, seed=seed),
    )


def _head_tests(
    tables: PairTables,
    lookup: VerbLookup,
    counts: VerbCounts,
    strata: np.ndarray,
    *,
    min_dims: int,
    draws: int,
    seed: int,
) -> dict[str, np.ndarray]:
    instruction = lookup.instruction[counts.used]
    change = (counts.tuned - counts.base)[:, counts.used]
    changed = change.any(axis=1)
    # the smallest p of n heads must be able to reach alpha / n, the first step of Benjamini and Hochberg
    fine = max(draws, int(np.ceil(2 * changed.sum() / _ALPHA)))
    null = set_null(change.T.astype(float), instruction, strata, draws=fine, shown=draws, seed=seed)
    weights = np.zeros(len(lookup.verbs))
    weights[counts.used] = instruction - label_chance(instruction, strata)
    swap = swap_dimensions(
        tables, lookup, weights, min_dims=min_dims, draws=draws, seed=seed, chosen=changed, fine=null.p <= 0.1,
        fine_draws=fine,
    )  # fmt: skip
    observed = change[:, instruction].sum(axis=1)
    p = np.maximum(null.p, swap)
    away = observed - null.expected
    none = np.where(np.abs(away) < 1e-9, 0.0, np.nan)  # without spread there is no measure of how far
    corrected = adjust(np.where(changed, p, np.nan), "fdr_bh")
    return {
        "base_instruction_share": counts.base_share,
        "tuned_instruction_share": counts.tuned_share,
        "instruction_change": observed,
        "instruction_expected": null.expected,
        "instruction_low": null.low,
        "instruction_high": null.high,
        "instruction_effect": np.divide(away, null.sd, out=none, where=null.sd > 1e-9),
        "instruction_p_sets": null.p,
        "instruction_p_swap": swap,
        "instruction_p": p,
        "instruction_p_bh": np.where(changed, corrected, 1.0),
    }


def _attrs(base: pd.DataFrame, tuned: pd.DataFrame, lookup: VerbLookup, **options: object) -> dict[str, object]:
    sides = attrs_of_sides(base.attrs, tuned.attrs)
    kept = {key: base.attrs[key] for key in _KEPT_ATTRS if key in base.attrs}
    listed = {"verbs_asked": int(lookup.instruction.sum()), "general_asked": int((~lookup.instruction).sum())}
    return provenance("diff.word_pairs", **sides, **kept, **listed, **options)


# ---- groups of layers

_MINIMUM, _RESAMPLES = 5, 2000
TESTED = (
    *("instruction_share", "instruction_std", "general_share", "general_std", "difference", "ci_low", "ci_high"),
    *("effect_size", "t_welch", "p_welch", "null_mean", "null_low", "null_high", "p_sets", "p_swap", "p_null"),
)
_SHARES = (
    *("heads", "changed_heads", "instruction_share", "general_share", "difference", "ci_low", "ci_high"),
    *("effect_size", "t_welch", "p_welch", "null_low", "null_high", "p_null", "note"),
)


def group_tables(
    change: np.ndarray,
    instruction: np.ndarray,
    strata: np.ndarray,
    groups: dict[str, np.ndarray],
    *,
    draws: int,
    seed: int,
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return variables on (group) and (group, verb), as xarray takes them.

    change: tuned - base count on (heads of the grid, verbs). groups: which heads (bool) belong to each group.
    """
    signs = np.sign(change)
    raised, lowered = (
        np.array([(signs[heads] == sign).sum(axis=0) for heads in groups.values()], dtype=np.int64) for sign in (1, -1)
    )
    changed = raised + lowered
    share = np.divide(raised, changed, out=np.full(changed.shape, np.nan), where=changed > 0)
    rows = [
        {"heads": int(heads.sum()), **_group_row(signs[heads], share[i], instruction, strata, draws=draws, seed=seed)}
        for i, heads in enumerate(groups.values())
    ]
    columns = {name: (("group",), np.array([row[name] for row in rows])) for name in rows[0]}
    return {
        **columns,
        "raised": (("group", "verb"), raised),
        "lowered": (("group", "verb"), lowered),
        "share": (("group", "verb"), share),
    }


def _group_row(
    signs: np.ndarray, share: np.ndarray, instruction: np.ndarray, strata: np.ndarray, *, draws: int, seed: int
) -> dict[str, object]:
    known = np.isfinite(share)
    chosen, others = share[known & instruction], share[known & ~instruction]
    row: dict[str, object] = {
        "changed_heads": int(signs.any(axis=1).sum()),
        "instruction_verbs": chosen.size,
        "general_verbs": others.size,
        **dict.fromkeys(TESTED, np.nan),
        "note": _note(chosen.size, others.size),
    }
    row |= {"instruction_share": mean(chosen), "instruction_std": std(chosen)}
    row |= {"general_share": mean(others), "general_std": std(others), "difference": mean(chosen) - mean(others)}
    if row["note"]:
        return row
    row["ci_low"], row["ci_high"] = bootstrap_difference(chosen, others, seed=seed, resamples=_RESAMPLES)
    row["effect_size"] = cohen_d(chosen, others)
    row["t_welch"], row["p_welch"] = welch(chosen, others)
    return row | _nulls(signs[:, known], share[known], instruction[known], strata[known], draws=draws, seed=seed)


def _note(instruction: int, general: int) -> str:
    if instruction + general == 0:
        return "no verb's count changed"
    if min(instruction, general) >= _MINIMUM:
        return ""
    return (
        f"too few verbs for a test (the counts of {instruction} instruction verbs and {general} general verbs changed, "
        f"at least {_MINIMUM} of each needed)"
    )


def _nulls(
    signs: np.ndarray, share: np.ndarray, instruction: np.ndarray, strata: np.ndarray, *, draws: int, seed: int
) -> dict[str, float]:
    """The nulls of the difference of mean shares, over verbs whose counts changed (v)."""
    chosen = instruction.sum()
    per_verb = np.where(instruction, 1 / chosen, -1 / (instruction.size - chosen))
    # with shares centred, the difference of the two means is the sum over the set times a constant
    scale = 1 / chosen + 1 / (instruction.size - chosen)
    null = set_null((share - share.mean())[:, None], instruction, strata, draws=draws, shown=draws, seed=seed)
    # swapping a head turns its raised verbs into lowered ones: what it brings to the difference changes sign
    heads = signs @ (per_verb / (2 * np.abs(signs).sum(axis=0)))
    p_sets, p_swap = float(null.p[0]), swap_heads(heads, draws=draws, seed=seed)
    ends = {f"null_{name}": float(getattr(null, key)[0] * scale) for name, key in _ENDS.items()}
    return {**ends, "p_sets": p_sets, "p_swap": p_swap, "p_null": max(p_sets, p_swap)}


_ENDS = {"mean": "expected", "low": "low", "high": "high"}


def group_rows(ds: xr.Dataset) -> pd.DataFrame:
    """Return the variables of `itlens.diff.word_pairs` on (group), a row per group of layers, "all" first."""
    names = [str(name) for name in ds.data_vars if ds[name].dims == ("group",)]
    table = pd.DataFrame(
        {"group": [str(name) for name in ds["group"].values]} | {name: ds[name].values for name in names}
    )
    return table.sort_values("group", key=lambda group: group != "all", kind="stable").reset_index(drop=True)


def verb_shares(ds: xr.Dataset) -> pd.DataFrame:
    """Return, per group of layers, the share of changed heads in which verbs rose, and the tests (finding 2)."""
    return ds[list(_SHARES)].to_dataframe().reset_index()


def verb_changes(ds: xr.Dataset) -> pd.DataFrame:
    """Return the verbs of `itlens.diff.word_pairs` as a table: group, verb, kind, raised, lowered (heads), share.

    A row per group and verb whose count changed in that group; instruction verbs first, then by share.
    """
    table = ds[["raised", "lowered", "share"]].to_dataframe().reset_index()
    table = table[table["raised"] + table["lowered"] > 0]
    order = {name: i for i, name in enumerate(ds["group"].values.tolist())}
    table = table.assign(order=table["group"].map(order), general=table["kind"] == "general")
    table = table.sort_values(["order", "general", "share", "verb"], ascending=[True, True, False, True])
    table = table[["group", "verb", "kind", "raised", "lowered", "share"]].reset_index(drop=True)
    table.attrs = dict(ds.attrs)
    return table
