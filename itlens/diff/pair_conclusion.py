"""What a comparison of word pairs says about instruction verbs: one or two honest sentences."""

from __future__ import annotations

import numpy as np
import xarray as xr

from itlens.diff.statistics import p_text


def pairs_verdict(ds: xr.Dataset, alpha: float = 0.05) -> str:
    """Finding 2 in plain words: more, fewer, undecided, or nothing to conclude, with the figures.

    ds: the result of `itlens.diff.word_pairs`. Decided over all heads by `p_null`, the larger p of the two nulls; the
    paper's Welch test over verbs is named when it says something else.
    """
    row = {str(name): ds[name].sel(group="all").item() for name in ds.data_vars if ds[name].dims == ("group",)}
    if not int(ds["base_pairs"].sum() + ds["tuned_pairs"].sum()):
        return f"Nothing can be concluded: neither model relates any words in the {_heads(row['heads'])} probed."
    if not int(ds["gained"].sum() + ds["lost"].sum()):
        heads = _heads(row["heads"])
        return f"Base and tuned model relate the same words: none of the {heads} gained or lost a word pair."
    if row["note"]:
        return f"Nothing can be concluded about instruction verbs: {row['note']}. {_moved(ds)}"
    verbs = f"{row['instruction_verbs']} and {row['general_verbs']} verbs, {_heads(row['heads'])}"
    figures = (
        f"their counts rose in {row['instruction_share']:.0%} of the heads in which they changed, those of general "
        f"verbs in {row['general_share']:.0%} (difference {row['difference']:+.2f}, 95 % interval {row['ci_low']:+.2f} "
        f"to {row['ci_high']:+.2f}; {verbs}; "
        f"permutation {p_text(row['p_null'])}{_welch(row, alpha)})"
    )
    beyond = row["difference"] - row["null_mean"]  # what p_null tests: the difference against random verb sets
    if row["p_null"] >= alpha or np.sign(beyond) != np.sign(row["difference"]):
        return (
            f"It cannot be told whether tuning made heads relate more or fewer words to instruction verbs: {figures}. "
            f"{_alone(ds, alpha)}"
        )
    direction = "more" if beyond > 0 else "fewer"
    return (
        f"After tuning, heads relate {direction} words to instruction verbs than its effect on other verbs explains: "
        f"{figures}. {_alone(ds, alpha)}"
    )


def _heads(number: int) -> str:
    return f"{number} head{'' if number == 1 else 's'}"


def _welch(row: dict[str, float], alpha: float) -> str:
    p = row["p_welch"]
    if not np.isfinite(p) or (p < alpha) == (row["p_null"] < alpha):
        return ""
    return f", though {p_text(p)} by the paper's Welch test over verbs"


def _moved(ds: xr.Dataset) -> str:
    kept, gained, lost = (int(ds[name].sum()) for name in ("kept", "gained", "lost"))
    return f"Of the word pairs, {kept} are kept, {gained} gained and {lost} lost."


def _alone(ds: xr.Dataset, alpha: float) -> str:
    """How many heads stand out one by one."""
    found = (ds["instruction_p_bh"] < alpha).values
    above = (ds["instruction_change"] > ds["instruction_expected"]).values
    more, fewer = int((found & above).sum()), int((found & ~above).sum())
    if not more + fewer:
        return "No single head stands out (Benjamini-Hochberg)."
    parts = [f"{n} with {word}" for n, word in ((more, "more"), (fewer, "fewer")) if n]
    return f"{_heads(more + fewer)} of {found.size} stand{'s' * (more + fewer == 1)} out: {', '.join(parts)}."
