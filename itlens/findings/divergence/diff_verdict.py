"""What divergence says: where the answers part, and which half of the blocks makes the decision."""

from __future__ import annotations

import numpy as np
import pandas as pd

from itlens.findings.base import Headline, Tables, Verdict
from itlens.stats.paired import as_said, is_tested, p_text

_LEVEL = 0.05


def divergence_verdict(tables: Tables) -> Verdict:
    """Return the `Verdict` on the tables of the finding: partings, divergence_depth and divergence_tests."""
    prompts, depth = tables["partings"], tables["divergence_depth"]
    parted = prompts[np.isfinite(prompts["position"].to_numpy(float))]
    tests = decision_rows(tables["divergence_tests"])
    decision, halves = tests["decision"], tests["halves"]
    blocks = int(depth["boundary"].iloc[-1])
    numbers = _numbers(depth, decision, halves, len(parted), len(prompts), blocks)
    if not len(parted):
        longest = int(prompts["compared"].max()) if len(prompts) else 0
        return Verdict(
            f"No significant change: the greedy answers of both models are the same on all {len(prompts)} prompts "
            f"(as far as they were compared, at most {longest} tokens).",
            numbers=numbers,
            short="the greedy answers of both models do not part",
        )
    where = _where(parted, len(prompts))
    if not is_tested(decision):
        return Verdict(
            f"Not tested: {decision['note']}; {where}.", tested=False, numbers=numbers,
            short="where in depth the answers part was not tested (too few prompts)",
        )  # fmt: skip
    if not np.isfinite(depth["half_depth"].iloc[0]):
        return Verdict(
            f"Not tested: {where}, but through the base's unembedding the two models' choices do not differ as they "
            f"should ({decision['difference']:+.2f} logits, {p_text(decision['p_paired'])}).",
            tested=False, numbers=numbers, short="where in depth the answers part was not tested",
        )  # fmt: skip
    half, low, high = (depth[f"half_depth{end}"].iloc[0] for end in ("", "_low", "_high"))
    sentence = (
        f"{where[0].upper()}{where[1:]}, and half of the decision between the two next tokens "
        f"({decision['difference']:+.2f} logits) is made in the first {half:.1f} of {blocks} blocks (95 % interval "
        f"{low:.1f} to {high:.1f})"
    )
    in_first = f"half of it in the first {half:.1f} of {blocks}"
    early, late = halves["tuned_mean"], halves["base_mean"]
    contrast = (
        f"{halves['difference']:+.2f} logits, 95 % interval {halves['ci_low']:+.2f} to {halves['ci_high']:+.2f}, "
        f"{p_text(halves['p_paired'])}"
    )
    if not halves["p_paired"] < _LEVEL:
        return Verdict(
            f"{sentence}. The two halves of the blocks do not contribute significantly differently: the first "
            f"{early:+.2f}, the second {late:+.2f} ({contrast}).",
            numbers=numbers,
            short=f"both halves of the blocks decide where the answers part ({in_first})",
        )  # fmt: skip
    which, other = ("first", "second") if halves["difference"] > 0 else ("second", "first")
    return Verdict(
        f"{sentence}. The {which} half of the blocks decides more than the {other}: first {early:+.2f}, second "
        f"{late:+.2f} ({contrast}).",
        direction="changed",
        numbers=numbers,
        short=f"the {which} half of the blocks decides where the answers part ({in_first})",
    )


def decision_rows(tests: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the rows of all prompts, by statistic, each with the interval that goes with its p."""
    rows = {}
    for _, row in tests[tests["group"] == "all"].iterrows():
        rows[str(row["statistic"])] = as_said(row)
    return rows


def _where(parted: pd.DataFrame, prompts: int) -> str:
    first = 1 + parted["position"].to_numpy(float)
    return f"the answers part on {len(parted)} of {prompts} prompts, at token {np.median(first):g} (median)"


def _numbers(
    depth: pd.DataFrame, decision: pd.Series, halves: pd.Series, parted: int, prompts: int, blocks: int
) -> tuple[Headline, ...]:
    half, low, high = (float(depth[f"half_depth{end}"].iloc[0]) for end in ("", "_low", "_high"))
    return (
        Headline(
            "first half of the blocks − second half, in the choice of the next token", float(halves["difference"]),
            float(halves["ci_low"]), float(halves["ci_high"]), float(halves["p_paired"]), int(halves["n"]), "logits",
        ),
        Headline(f"blocks (of {blocks}) that make half of the decision", half, low, high, n=parted, signed=False),
        Headline(
            "the decision: logit(tuned's token) − logit(base's token), tuned − base", float(decision["difference"]),
            float(decision["ci_low"]), float(decision["ci_high"]), float(decision["p_paired"]), parted, "logits",
        ),
        Headline("prompts whose answers part", 100 * parted / max(1, prompts), n=prompts, unit="%", signed=False),
    )  # fmt: skip
