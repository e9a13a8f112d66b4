"""The tables of the feed-forward finding: their rows, and what each column means.

Layers (overlap with both nulls), shares of labels with their tests, counts of concepts kept, gained and lost, the
strongest of those, and the settings of a run.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from itlens.report.blocks import Column, Row, rows_of
from itlens.report.numbers import NOTHING, percent, percent_range, rounded, whole

_LAYER = Column("layer", "layer", lambda row: str(int(row["layer"])), "counted from 0")


def _percent(name: str, heading: str, help: str = "", *, decimals: int = 1, terminal: bool = True) -> Column:
    return Column(name, heading, lambda row: percent(row.get(name), decimals), help, terminal=terminal)


def _above_noise(row: Row) -> str:
    if not row["floor_known"]:
        return "not measured"
    return "yes" if row["below_floor"] else "no"


LAYERS = (
    _LAYER,
    Column("overlap", "overlap", "number", "mean squared cosine of the principal angles; 1 is the same space"),
    Column("degrees", "mean angle (°)", lambda row: rounded(row["degrees"]), "mean principal angle, 0 to 90 degrees"),
    Column("random_overlap", "random", "number", "overlap of random subspaces of this size: k / d_model"),
    Column("floor_base", "noise floor, base", "number", "mean overlap of base with itself, neurons resampled"),
    Column(
        "floor_tuned", "noise floor, tuned", "number", "mean overlap of tuned with itself, neurons resampled"
    ),
    Column(
        "below_floor", "more than noise", _above_noise, "below every such draw; one in 1 + draws is, by chance"
    ),
    _percent(
        "transfer_base", "variance kept (%)",
        "variance of the tuned model's vectors that the base's components explain, relative to what its own do",
        terminal=False,
    ),
    _percent(
        "transfer_base_random", "by random (%)", "what a random subspace would explain, relative to the same",
        terminal=False,
    ),
    Column(
        "degenerate", "degenerate", lambda row: "yes" if row["degenerate"] else "no",
        "components k and k + 1 explain nearly the same, so that which are the first k is chance",
    ),
)  # fmt: skip

_NAMES = {
    ("task", "any"): "any user task",
    ("task", "none"): "no user task",
    ("level", "none"): "no level",
    ("known", "known"): "could be labelled",
}


def _category(row: Row) -> str:
    category = str(row["category"])
    return _NAMES.get((str(row["kind"]), category), category)


SHARES = (
    Column("group", "layers", lambda row: str(row["group"]).removeprefix("layers ").removeprefix("layer ")),
    Column("category", "share of", _category),
    _percent("base", "base (%)"),
    _percent("tuned", "tuned (%)"),
    Column("difference", "difference (points)", "points", "tuned − base"),
    Column(
        "ci_low", "95 % interval", lambda row: percent_range(row["ci_low"], row["ci_high"]),
        "bootstrap over concepts", test=True,
    ),
    Column("p", "p perm.", "p", "concepts are exchanged between the models at random", test=True),
    Column(
        "p_holm", "p Holm", "p",
        "corrected for the number of tasks, or of levels; “any”, “no” and “could be labelled” keep their p", test=True,
    ),
    Column(
        "p_seeds", "p seeds", "p", "the paper's t test over the labeller's seeds; none where it has no seeds",
        terminal=False,
    ),
    Column(
        "base_concepts", "out of", lambda row: f"{whole(row['base_concepts'])} | {whole(row['tuned_concepts'])}",
        "concepts of the base | of the tuned model", terminal=False,
    ),
)  # fmt: skip

COUNTS = (
    _LAYER,
    Column("kept", "kept", "count", "concepts of tuned with a concept in base that shares about half of its words"),
    Column("gained", "gained", "count", "concepts of tuned without such a concept in base"),
    Column("lost", "lost", "count", "concepts of base without such a concept in tuned"),
    Column(
        "match_cosine", "|cosine| of matched", "number",
        "median over the tuned model's components: 1 where the matched base component is the same direction", 2,
    ),
    _percent(
        "inside", "inside base (%)",
        "median over the tuned model's components: how much is within the base's components", decimals=0,
    ),
)  # fmt: skip

CHANGED = (
    _LAYER,
    Column("component", "component", "count", "by variance, from 0"),
    _percent("explained", "share (%)", "of the variance of its own model's vectors", decimals=2),
    Column("own", "words"),
    Column("label", "label"),
    Column(
        "match_cosine", "|cosine|", "number", "with the other model's matched component; 1 is the same direction", 2
    ),
    _percent("inside", "inside (%)", "how much of it is within the other model's components", decimals=0),
    Column("other", "matched component in the other model"),
)

SETTINGS = (Column("setting", "setting"), Column("value", "value"))
_SETTINGS = (
    "vocabulary_name", "vocabulary_size", "top_k", "d_model", "d_mlp", "ks", "draws", "seed", "resamples_base",
    "resamples_tuned", "note",
)  # fmt: skip


def layer_rows(rotation: xr.Dataset, k: int) -> pd.DataFrame:
    """Return the diff at one k, a row per layer; `floor_known`: whether the probe measured a noise floor there."""
    at_k = rotation.sel(k=k)
    names = [name for name in at_k.data_vars if at_k[name].dims in (("layer",), ())]
    rows = at_k[names].to_dataframe().reset_index().sort_values("layer")
    known = rows[["floor_base", "floor_tuned"]].notna().any(axis=1)
    return rows.assign(floor_known=known, degrees=np.degrees(rows["mean_angle"]))


def has_floor(rows: pd.DataFrame) -> bool:
    """Return whether any layer has a noise floor."""
    return bool(rows["floor_known"].any())


def mean_floor(rows: pd.DataFrame) -> float | None:
    """Return the mean noise floor of both models over the layers, or None."""
    values = rows[["floor_base", "floor_tuned"]].to_numpy(float)
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def share_rows(shares: pd.DataFrame) -> pd.DataFrame:
    """Return the tasks and levels that occur in either model, in the table's order."""
    occurs = (shares["base"].fillna(0) > 0) | (shares["tuned"].fillna(0) > 0)
    return shares[occurs | shares["category"].isin(["any", "known"])]


