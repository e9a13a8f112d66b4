"""The numbers that the activation finding shows next to its figures: cards, tables and their columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from itlens.files import minus
from itlens.report.blocks import Card, Column
from itlens.report.head_grid import LEVEL, floats, head_name
from itlens.report.numbers import NOTHING, interval, number, whole
from itlens.stats.groups import rows_as_said
from itlens.stats.paired import interval_words

LARGEST_EFFECT = 100.0  # |d_z| beyond which prompts differ by less than a hundredth of the difference
_SETTINGS = {
    "hooks": "summaries", "format": "prompt format", "same_tokens": "prompts with the same tokens",
    "prompt_count": "prompts", "resamples": "bootstrap resamples", "seed": "seed",
}  # fmt: skip


STATISTICS = (
    Column("statistic", "statistic"),
    Column(
        "significant", "differ", lambda row: f"{whole(row['significant'])} of {whole(row['cells'])}",
        f"layers or heads (and classes of tokens) with p below {LEVEL:g} after Benjamini-Hochberg",
    ),
    Column("where", "most in"),
    Column("base_mean", "base", "number", "mean over prompts in that place"),
    Column("tuned_mean", "tuned", "number", "mean over prompts in that place"),
    Column("difference", "difference", "signed", "tuned − base"),
    Column("ci", "95 % interval", "interval", interval_words()),
    Column(
        "effect_size", "d_z", lambda row: effect_text(row["effect_size"]),
        "paired effect size: mean / std of the differences; beyond 100 the prompts hardly differ",
    ),
    Column(
        "p_bh", "p BH", "p", "Benjamini-Hochberg over the heads or layers of a statistic and class of tokens", test=True
    ),
)  # fmt: skip

SHIFTED = (
    Column("rank", "rank", "count", "1: changed most"),
    Column("layer", "head", lambda row: head_name(row["layer"], row["head"]), "layer and head, counted from 0"),
    Column(
        "mean", "relative change", "number", "length of the difference over the length of the base's, mean over prompts"
    ),
    Column("ci", "95 % interval", "interval", "bootstrap over prompts"),
    Column("n", "prompts", "count"),
)  # fmt: skip

SETTINGS = (Column("setting", "setting"), Column("value", "value"))

PATTERN_PROMPTS = (
    Column("id", "prompt", link="prompt"),
    Column("group", "group"),
    Column("tokens", "tokens", "count", help="of the prompt and its response"),
)


def statistic_rows(ds: xr.Dataset, group: str = "all") -> pd.DataFrame:
    """Return a row per statistic of an activation diff: how many cells differ, and the one with the largest |d_z|."""
    rows = []
    for name in ds.data_vars:
        table = ds[name].sel(group=group).transpose("measure", ...)
        flat = table.values.reshape(table.sizes["measure"], -1)
        at = dict(zip(table["measure"].values.tolist(), flat, strict=True))
        size = np.abs(np.where(np.isfinite(at["p_bh"]), at["effect_size"], np.nan))
        if not np.isfinite(at["difference"]).any():
            continue
        best = int(np.nanargmax(size if np.isfinite(size).any() else np.abs(at["difference"])))
        measures = {measure: float(values[best]) for measure, values in at.items()}
        significant, cells = int((at["p_bh"] < LEVEL).sum()), int(np.isfinite(at["difference"]).sum())
        words = str(table.attrs.get("long_name", name))
        rows.append(
            {"statistic": words, "significant": significant, "cells": cells, "where": _where(table, best)} | measures
        )
    return rows_as_said(pd.DataFrame(rows)) if rows else pd.DataFrame()


def effect_text(value: float) -> str:
    """Return a d_z with two decimals: "> 100" or "< −100" where prompts differ by less than a hundredth of the mean."""
    if abs(value) > LARGEST_EFFECT:
        return minus("> 100" if value > 0 else "< -100")
    return number(value, 2, sign=True)


def _where(table: xr.DataArray, place: int) -> str:
    """ "L3H1, instruction tokens": the cell at this place of the flattened values."""
    spots = np.unravel_index(place, table.shape[1:]) if table.ndim > 1 else ()
    at = {str(dim): table[dim].values[spot] for dim, spot in zip(table.dims[1:], spots, strict=True)}
    layer, head, token_class = at.pop("layer", None), at.pop("head", None), at.pop("token_class", None)
    words = [] if layer is None else [f"layer {layer}" if head is None else head_name(layer, head)]
    words += [] if token_class is None else [f"{token_class} tokens"]
    return ", ".join([*words, *(f"{dim} {value}" for dim, value in at.items())]) or "the whole model"


def activation_settings(ds: xr.Dataset) -> pd.DataFrame:
    """Return the settings of an activation diff, a row each."""
    known = {words: ds.attrs[name] for name, words in _SETTINGS.items() if ds.attrs.get(name, "") != ""}
    return pd.DataFrame({"setting": [*known], "value": [str(value) for value in known.values()]})


def activation_cards(diff: xr.Dataset, shift: xr.Dataset, heads: pd.DataFrame) -> list[Card]:
    """Return attention to the instruction, the head that changed most, and how far the outputs are apart.

    diff: of `itlens.diff.activations`. shift: of `itlens.diff.shift_summary`. heads: of `itlens.diff.shifted_heads`.
    """
    made = (_attention_card(diff), _head_card(heads), _output_card(shift))
    return [card for card in made if card is not None]


def _attention_card(diff: xr.Dataset) -> Card | None:
    if "attention_mass" not in diff or "instruction" not in diff["token_class"].values:
        return None
    mass = diff["attention_mass"].sel(group="all", token_class="instruction")
    p = floats(mass.sel(measure="p_bh"))
    base, tuned = (float(mass.sel(measure=f"{side}_mean").mean()) for side in ("base", "tuned"))
    means = f"mean mass over heads {number(base)} → {number(tuned)}"
    label = "heads whose attention to the instruction changed"
    if not np.isfinite(p).any():
        return Card(label, NOTHING, f"{mass['note'].item() or 'no test was possible'} · {means}")
    value = f"{whole((p < LEVEL).sum())} of {whole(p.size)}"
    return Card(label, value, f"p < {LEVEL:g} after Benjamini-Hochberg · {means}")


def _head_card(heads: pd.DataFrame) -> Card | None:
    if not len(heads):
        return None
    row = heads.iloc[0]
    change = f"{number(row['mean'])} {interval(row['ci_low'], row['ci_high'], sign=False)}"
    name = head_name(int(row["layer"]), int(row["head"]))
    return Card("head whose output changed most", name, f"relative change of what it writes {change}")


def _output_card(shift: xr.Dataset) -> Card | None:
    if "lens_kl_base_tuned" not in shift:
        return None
    last = shift["lens_kl_base_tuned"].sel(group="all", reading="own").isel(layer=-1)
    at = {name: float(last.sel(summary=name)) for name in ("mean", "ci_low", "ci_high", "n")}
    span = interval(at["ci_low"], at["ci_high"], sign=False)
    detail = f"95 % interval {span} · n = {whole(at['n'])} prompts · at the same places of the same responses"
    return Card("divergence of the outputs, KL(base || tuned)", f"{number(at['mean'], 2)} nats", detail)
