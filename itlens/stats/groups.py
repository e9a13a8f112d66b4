"""Test paired samples group by group: all items, then each named group, corrected over the groups.

The one form in which every table of groups comes: a row "all", then the groups in the order in which they first appear;
Holm's correction runs over the groups, and "all" is no member of that family. Somebody's own group of that name is
called "all (group)", so that the row "all" is always that of all items.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from itlens.errors import ResultError
from itlens.results.provenance import provenance
from itlens.stats.paired import adjust, as_said, paired_row

ALL = "all"


def groups_of(named: Iterable[Any]) -> dict[str, np.ndarray]:
    """Return which items each group holds, by label: all, then the named groups in order; "" is no group."""
    names = np.array([str(name) for name in named], dtype=object)
    masks = {ALL: np.ones(names.size, dtype=bool)}
    known = dict.fromkeys(names.tolist())
    own = ALL
    while own in known:
        own = f"{own} (group)"
    return masks | {own if name == ALL else name: names == name for name in known if name}


def paired_groups(
    groups: Mapping[str, np.ndarray],
    base: ArrayLike,
    tuned: ArrayLike,
    *,
    seed: int = 0,
    resamples: int = 10_000,
    minimum: int = 5,
) -> pd.DataFrame:
    """Compare tuned with base in each group: "group", then `PAIRED_COLUMNS`, p_holm after p_paired.

    groups: as `groups_of` returns them, "all" first.
    """
    x, y = np.asarray(base, dtype=float), np.asarray(tuned, dtype=float)
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    rows = [{"group": name, **paired_row(x[of], y[of], **options)} for name, of in groups.items()]
    table: pd.DataFrame = pd.DataFrame(rows)
    holm = np.concatenate([[np.nan], adjust(table["p_paired"][1:])])
    table.insert(list(table.columns).index("p_paired") + 1, "p_holm", holm)
    return table


def paired(
    table: pd.DataFrame,
    by: str | None = "group",
    *,
    base: str = "base",
    tuned: str = "tuned",
    seed: int = 0,
    resamples: int = 10_000,
    minimum: int = 5,
) -> pd.DataFrame:
    """Test whether a number of your own differs between base and tuned, over the same items, group by group.

    table: a row per item, with the numbers of both models in the columns `base` and `tuned`; items without a number on
    one side do not count. by: the column of groups; None, or a
    table without the column "group": no groups. minimum: fewer items get no test.

    Returns a table, a row for all and one per group: n, means and standard deviations of both, difference with its 95 %
    BCa bootstrap interval (ci_low, ci_high), effect_size (Cohen's d_z), t_paired, p_paired, p_holm (over the groups),
    Wilcoxon's w_wilcoxon and p_wilcoxon, the one-sided t_welch and p_welch, and a note where there is no test.

    Raises ResultError: no table, a column that is missing or holds no numbers, one id twice.
    """
    if not isinstance(table, pd.DataFrame):
        raise ResultError(f"paired got a {type(table).__name__}; expected a DataFrame with a row per item.")
    by = None if by == "group" and by not in table.columns else by
    missing = [name for name in (base, tuned, *([] if by is None else [by])) if name not in table.columns]
    if missing:
        known = ", ".join(map(str, table.columns))
        raise ResultError(f"paired got a table without the column {missing[0]!r}; its columns are {known}.")
    wrong = [name for name in (base, tuned) if table[name].dtype.kind not in "fiub"]
    if wrong:
        raise ResultError(f"The column {wrong[0]!r} holds {table[wrong[0]].dtype} values; expected numbers.")
    if "id" in table.columns and table["id"].duplicated().any():
        twice = str(table["id"][table["id"].duplicated()].iloc[0])
        raise ResultError(f"paired got the id {twice!r} twice; keep one row per item.")
    kept = table[np.isfinite(table[base].to_numpy(float)) & np.isfinite(table[tuned].to_numpy(float))]
    groups = groups_of(kept[by].fillna("") if by is not None else [""] * len(kept))
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    tested = paired_groups(groups, kept[base].to_numpy(float), kept[tuned].to_numpy(float), **options)
    tested.attrs.update(provenance("diff.paired", by=by, base=base, tuned=tuned, **options))
    return tested


def rows_as_said(
    table: pd.DataFrame,
    *,
    p: str = "p_paired",
    difference: str = "difference",
    low: str = "ci_low",
    high: str = "ci_high",
) -> pd.DataFrame:
    """Return a table of paired tests as a reader sees it: each interval is the one that a sentence says (`as_said`).

    p, difference, low, high: the names of these columns; a column n counts the items. The table itself stays.
    """
    names = {"p": p, "difference": difference, "low": low, "high": high}
    said = [as_said(row, **names) for _, row in table.iterrows()]
    return table.assign(**{end: [float(row[end]) for row in said] for end in (low, high)})