def any_task(shares: pd.DataFrame) -> Row:
    """Return the row of any user task over all layers."""
    rows = shares[(shares["group"] == "all") & (shares["kind"] == "task") & (shares["category"] == "any")]
    return rows_of(rows.head(1))[0]


def count_rows(changes: pd.DataFrame) -> pd.DataFrame:
    """Return, per layer, the concepts kept, gained and lost, and how near components are to their matches."""
    counts = pd.crosstab(changes["layer"], changes["status"].astype(str))
    counts = counts.reindex(columns=["kept", "gained", "lost"], fill_value=0)
    near = changes[changes["status"] != "lost"].groupby("layer")[["match_cosine", "inside"]].median()
    return counts.join(near).reset_index()


def changed_rows(
    changes: pd.DataFrame, status: Literal["gained", "lost"], labels: pd.DataFrame, top: int
) -> pd.DataFrame:
    """Return the concepts gained (or lost) that explain most, with words, labels, and the words of their matches."""
    own, other = ("words_tuned", "words_base") if status == "gained" else ("words_base", "words_tuned")
    rows = changes[changes["status"] == status].nlargest(top, "explained", keep="first")
    described = _descriptions(labels)
    places = zip(rows["layer"].astype(int), rows["component"].astype(int), strict=True)
    return rows.assign(own=rows[own], other=rows[other], label=[described.get(place, NOTHING) for place in places])


def _descriptions(labels: pd.DataFrame) -> dict[tuple[int, int], str]:
    """The label of each component; of several seeds the first, of two poles both."""
    if not len(labels):
        return {}
    first = labels[labels["seed"] == labels["seed"].min()]
    grouped = first.groupby([first["layer"].astype(int), first["component"].astype(int)], sort=False)["description"]
    return {(int(layer), int(component)): " / ".join(texts) for (layer, component), texts in grouped}


def spans_all(changes: pd.DataFrame) -> bool:
    """Return whether the kept components span the whole space, so that nothing can be outside of them."""
    return bool(len(changes)) and bool((changes["inside"] > 1 - 1e-3).all())


def setting_rows(rotation: xr.Dataset, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the vocabulary and the settings of one kind of vectors, and who labelled its concepts."""
    shown: dict[str, object] = {"layers compared": rotation.sizes["layer"], "components": rotation.sizes["component"]}
    shown |= {name: rotation.attrs[name] for name in _SETTINGS if rotation.attrs.get(name, "") not in ("", None)}
    if len(labels):
        shown["labelled by"] = ", ".join(sorted({str(name) for name in labels["labeller"]}))
        shown["labels of each model"] = len(labels)
    rows = [(str(name).replace("_", " "), str(value)) for name, value in shown.items()]
    return pd.DataFrame(rows, columns=["setting", "value"])
