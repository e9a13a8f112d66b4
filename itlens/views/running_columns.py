"""The tables of a report's sections on running models: statistics, heads, agreement, faithfulness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.views.head_grid import LEVEL
from itlens.views.head_map import head_name
from itlens.views.numbers import NOTHING, interval, is_number, number, p_value, rounded, whole
from itlens.views.report_tables import Column


def _named_head(row: Mapping[str, Any]) -> str:
    return head_name(int(row["layer"]), int(row["head"]))


def _number(name: str, heading: str, tip: str = "", decimals: int = 3, *, sign: bool = False) -> Column:
    return Column(heading, lambda row: number(row.get(name), decimals, sign=sign), name, tip)


def _interval(low: str, high: str, decimals: int = 3, *, sign: bool = False, heading: str = "95 % interval") -> Column:
    return Column(heading, lambda row: interval(row.get(low), row.get(high), decimals, sign=sign), low,
                  "bootstrap")  # fmt: skip


def _p(name: str, heading: str, tip: str) -> Column:
    return Column(heading, lambda row: p_value(row.get(name)), name, tip, True)


def _count(name: str, heading: str, tip: str = "") -> Column:
    return Column(heading, lambda row: whole(row.get(name)), name, tip)


STATISTICS = (
    Column("statistic", lambda row: str(row["statistic"])),
    Column("differ", lambda row: f"{whole(row['told'])} of {whole(row['cells'])}", "told",
           f"layers or heads (and classes of tokens) with p below {LEVEL:g} after Benjamini-Hochberg"),
    Column("most in", lambda row: str(row["where"])),
    _number("base_mean", "base", "mean over prompts, there"),
    _number("tuned_mean", "tuned", "mean over prompts, there"),
    _number("difference", "difference", "tuned − base", sign=True),
    _interval("ci_low", "ci_high", sign=True),
    _number("effect_size", "d_z", "paired effect size: mean / std of the differences", 2, sign=True),
    _p("p_bh", "p BH", "Benjamini-Hochberg over the heads or layers of one statistic and class of tokens"),
)  # fmt: skip

SHIFTED = (
    _count("rank", "rank", "1 moved most"),
    Column("head", _named_head, "", "layer and head, counted from 0"),
    _number("mean", "relative change", "length of the difference over the length of the base's, mean over prompts"),
    _interval("ci_low", "ci_high"),
    _count("n", "prompts"),
)

PATCHED = (
    Column("head", _named_head, "", "layer and head, counted from 0"),
    _number("recovered", "recovered", "share of the gap between the models, this head alone", 3, sign=True),
    _interval("recovered_low", "recovered_high", sign=True),
    _p("p_bh", "p BH", "the effect over prompts against none, Benjamini-Hochberg over heads"),
    _number("estimated", "estimate", "first order: one backward pass for all heads", 3, sign=True),
)


def _shared(row: Mapping[str, Any]) -> str:
    return f"{whole(row['shared'])} of {whole(row['top'])}" if is_number(row["shared"]) else NOTHING


AGREEMENT = (
    Column("rankings", lambda row: f"{row['result']} and {row['other']}"),
    _number("spearman", "rank correlation", "Spearman, over heads", 2, sign=True),
    _interval("spearman_low", "spearman_high", 2, sign=True),
    _p("p_holm", "p Holm", "random pairings of heads; heads of one layer are not independent, so it is optimistic"),
    Column("top heads shared", _shared, "shared", "no number where the last top head ties with the next"),
    Column("by chance", lambda row: rounded(row["shared_expected"]), "shared_expected", "so many would be shared"),
    _p("shared_p", "p shared", "so many or more by chance (hypergeometric)"),
)


def _side(name: str) -> Column:
    def show(row: Mapping[str, Any]) -> str:
        if not is_number(row.get(f"{name}_advantage")):
            return NOTHING
        span = interval(row.get(f"{name}_low"), row.get(f"{name}_high"))
        return f"{number(row[f'{name}_advantage'], sign=True)} {span}"

    return Column(name, show, f"{name}_advantage", "mean advantage over random orders with its 95 % interval")


def _method(row: Mapping[str, Any]) -> str:
    by = f" ({row['by']})" if row["by"] else ""
    return f"{str(row['method']).replace('_', ' ')}{by}"


def _difference(row: Mapping[str, Any]) -> str:
    return f"{number(row['difference'], sign=True)} {interval(row['ci_low'], row['ci_high'])}"


FAITHFUL = (
    Column("method", _method, "", "of the attribution, and what its tokens are ordered by"),
    Column("direction", lambda row: str(row["direction"])),
    _count("n", "n", "prompts whose removal lowers the response"),
    _side("base"),
    _p("base_p_holm", "p", "base against random orders: t test over prompts, Holm"),
    _side("tuned"),
    _p("tuned_p_holm", "p", "tuned against random orders: t test over prompts, Holm"),
    Column("difference", _difference, "difference", "tuned − base, paired over prompts, with its 95 % interval"),
    _p("p_holm", "p", "tuned − base: paired over prompts, Holm"),
)  # fmt: skip


def statistic_rows(ds: xr.Dataset, group: str = "all") -> pd.DataFrame:
    """Each statistic of an activation diff: how many cells differ, and the cell with the largest |d_z|."""
    rows = []
    for name in ds.data_vars:
        part = ds[name].sel(group=group).transpose("measure", ...)
        flat = part.values.reshape(part.sizes["measure"], -1)
        at = dict(zip(part["measure"].values.tolist(), flat, strict=True))
        size = np.abs(np.where(np.isfinite(at["p_bh"]), at["effect_size"], np.nan))
        if not np.isfinite(at["difference"]).any():
            continue
        best = int(np.nanargmax(size if np.isfinite(size).any() else np.abs(at["difference"])))
        row = {measure: float(values[best]) for measure, values in at.items()}
        told, cells = int((at["p_bh"] < LEVEL).sum()), int(np.isfinite(at["difference"]).sum())
        said = str(part.attrs.get("long_name", name))
        rows.append({"statistic": said, "told": told, "cells": cells, "where": _where(part, best)} | row)
    return pd.DataFrame(rows)


def _where(part: xr.DataArray, place: int) -> str:
    """ "L3H1, instruction tokens": the cell that stands at this place of the flattened values."""
    spots = np.unravel_index(place, part.shape[1:]) if part.ndim > 1 else ()
    at = {str(dim): part[dim].values[spot] for dim, spot in zip(part.dims[1:], spots, strict=True)}
    layer, head, token_class = at.pop("layer", None), at.pop("head", None), at.pop("token_class", None)
    words = [] if layer is None else [f"layer {layer}" if head is None else head_name(layer, head)]
    words += [] if token_class is None else [f"{token_class} tokens"]
    return ", ".join([*words, *(f"{dim} {value}" for dim, value in at.items())]) or "the whole model"


def patched_rows(ds: xr.Dataset, top: int, *, against: bool = False) -> pd.DataFrame:
    """The heads that carry most of the gap, by exact effects where there are any; none without an axis of heads.

    against: those that widen it most instead, as far as the effect holds (Benjamini-Hochberg).
    """
    by = "recovered" if "recovered" in ds else "estimated"
    if by not in ds or set(ds[by].dims) != {"layer", "head"}:
        return pd.DataFrame()
    names = [name for name in ds.data_vars if set(ds[name].dims) == {"layer", "head"}]
    rows = ds[names].to_dataframe().reset_index()
    if against:
        rows = rows[(rows[by] < 0) & (rows["p_bh"] < LEVEL)] if "p_bh" in rows else rows.head(0)
    return rows[np.isfinite(rows[by])].sort_values(by, ascending=against, kind="stable").head(top)


def agreement_rows(ds: xr.Dataset) -> pd.DataFrame:
    """Every two rankings of heads of itlens.diff.head_agreement, once."""
    names = [str(name) for name in ds["result"].values]
    rows = []
    for result, other in combinations(names, 2):
        one = ds.sel(result=result, other=other)
        of_pair = {name: float(one[name]) for name in map(str, ds.data_vars) if ds[name].dims == ("result", "other")}
        rows.append({"result": result, "other": other, "top": int(ds.attrs.get("top", 0))} | of_pair)
    return pd.DataFrame(rows)


def top_rows(ds: xr.Dataset) -> tuple[pd.DataFrame, list[Column]]:
    """The first heads of each ranking of itlens.diff.head_agreement, a row per place, and the table's columns."""
    lists = {
        str(name): _first(ds["rank"].sel(result=name), int(ds.attrs.get("top", 0))) for name in ds["result"].values
    }
    often = Counter(head for heads in lists.values() for head in heads)
    shown = {name: [f"{head}{' ●' if often[head] > 1 else ''}" for head in heads] for name, heads in lists.items()}
    places = max(map(len, shown.values()), default=0)
    rows = pd.DataFrame(
        {"place": range(1, places + 1)}
        | {f"list {name}": [*heads, *[""] * (places - len(heads))] for name, heads in shown.items()}
    )
    columns = [Column(name, partial(_cell, f"list {name}")) for name in shown]
    return rows, [_count("place", "place", "1 changed, or carries, most"), *columns]


def _cell(name: str, row: Mapping[str, Any]) -> str:
    return str(row[name])


def _first(rank: xr.DataArray, top: int) -> list[str]:
    flat = rank.transpose("layer", "head")
    order = np.argsort(flat.values.ravel(), kind="stable")  # NaN last
    known = [place for place in order[:top] if np.isfinite(flat.values.ravel()[place])]
    places = [np.unravel_index(place, flat.shape) for place in known]
    return [head_name(int(flat["layer"][layer]), int(flat["head"][head])) for layer, head in places]
