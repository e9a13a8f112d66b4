"""The tables of a report's feed-forward sections: layers, shares, and concepts kept, gained and lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.views.numbers import NOTHING, number, p_value, percent, percent_range, rounded, whole
from itlens.views.report_tables import Column

_LAYER = Column("layer", lambda row: str(int(row["layer"])), "layer", "counted from 0")


def usual_size(turned: xr.Dataset) -> int:
    """The k that figures quote: what the diff says that its verdict quotes, or the largest of those that are left."""
    known = [int(k) for k in turned["k"].values]
    said = int(turned.attrs.get("quoted_k", 0))
    return said if said in known else max(known)


def layer_rows(turned: xr.Dataset, k: int) -> pd.DataFrame:
    """The diff at one k, a row per layer; `floor_known`: whether the probe measured a noise floor there."""
    one = turned.sel(k=k)
    names = [name for name in one.data_vars if one[name].dims in (("layer",), ())]
    rows = one[names].to_dataframe().reset_index().sort_values("layer")
    known = rows[["floor_base", "floor_tuned"]].notna().any(axis=1)
    return rows.assign(floor_known=known, degrees=np.degrees(rows["mean_angle"]))


def _number(name: str, heading: str, tip: str, decimals: int = 3) -> Column:
    return Column(heading, lambda row: number(row.get(name), decimals), name, tip)


def _percent(name: str, heading: str, tip: str = "", *, sign: bool = False, decimals: int = 1) -> Column:
    return Column(heading, lambda row: percent(row.get(name), decimals, sign=sign), name, tip)


def _more_than_noise(row: Mapping[str, Any]) -> str:
    if not row["floor_known"]:
        return "not measured"
    return "yes" if row["below_floor"] else "no"


LAYERS = (
    _LAYER,
    _number("overlap", "overlap", "mean squared cosine of the principal angles; 1 is the same space"),
    Column("mean angle (°)", lambda row: rounded(row["degrees"]), "degrees", "mean principal angle, 0 to 90 degrees"),
    _number("random_overlap", "random", "overlap of random subspaces of this size: k / d_model"),
    _number("floor_base", "noise floor, base", "mean overlap of the base model with itself, its neurons drawn anew"),
    _number("floor_tuned", "noise floor, tuned", "mean overlap of the tuned model with itself, its neurons drawn anew"),
    Column("more than noise", _more_than_noise, "below_floor", "below every such draw; one in 1 + draws is, by chance"),
    _percent("transfer_base", "variance kept (%)",
             "variance of the tuned model's vectors that the base's components explain, relative to what its own do"),
    _percent("transfer_base_random", "by random (%)", "what a random subspace would explain, relative to the same"),
    Column("degenerate", lambda row: "yes" if row["degenerate"] else "no", "degenerate",
           "components k and k + 1 explain nearly the same, so that which are the first k is chance"),
)  # fmt: skip

_NAMES = {("task", "any"): "any user task", ("task", "none"): "no user task", ("level", "none"): "no level",
          ("known", "known"): "could be labelled"}  # fmt: skip


def _share(row: Mapping[str, Any]) -> str:
    return _NAMES.get((str(row["kind"]), str(row["category"])), str(row["category"]))


SHARES = (
    Column("layers", lambda row: str(row["group"]).removeprefix("layers ").removeprefix("layer ")),
    Column("share of", _share),
    _percent("base", "base (%)"),
    _percent("tuned", "tuned (%)"),
    _percent("difference", "difference (points)", "tuned − base", sign=True),
    Column("95 % interval", lambda row: percent_range(row["ci_low"], row["ci_high"]), "ci_low",
           "bootstrap over concepts", True),
    Column("p perm.", lambda row: p_value(row["p"]), "p", "concepts change hands between the models at random", True),
    Column("p Holm", lambda row: p_value(row["p_holm"]), "p_holm",
           "corrected for the number of tasks, or of levels; “any”, “no” and “could be labelled” keep their p", True),
    Column("p seeds", lambda row: p_value(row["p_seeds"]), "p_seeds",
           "the paper's t test over the labeller's seeds; none where it has no seeds"),
    Column("out of", lambda row: f"{whole(row['base_concepts'])} | {whole(row['tuned_concepts'])}", "base_concepts",
           "concepts of the base | of the tuned model"),
)  # fmt: skip

COUNTS = (
    _LAYER,
    Column("kept", lambda row: whole(row["kept"]), "kept",
           "concepts of tuned with a concept in base that shares about half of its words"),
    Column("gained", lambda row: whole(row["gained"]), "gained", "concepts of tuned without such a concept in base"),
    Column("lost", lambda row: whole(row["lost"]), "lost", "concepts of base without such a concept in tuned"),
    _number("match_cosine", "|cosine| of matched",
            "median over the tuned model's components: 1 where the matched base component is the same direction", 2),
    _percent("inside", "inside base (%)", "median over the tuned model's components: how much lies within the base's "
             "components", decimals=0),
)  # fmt: skip

CHANGED = (
    _LAYER,
    Column("component", lambda row: whole(row["component"]), "component", "by variance, from 0"),
    _percent("explained", "share (%)", "of the variance of its own model's vectors", decimals=2),
    Column("words", lambda row: str(row["own"])),
    Column("label", lambda row: str(row["label"])),
    _number("match_cosine", "|cosine|", "with the other model's component beside it; 1 is the same direction", 2),
    _percent("inside", "inside (%)", "how much of it lies within the other model's components", decimals=0),
    Column("beside it in the other model", lambda row: str(row["other"])),
)  # fmt: skip


def count_rows(changes: pd.DataFrame) -> pd.DataFrame:
    """Concepts kept, gained and lost of each layer, and how far the tuned model's components are from their matches."""
    counts = pd.crosstab(changes["layer"], changes["status"].astype(str))
    counts = counts.reindex(columns=["kept", "gained", "lost"], fill_value=0)
    near = changes[changes["status"] != "lost"].groupby("layer")[["match_cosine", "inside"]].median()
    return counts.join(near).reset_index()


def changed_rows(changes: pd.DataFrame, status: str, labels: pd.DataFrame, top: int) -> pd.DataFrame:
    """The concepts gained (or lost) that explain most, with their words, their labels, and what stands beside them."""
    own, other = ("words_tuned", "words_base") if status == "gained" else ("words_base", "words_tuned")
    rows = changes[changes["status"] == status].nlargest(top, "explained", keep="first")
    said = _descriptions(labels)
    places = zip(rows["layer"].astype(int), rows["component"].astype(int), strict=True)
    return rows.assign(own=rows[own], other=rows[other], label=[said.get(place, NOTHING) for place in places])


def _descriptions(labels: pd.DataFrame) -> dict[tuple[int, int], str]:
    """What was said of each component; of several seeds the first, of two poles both."""
    if not len(labels):
        return {}
    first = labels[labels["seed"] == labels["seed"].min()]
    grouped = first.groupby([first["layer"].astype(int), first["component"].astype(int)], sort=False)["description"]
    return {(int(layer), int(component)): " / ".join(part) for (layer, component), part in grouped}


def spans_all(changes: pd.DataFrame) -> bool:
    """Whether the components kept span the whole space, so that nothing can lie outside of them."""
    return bool(len(changes)) and bool((changes["inside"] > 1 - 1e-3).all())


def has_floor(rows: pd.DataFrame) -> bool:
    """Whether any layer has a noise floor."""
    return bool(rows["floor_known"].any())


def mean_floor(rows: pd.DataFrame) -> float | None:
    """The mean noise floor of both models over the layers, or None."""
    values = rows[["floor_base", "floor_tuned"]].to_numpy(float)
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
