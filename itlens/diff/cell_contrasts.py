"""Two causes at once: does a number change with the weights, with the chat template, or with both together?

Per prompt, of its four cells b0, b1 (base without, with the template), t0, t1 (tuned):
1. weights      ((t0 - b0) + (t1 - b1)) / 2        main effect of tuning
2. template     ((b1 - b0) + (t1 - t0)) / 2        main effect of the template
3. interaction  (t1 - t0) - (b1 - b0)              how much more the template does to the tuned model
4. total        t1 - b0 = weights + template       what a user sees who takes the tuned model with its template
5. balance      s_w weights - s_t template, with s the sign of each one's mean: which of the two is larger in size
Over prompts: mean, 95 % BCa bootstrap interval, d_z, paired t (two-sided); Holm over the first three.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from itlens.diff.statistics import adjust, mean, paired_row
from itlens.errors import ResultError

CELLS = (("base", "off"), ("base", "on"), ("tuned", "off"), ("tuned", "on"))
EFFECTS = ("weights", "template", "interaction")
Cell = tuple[str, str]


def two_by_two(
    values: Mapping[Cell, Any],
    groups: Any = None,
    *,
    seed: int = 0,
    resamples: int = 10_000,
    minimum: int = 5,
) -> pd.DataFrame:
    """The effects of weights and template on one number per prompt, over all prompts and per group.

    values: ("base" | "tuned", "off" | "on") -> the numbers by prompt id (a Series, or a mapping). Prompts that are NaN
    in any cell are left out. groups: a group by prompt id. minimum: groups of fewer prompts get no test.

    Returns a table, a row per group ("all" first) and effect: n, mean (the unit of the numbers), ci_low, ci_high,
    effect_size, t, p, p_holm (of the three effects, within a group), note, and the means of the cells base_off,
    base_on, tuned_off, tuned_on. Raises ResultError for missing cells and for prompts that a cell lacks.
    """
    table = _cells(values)
    named = pd.Series(groups if groups is not None else {}, dtype=object).reindex(table.index).fillna("")
    parts = {"all": table} | {str(name): table[named == name] for name in dict.fromkeys(named) if name}
    options: dict[str, Any] = {"seed": seed, "resamples": resamples, "minimum": minimum}
    return pd.concat([_effects(part, name, **options) for name, part in parts.items()], ignore_index=True)


def contrasts(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """The five contrasts per prompt, from columns base_off, base_on, tuned_off, tuned_on."""
    b0, b1, t0, t1 = (table[f"{model}_{state}"].to_numpy(float) for model, state in CELLS)
    weights, template = ((t0 - b0) + (t1 - b1)) / 2, ((b1 - b0) + (t1 - t0)) / 2
    signs = [-1.0 if mean(x) < 0 else 1.0 for x in (weights, template)]
    return {
        "weights": weights,
        "template": template,
        "interaction": (t1 - t0) - (b1 - b0),
        "total": t1 - b0,
        "balance": signs[0] * weights - signs[1] * template,
    }


def _cells(values: Mapping[Cell, Any]) -> pd.DataFrame:
    if not isinstance(values, Mapping) or set(values) != set(CELLS):
        got = sorted(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
        raise ResultError(f"A 2 x 2 needs the cells {', '.join(map(str, CELLS))}, got {got}.")
    columns = {f"{model}_{state}": pd.Series(values[model, state], dtype=float) for model, state in CELLS}
    first = columns["base_off"].index
    for name, column in columns.items():
        if column.index.has_duplicates:
            raise ResultError(f"The cell {name} holds a prompt twice; keep one number per prompt.")
        missing = first.symmetric_difference(column.index)
        if len(missing):
            raise ResultError(f"{len(missing)} prompts are in {name} or in base_off only: {_few(missing)}.")
    return pd.DataFrame({name: column.reindex(first) for name, column in columns.items()}).dropna()


def _effects(table: pd.DataFrame, group: str, **options: Any) -> pd.DataFrame:
    found = contrasts(table)
    means = {name: mean(table[name].to_numpy(float)) for name in table.columns}
    rows = []
    for effect, d in found.items():
        row = paired_row(np.zeros(d.size), d, **options)
        kept = {"n": row["n"], "mean": row["difference"], "ci_low": row["ci_low"], "ci_high": row["ci_high"]}
        tests = {"effect_size": row["effect_size"], "t": row["t_paired"], "p": row["p_paired"], "note": row["note"]}
        rows.append({"group": group, "effect": effect, **kept, **tests, **means})
    out = pd.DataFrame(rows)
    tested = out["effect"].isin(EFFECTS).to_numpy()
    corrected = np.full(len(out), np.nan)
    corrected[tested] = adjust(out["p"][tested])
    out.insert(int(out.columns.get_loc("p")) + 1, "p_holm", corrected)
    return out


def _few(ids: Any) -> str:
    listed = [str(id) for id in ids]
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
