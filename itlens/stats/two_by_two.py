"""Two causes at once: does a number change with the weights, with the chat template, or with both together?

Per prompt, of its four cells b0, b1 (base without, with the template), t0, t1 (tuned):
1. weights      ((t0 - b0) + (t1 - b1)) / 2        main effect of tuning
2. template     ((b1 - b0) + (t1 - t0)) / 2        main effect of the template
3. interaction  (t1 - t0) - (b1 - b0)              how much more the template does to the tuned model
4. total        t1 - b0 = weights + template       what a user sees who takes the tuned model with its template
5. balance      s_w weights - s_t template, with s the sign of each one's mean: which of the two is larger in size
Over prompts: mean, 95 % BCa bootstrap interval, d_z, paired t (two-sided); Holm over the first three. The verdict calls
one of two effects the larger only where it is significant and the interval of the balance excludes zero.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from itlens.errors import ResultError
from itlens.files import minus
from itlens.stats.groups import groups_of
from itlens.stats.paired import adjust, mean, p_text, paired_row

CELLS = (("base", "off"), ("base", "on"), ("tuned", "off"), ("tuned", "on"))
EFFECTS = ("weights", "template", "interaction")
Cell: TypeAlias = tuple[str, str]
Numbers: TypeAlias = "pd.Series[Any] | Mapping[str, float]"  # by prompt id
_PRINTED = ("statistic", "group", "effect", "n", "mean", "ci_low", "ci_high", "effect_size", "p_holm")


class TemplateEffects(NamedTuple):
    """What `itlens.diff.template_effects` and `itlens.compare_templates` return; provenance is in the tables' `.attrs`.

    effects: per statistic, group and effect (`two_by_two`). template_share: per group, base and tuned with the template
    on, paired. prompts: a row per prompt and cell.
    """

    effects: pd.DataFrame
    template_share: pd.DataFrame
    prompts: pd.DataFrame

    def __repr__(self) -> str:
        rows = self.effects.loc[self.effects["effect"].isin(EFFECTS), list(_PRINTED)]
        table = rows.to_string(index=False, float_format="{:.3g}".format, na_rep="")
        first = str(self.effects["statistic"].iloc[0])
        return f"{template_verdict(self.effects, statistic=first)}\n\n{table}"


def two_by_two(
    values: Mapping[Cell, Numbers],
    groups: pd.Series[Any] | Mapping[str, str] | None = None,
    *,
    seed: int = 0,
    resamples: int = 10_000,
    minimum: int = 5,
) -> pd.DataFrame:
    """Test the effects of weights and template on one number per prompt, over all prompts and per group.

    values: ("base" | "tuned", "off" | "on") -> the numbers by prompt id (a Series, or a mapping). Prompts that are NaN
    in any cell are left out. groups: a group by prompt id. minimum: groups of fewer prompts get no test.

    Returns a table, a row per group ("all" first) and effect: n, mean (the unit of the numbers), ci_low, ci_high,
    effect_size, t, p, p_holm (of the three effects, within a group), note, and the means of the cells base_off,
    base_on, tuned_off, tuned_on. Raises ResultError for missing cells and for prompts that a cell lacks.
    """
    table = _cells(values)
    named = pd.Series(groups if groups is not None else {}, dtype=object).reindex(table.index).fillna("")
    by_group = {name: table[members] for name, members in groups_of(named).items()}
    options: dict[str, int] = {"seed": seed, "resamples": resamples, "minimum": minimum}
    return pd.concat([_effects(prompts, name, **options) for name, prompts in by_group.items()], ignore_index=True)


def template_verdict(
    effects: pd.DataFrame, *, statistic: str = "instruction_score", group: str = "all", alpha: float = 0.05
) -> str:
    """Return whether most of a statistic's change comes from the weights or from the template, in one or two sentences.

    effects: of `itlens.diff.template_effects` or `itlens.diff.two_by_two`. An effect is significant where its Holm p is
    below alpha. Raises ResultError for a statistic or group that there is not.
    """
    rows = effects[effects["group"] == group]
    if "statistic" in effects:
        rows = rows[rows["statistic"] == statistic]
    if rows.empty:
        raise ResultError(f"There are no effects on {statistic!r} in the group {group!r}.")
    by_effect = {str(row["effect"]): row for _, row in rows.iterrows()}
    words, weights = statistic.replace("_", " "), by_effect["weights"]
    if not np.isfinite(weights["ci_low"]):  # paired_row gives no interval to what is too small for a test
        return f"The {words} was not tested: {weights['note']}."
    figures = "; ".join(f"{name} {_figures(by_effect[name])}" for name in EFFECTS)
    significant = {name: bool(by_effect[name]["p_holm"] < alpha) for name in EFFECTS}
    sentence = f"{_source(by_effect, significant, words)} ({int(weights['n'])} prompts; {figures})."
    if significant["interaction"]:
        more = "more" if by_effect["interaction"]["mean"] > 0 else "less"
        sentence += f" The template raises it {more} in the tuned model than in the base."
    return minus(sentence)


def contrasts(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the five contrasts per prompt, from columns base_off, base_on, tuned_off, tuned_on."""
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


