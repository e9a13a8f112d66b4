"""The tables of patching: the heads that carry most, and whether other rankings of heads agree."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from itlens.report.blocks import Column, Row
from itlens.report.head_grid import LEVEL, head_name
from itlens.report.numbers import NOTHING, interval, is_number, percent_range, rounded, whole

PATCHED = (
    Column("layer", "head", lambda row: head_name(row["layer"], row["head"]), "layer and head, counted from 0"),
    Column("recovered", "recovered (%)", "points", "share of the gap between the models, this head alone", decimals=1),
    Column(
        "recovered_low", "95 % interval", lambda row: percent_range(row["recovered_low"], row["recovered_high"]),
        "bootstrap over prompts",
    ),
    Column("p_bh", "p BH", "p", "paired t-test of the effect over prompts, Benjamini-Hochberg over heads", test=True),
    Column("estimated", "estimate (%)", "points", "first order: one backward pass for all heads", decimals=1),
)  # fmt: skip
MOVED = Column("moved", "moved", "number", "relative change of what the head writes, on the same tokens", decimals=2)


def patched_rows(patched: xr.Dataset, top: int, *, against: bool = False) -> pd.DataFrame:
    """Return the heads that carry most of the gap, by exact effects where there are any; none without an axis of heads.

    against: those that widen it most instead, as far as their effect is significant (Benjamini-Hochberg).
    """
    by = "recovered" if "recovered" in patched else "estimated"
    if by not in patched or set(patched[by].dims) != {"layer", "head"}:
        return pd.DataFrame()
    names = [name for name in patched.data_vars if set(patched[name].dims) == {"layer", "head"}]
    rows = patched[names].to_dataframe().reset_index()
    if against:
        rows = rows[(rows[by] < 0) & (rows["p_bh"] < LEVEL)] if "p_bh" in rows else rows.head(0)
    return rows[np.isfinite(rows[by])].sort_values(by, ascending=against, kind="stable").head(top)


def _shared(row: Row) -> str:
    return f"{whole(row['shared'])} of {whole(row['top'])}" if is_number(row["shared"]) else NOTHING


AGREEMENT = (
    Column("result", "rankings", lambda row: f"{row['result']} and {row['other']}"),
    Column("spearman", "rank correlation", "signed", "Spearman, over heads", decimals=2),
    Column(
        "spearman_low", "95 % interval", lambda row: interval(row["spearman_low"], row["spearman_high"], 2),
        "bootstrap over heads",
    ),
    Column(
        "p_holm", "p Holm", "p", "random pairings of heads; heads of one layer are not independent, so it is optimistic"
    ),
    Column("shared", "top heads shared", _shared, "no number where the last top head ties with the next"),
    Column("shared_expected", "by chance", lambda row: rounded(row["shared_expected"]), "so many would be shared"),
    Column("shared_p", "p shared", "p", "so many or more by chance (hypergeometric)"),
)  # fmt: skip


def agreement_rows(agreement: xr.Dataset) -> pd.DataFrame:
    """Return every two rankings of heads of `itlens.diff.head_agreement`, once."""
    names = [str(name) for name in agreement["result"].values]
    paired = [str(name) for name in agreement.data_vars if agreement[name].dims == ("result", "other")]
    rows = []
    for result, other in combinations(names, 2):
        pair = agreement.sel(result=result, other=other)
        numbers = {name: float(pair[name]) for name in paired}
        rows.append({"result": result, "other": other, "top": int(agreement.attrs.get("top", 0)), **numbers})
    return pd.DataFrame(rows)


def top_rows(agreement: xr.Dataset) -> tuple[pd.DataFrame, list[Column]]:
    """Return the first heads of each ranking of `itlens.diff.head_agreement`, a row per place, and the columns."""
    top = int(agreement.attrs.get("top", 0))
    lists = {str(name): _first(agreement["rank"].sel(result=name), top) for name in agreement["result"].values}
    often = Counter(head for heads in lists.values() for head in heads)
    shown = {name: [f"{head}{' ●' if often[head] > 1 else ''}" for head in heads] for name, heads in lists.items()}
    places = max(map(len, shown.values()), default=0)
    rows = pd.DataFrame(
        {"place": range(1, places + 1)}
        | {f"list {name}": [*heads, *[""] * (places - len(heads))] for name, heads in shown.items()}
    )
    columns = [Column(f"list {name}", name) for name in shown]
    return rows, [Column("place", "place", "count", "1 changed, or carries, most"), *columns]


def _first(rank: xr.DataArray, top: int) -> list[str]:
    flat = rank.transpose("layer", "head")
    order = np.argsort(flat.values.ravel(), kind="stable")  # NaN last
    known = [place for place in order[:top] if np.isfinite(flat.values.ravel()[place])]
    places = [np.unravel_index(place, flat.shape) for place in known]
    return [head_name(flat["layer"][layer], flat["head"][head]) for layer, head in places]
