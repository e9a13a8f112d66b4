"""What a comparison of word pairs says about instruction verbs, as a verdict.

Decided over all heads by `p_null`, the larger p of the two nulls (`diff_verbs`), two-sided. The bootstrap interval of
the table takes verbs as independent, which related verbs are not: where it disagrees with `p_null`, the verdict gives
the range of random verb sets in its place, and says so.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from itlens.findings.base import Direction, Headline, Verdict
from itlens.report.numbers import whole
from itlens.stats.paired import p_text


def pairs_verdict(ds: xr.Dataset, alpha: float = 0.05) -> str:
    """Return finding 2 in at most two sentences: more, fewer, no significant change, or not tested, with the figures.

    ds: the result of `itlens.diff.word_pairs`.
    """
    return conclude_pairs(ds, alpha).sentence


def conclude_pairs(ds: xr.Dataset, alpha: float = 0.05) -> Verdict:
    """Return the verdict on the verbs of instructions. ds: the result of `itlens.diff.word_pairs`."""
    row = {str(name): ds[name].sel(group="all").item() for name in ds.data_vars if ds[name].dims == ("group",)}
    heads = _heads(row["heads"])
    if not int(ds["base_pairs"].sum() + ds["tuned_pairs"].sum()):
        return Verdict(
            f"Not tested: neither model relates any words in the {heads} probed.",
            tested=False,
            short="instruction verbs in the word pairs of heads were not tested (no word pairs)",
        )
    if not int(ds["gained"].sum() + ds["lost"].sum()):
        return Verdict(
            f"Base and tuned model relate the same words: none of the {heads} gained or lost a word pair.",
            numbers=(Headline("word pairs gained or lost", 0, n=row["heads"]),),
            short="no attention head gained or lost a word pair",
        )
    if not np.isfinite(row["p_null"]):
        return Verdict(
            f"Not tested: {row['note']}. {_kept_gained_lost(ds)}",
            tested=False,
            numbers=(Headline("heads in which a verb's count changed", row["changed_heads"], n=row["heads"]),),
            short=f"instruction verbs in the word pairs of heads were not tested ({row['note']})",
        )
    return _tested(ds, row, alpha)


def _tested(ds: xr.Dataset, row: dict[str, float], alpha: float) -> Verdict:
    direction = _direction(row, alpha)
    agrees = _agrees(row, direction)
    size = f"{100 * row['difference']:+.1f} points"
    figures = (
        f"the counts of instruction verbs rose in {100 * row['instruction_share']:.0f} % of the heads in which they "
        f"changed, those of general verbs in {100 * row['general_share']:.0f} % (difference {size}, "
        f"{_range(row, agrees)}, permutation {p_text(row['p_null'])}; {row['instruction_verbs']} and "
        f"{row['general_verbs']} verbs, {_heads(row['heads'])})"
    )
    words = {"higher": "more", "lower": "fewer"}.get(direction, "")
    claim = f"Tuned heads relate {words} words to instruction verbs" if words else "No significant change"
    caveat = _caveat(row, alpha, agrees)
    short = f"attention heads relate {words} words to instruction verbs" if words else "no significant change in how "
    short += "" if words else "often attention heads relate words to instruction verbs"
    return Verdict(
        f"{claim}: {figures}. {caveat or _single_heads(ds, alpha)}",
        direction,
        caveat=_single_heads(ds, alpha) if caveat else "",
        numbers=_numbers(ds, row, agrees, alpha),
        short=f"{short} ({size}, {p_text(row['p_null'])})",
    )


def _direction(row: dict[str, float], alpha: float) -> Direction:
    beyond = row["difference"] - row["null_mean"]  # what p_null tests: the difference against random verb sets
    if row["p_null"] >= alpha or np.sign(beyond) != np.sign(row["difference"]):
        return "none"
    return "higher" if beyond > 0 else "lower"


def _agrees(row: dict[str, float], direction: Direction) -> bool:
    """Whether the bootstrap interval excludes zero exactly where the permutation test finds a change."""
    return bool(row["ci_low"] > 0 or row["ci_high"] < 0) == (direction != "none")


def _range(row: dict[str, float], agrees: bool) -> str:
    if agrees:
        return f"95 % interval {100 * row['ci_low']:+.1f} to {100 * row['ci_high']:+.1f}"
    return f"random verb sets {100 * row['null_low']:+.1f} to {100 * row['null_high']:+.1f}"


def _caveat(row: dict[str, float], alpha: float, agrees: bool) -> str:
    """The paper's test or the bootstrap over verbs, where they say something else than the permutation test."""
    p = row["p_welch"]
    welch = np.isfinite(p) and (p < alpha) != (row["p_null"] < alpha)
    if not welch and agrees:
        return ""
    tests = [f"Welch's test over verbs ({p_text(p)})"] if welch else []
    tests += [] if agrees else [f"{'t' if welch else 'T'}he bootstrap interval over verbs"]
    words = "disagree, but take" if len(tests) > 1 else "disagrees, but takes"
    return f"{' and '.join(tests)} {words} related verbs as independent."


def _numbers(ds: xr.Dataset, row: dict[str, float], agrees: bool, alpha: float) -> tuple[Headline, ...]:
    low, high = (100 * row["ci_low"], 100 * row["ci_high"]) if agrees else (None, None)
    verbs = int(row["instruction_verbs"] + row["general_verbs"])
    alone = int((ds["instruction_p_bh"] < alpha).sum())
    return (
        Headline(
            "changed heads in which a verb's count rose, instruction − general verbs",
            100 * row["difference"], low, high, row["p_null"], verbs, "points",
        ),
        Headline("changed heads in which an instruction verb's count rose", row["instruction_share"]),
        Headline("changed heads in which a general verb's count rose", row["general_share"]),
        Headline("heads with a significant change of instruction verbs", alone, n=int(row["heads"])),
    )  # fmt: skip


def _heads(number: float) -> str:
    return f"{int(number)} head{'' if number == 1 else 's'}"


def _kept_gained_lost(ds: xr.Dataset) -> str:
    kept, gained, lost = (int(ds[name].sum()) for name in ("kept", "gained", "lost"))
    return f"Of the word pairs, {whole(kept)} are kept, {whole(gained)} gained and {whole(lost)} lost."


def _single_heads(ds: xr.Dataset, alpha: float) -> str:
    """How many heads change significantly one by one."""
    significant = (ds["instruction_p_bh"] < alpha).values
    above = (ds["instruction_change"] > ds["instruction_expected"]).values
    more, fewer = int((significant & above).sum()), int((significant & ~above).sum())
    if not more + fewer:
        return "No single head changes significantly (Benjamini-Hochberg)."
    counts = [f"{number} with {word}" for number, word in ((more, "more"), (fewer, "fewer")) if number]
    named = f"{more + fewer} of {_heads(significant.size)} {'changes' if more + fewer == 1 else 'change'}"
    return f"{named} significantly: {', '.join(counts)} (Benjamini-Hochberg)."