def refuse_other_cells(values: object) -> None:
    """Raise ResultError for anything but a mapping of the four cells."""
    if not isinstance(values, Mapping) or set(values) != set(CELLS):
        got = sorted(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
        raise ResultError(f"A 2 x 2 needs the cells {', '.join(map(str, CELLS))}, got {got}.")


def _source(rows: Mapping[str, pd.Series[Any]], significant: Mapping[str, bool], words: str) -> str:
    if not significant["weights"] and not significant["template"]:
        return f"No significant effect of weights or template on the {words}"
    balance = rows["balance"]
    apart = balance["ci_low"] > 0 or balance["ci_high"] < 0
    larger = "weights" if balance["mean"] > 0 else "template"
    if apart and significant[larger]:
        return f"Most of the change of the {words} comes from the {larger}"
    if significant["weights"] and significant["template"]:
        return f"Both weights and template change the {words}; which of them does more is not significant"
    only = "weights" if significant["weights"] else "template"
    return f"Only the effect of the {only} on the {words} is significant; which of the two does more is not"


def _figures(row: pd.Series[Any]) -> str:
    return (
        f"{row['mean']:+.3g}, 95 % interval {row['ci_low']:+.3g} to {row['ci_high']:+.3g}, Holm {p_text(row['p_holm'])}"
    )


def _cells(values: Mapping[Cell, Numbers]) -> pd.DataFrame:
    refuse_other_cells(values)
    columns = {f"{model}_{state}": pd.Series(values[model, state], dtype=float) for model, state in CELLS}
    first = columns["base_off"].index
    for name, column in columns.items():
        if column.index.has_duplicates:
            raise ResultError(f"The cell {name} holds a prompt twice; keep one number per prompt.")
        missing = first.symmetric_difference(column.index)
        if len(missing):
            raise ResultError(f"{len(missing)} prompts are in {name} or in base_off only: {_few(missing)}.")
    return pd.DataFrame({name: column.reindex(first) for name, column in columns.items()}).dropna()


def _effects(table: pd.DataFrame, group: str, **options: int) -> pd.DataFrame:
    means = {name: mean(table[name].to_numpy(float)) for name in table.columns}
    rows = []
    for effect, d in contrasts(table).items():
        row = paired_row(np.zeros(d.size), d, **options)
        kept = {"n": row["n"], "mean": row["difference"], "ci_low": row["ci_low"], "ci_high": row["ci_high"]}
        tests = {"effect_size": row["effect_size"], "t": row["t_paired"], "p": row["p_paired"], "note": row["note"]}
        rows.append({"group": group, "effect": effect, **kept, **tests, **means})
    effects = pd.DataFrame(rows)
    tested = effects["effect"].isin(EFFECTS).to_numpy()
    corrected = np.full(len(effects), np.nan)
    corrected[tested] = adjust(effects["p"][tested])
    effects.insert(list(effects.columns).index("p") + 1, "p_holm", corrected)
    return effects


def _few(ids: Iterable[Hashable]) -> str:
    listed = [str(id) for id in ids]
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
