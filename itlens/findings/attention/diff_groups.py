"""The table of finding 2: of the heads whose count of a verb changed, in what share did it rise? Per group of layers.

1. For every verb and group of layers: heads in which its count rose and fell, and the share that rose. 2. The
instruction verbs' shares compared with those of the general verbs: difference of means with its bootstrap interval,
Cohen's d, and the paper's test (Welch over verbs, here two-sided). 3. Two nulls (`diff_nulls`): random verb sets, and
base and tuned swapped in random heads; `p_null` is the larger p of the two.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from itlens.findings.attention.diff_nulls import swap_heads
from itlens.stats.grouping import set_null
from itlens.stats.paired import bootstrap_difference, cohen_d, mean, std, welch

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
