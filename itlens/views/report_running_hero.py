"""The figures of the running models at the top of a report: activations, patching, faithfulness."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from itlens.views.head_grid import LEVEL, floats
from itlens.views.head_map import head_name
from itlens.views.numbers import NOTHING, interval, is_number, number, p_value, percent, percent_range, whole
from itlens.views.patch_map import units
from itlens.views.report_layout import Card
from itlens.views.running_columns import patched_rows
from itlens.views.running_content import ActivationContent, FaithfulnessContent, PatchContent


def activation_cards(part: ActivationContent) -> list[Card]:
    """Attention to the instruction, the head that moved most, and how far the outputs are apart."""
    return [card for card in (_attention(part), _moved(part.heads), _outputs(part)) if card is not None]


def _attention(part: ActivationContent) -> Card | None:
    if "attention_mass" not in part.diff or "instruction" not in part.diff["token_class"].values:
        return None
    one = part.diff["attention_mass"].sel(group="all", token_class="instruction")
    p = floats(one.sel(measure="p_bh"))
    base, tuned = (float(one.sel(measure=f"{name}_mean").mean()) for name in ("base", "tuned"))
    mean = f"mean mass over heads {number(base)} → {number(tuned)}"
    label = "heads whose attention to the instruction changed"
    if not np.isfinite(p).any():
        return "", label, NOTHING, f"{one['note'].item() or 'no test was possible'} · {mean}"
    value = f"{whole((p < LEVEL).sum())} of {whole(p.size)}"
    return "", label, value, f"p < {LEVEL:g} after Benjamini-Hochberg · {mean}"


def _moved(heads: pd.DataFrame) -> Card | None:
    if not len(heads):
        return None
    row = heads.iloc[0]
    more = f"relative change of what it writes {number(row['mean'])} {interval(row['ci_low'], row['ci_high'])}"
    return "", "head that moved most", head_name(int(row["layer"]), int(row["head"])), more.replace("+", "")


def _outputs(part: ActivationContent) -> Card | None:
    if "lens_kl_base_tuned" not in part.shift:
        return None
    last = part.shift["lens_kl_base_tuned"].sel(group="all", reading="own").isel(layer=-1)
    at = {name: float(last.sel(summary=name)) for name in ("mean", "ci_low", "ci_high", "n")}
    span = interval(at["ci_low"], at["ci_high"], sign=False)
    more = f"95 % interval {span} · n = {whole(at['n'])} prompts · at the same places of the same responses"
    return "", "divergence of the outputs, KL(base || tuned)", f"{number(at['mean'], 2)} nats", more


def patch_cards(part: PatchContent) -> list[Card]:
    """The gap, how many parts it takes, and how many carry by themselves."""
    ds = part.patched
    attrs, count = ds.attrs, int(np.prod([ds.sizes[name] for name in ds["recovered"].dims])) if "recovered" in ds else 0
    gap = f"{number(attrs.get('gap'), 2, sign=True)} {attrs.get('unit_of_effect', '')}".strip()
    span = interval(attrs.get("gap_low"), attrs.get("gap_high"), 2)
    cards: list[Card] = [
        ("", "gap between the models", gap, f"95 % interval {span} · n = {whole(ds.sizes['prompt'])} prompts")
    ]
    if "joint" in ds and count and is_number(ds["joint"][-1].item()):
        cards.append(_together(ds, count))
    if "p_bh" in ds and np.isfinite(floats(ds["p_bh"])).any():
        cards.append(_single(ds, count))
    return cards


def _together(ds: Any, count: int) -> Card:
    needed = float(ds["needed_80_of_all"]) if "needed_80_of_all" in ds else math.nan
    joint = ds.isel(count=-1)
    said = f"95 % interval {percent_range(joint['joint_low'], joint['joint_high'])}"
    more = [f"all together recover {percent(joint['joint'], 0)} % ({said})"]
    if is_number(needed):
        random = ds["joint_random"].sel(count=int(needed))
        more.append(f"these recover {percent(ds['joint'].sel(count=int(needed)), 0)} %")
        more += [f"as many random ones {percent(random, 0)} %"] if is_number(random) else []
    value = f"{whole(needed)} of {whole(count)}" if is_number(needed) else f"none of {whole(count)}"
    return "", f"{units(ds)[1]} that carry four fifths of what all carry", value, " · ".join(more)


def _single(ds: Any, count: int) -> Card:
    held = floats(ds["p_bh"]) < LEVEL
    away = int((held & (floats(ds["recovered"]) < 0)).sum())
    rows = patched_rows(ds, count)
    first = rows[rows["p_bh"] < LEVEL].head(3).to_dict("records") if len(rows) else []
    named = [f"{head_name(int(row['layer']), int(row['head']))} {percent(row['recovered'], 0)} %" for row in first]
    more = [f"p < {LEVEL:g} after Benjamini-Hochberg"]
    more += [f"{whole(away)} of them widen the gap"] if away else []
    more += [f"most: {', '.join(named)}"] if named else []
    label = f"{units(ds)[1]} with an effect by themselves"
    return "", label, f"{whole(held.sum())} of {whole(count)}", " · ".join(more)


def faithful_cards(part: FaithfulnessContent) -> list[Card]:
    """Base, tuned, and their difference, by the first method; deletion large, insertion below."""
    rows = {str(row["direction"]): row for row in part.table.to_dict("records")[:2]}
    first, other = rows.get("deletion"), rows.get("insertion")
    if first is None:
        return []
    cards: list[Card] = []
    for role in ("base", "tuned"):
        more = [_more(first, role)]
        if other is not None:
            more.append(f"insertion {number(other[f'{role}_advantage'], sign=True)} {_more(other, role)}")
        value = number(first[f"{role}_advantage"], sign=True)
        cards.append((role, f"{role}: deletion, advantage over random", value, " · ".join(more)))
    more = [f"95 % interval {interval(first['ci_low'], first['ci_high'])}", f"Holm p {p_value(first['p_holm'])}"]
    if other is not None:
        more.append(f"insertion {number(other['difference'], sign=True)} {interval(other['ci_low'], other['ci_high'])}")
    more.append(f"n = {whole(first['n'])} prompts")
    return [*cards, ("", "difference, tuned − base", number(first["difference"], sign=True), " · ".join(more))]


def _more(row: dict[Any, Any], role: str) -> str:
    return f"{interval(row[f'{role}_low'], row[f'{role}_high'])}, Holm p {p_value(row[f'{role}_p_holm'])}"
