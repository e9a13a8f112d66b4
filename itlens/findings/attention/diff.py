"""What tuning changed in the words that heads relate, and whether instruction verbs gained (finding 2).

1. Align two tables of word pairs by layer and head. 2. Per head: distinct pairs kept, gained and lost. 3. Count the
verbs in each head's repeated pairs (`diff_verbs`). 4. Per head: how much the instruction verbs' counts
changed, compared with random verb sets and with base and tuned swapped in random dimensions, Benjamini-Hochberg over
the heads. 5. Per group of layers: the paper's table, with its test and our nulls (`diff_groups`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.attention.diff_changes import pair_overlap
from itlens.findings.attention.diff_groups import group_tables
from itlens.findings.attention.diff_nulls import swap_dimensions, verb_strata
from itlens.findings.attention.diff_tables import PairTables, read_pair_tables
from itlens.findings.attention.diff_verbs import VerbCounts, VerbLookup, count_verbs, verb_lookup
from itlens.results.provenance import provenance
from itlens.stats.grouping import label_chance, layer_groups, set_null
from itlens.stats.paired import adjust

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
    changed_heads, the numbers of verbs that changed, the tests of `diff_groups`, and a note when there is
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
    sides = {
        f"{name}_{key}": table.attrs.get(key, "")
        for key in ("model", "revision", "dtype")
        for name, table in (("base", base), ("tuned", tuned))
    }
    kept = {key: base.attrs[key] for key in _KEPT_ATTRS if key in base.attrs}
    listed = {"verbs_asked": int(lookup.instruction.sum()), "general_asked": int((~lookup.instruction).sum())}
    return provenance("diff.word_pairs", **sides, **kept, **listed, **options)
