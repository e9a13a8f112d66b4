"""The figures of the feed-forward part at the top of a report."""

from __future__ import annotations

from typing import Any

import pandas as pd

from itlens.views.concept_columns import has_floor, layer_rows, mean_floor, usual_size
from itlens.views.numbers import NOTHING, is_number, number, p_value, percent, percent_range, rounded, whole
from itlens.views.report_content import ConceptContent
from itlens.views.report_layout import Card


def concept_figures(part: ConceptContent) -> list[Card]:
    """Overlap with its nulls, layers beyond the noise, and the share of concepts that serve a user task."""
    k = usual_size(part.turned)
    rows = layer_rows(part.turned, k)
    return [
        _overlap(rows, k, part.side),
        _layers(rows, len(rows) * float(part.turned.attrs["chance_below"])),
        _tasks(part.shares),
    ]


def _overlap(rows: pd.DataFrame, k: int, side: str) -> Card:
    noise = f"noise of neurons drawn anew {number(mean_floor(rows))}" if has_floor(rows) else "noise not measured"
    more = (
        f"1 is the same space · random {number(rows['random_overlap'].mean())} · {noise} · mean angle "
        f"{rounded(rows['degrees'].mean())}°"
    )
    return "", f"overlap of the first {k} {side} concepts, mean over layers", number(rows["overlap"].mean()), more


def _layers(rows: pd.DataFrame, by_chance: float) -> Card:
    least = rows.sort_values("overlap", kind="stable").iloc[0].to_dict()
    more = [f"about {by_chance:.1f} expected by chance"] if has_floor(rows) else []
    more += [f"least overlap in layer {int(least['layer'])} ({number(least['overlap'])})"]
    if flat := int(rows["degenerate"].sum()):
        more.append(f"no gap in the spectrum in {whole(flat)} of {whole(len(rows))}")
    value = f"{whole(rows['below_floor'].sum())} of {whole(len(rows))}"
    if not has_floor(rows):
        value, more = NOTHING, ["not known: the probe ran without resamples", *more]
    return "", "layers that turned more than the noise", value, " · ".join(more)


def _tasks(shares: pd.DataFrame | None) -> Card:
    label = "concepts that serve a user task, tuned − base"
    row = _any_task(shares)
    if row is None:
        return "", label, NOTHING, "the concepts were not labelled"
    more = [f"{percent(row['base'])} % in base, {percent(row['tuned'])} % in tuned"]
    if is_number(row["p"]):
        p = p_value(row["p"])
        more += [f"95 % interval {percent_range(row['ci_low'], row['ci_high'])}"]
        more += [f"permutation p {p if p.startswith('<') else f'= {p}'}"]
    else:
        more.append(str(row["note"] or "no test was possible"))
    more.append(f"of {whole(row['base_concepts'])} and {whole(row['tuned_concepts'])} concepts")
    value = percent(row["difference"], sign=True)
    return "", label, f"{value} points" if is_number(row["difference"]) else value, " · ".join(more)


def _any_task(shares: pd.DataFrame | None) -> dict[Any, Any] | None:
    if shares is None:
        return None
    rows = shares[(shares["group"] == "all") & (shares["kind"] == "task") & (shares["category"] == "any")]
    return rows.iloc[0].to_dict() if len(rows) else None
