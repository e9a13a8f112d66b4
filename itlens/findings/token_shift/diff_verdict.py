"""What token shift says: how much of the tuned model's response the base would have written, and where it would not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from itlens.findings.base import Headline, Tables, Verdict
from itlens.stats.paired import as_said, is_tested, p_text

_LEVEL = 0.05
_WRITERS = {
    "tuned": "The tuned model's own tokens are its first choices by construction, so that what counts is how large the "
    "difference is and where it lies.",
    "base": "Both models read the base's own responses, whose tokens are its first choices by construction: no token "
    "is shifted there, and what counts is how many of them are the tuned model's first choice.",
}


def token_shift_verdict(tables: Tables) -> Verdict:
    """Return the `Verdict` on the tables of the finding: token_shift_tests and shift_depth."""
    tests = rows_of_all(tables["token_shift_tests"])
    unshifted, shifted, depth = tests["unshifted"], tests["shifted"], first_row(tables["shift_depth"])
    first = int(tables["shift_depth"].attrs["first"])
    numbers = (
        _points("tokens that are the model's first choice, tuned − base", unshifted),
        _share("tokens that are the base's first choice", unshifted),
        _share("tokens beyond the base's third choice", shifted),
        _points(f"share of the divergence in the first {first} tokens, beyond an even spread", depth),
        _nats("mean log-probability of a response token, tuned − base", tests["logprob"]),
    )
    prompts = f"{int(unshifted['n'])} prompts"
    share = f"{_percent(unshifted['base_mean'])} of the response's tokens are the base's first choice"
    if not is_tested(unshifted):
        return Verdict(
            f"Not tested: {unshifted['note']}; {share}.", tested=False, numbers=numbers,
            short="shifts of tokens were not tested (too few prompts)",
        )  # fmt: skip
    if not unshifted["p_paired"] < _LEVEL:
        test = "they differ on no prompt" if not unshifted["difference"] else p_text(unshifted["p_paired"])
        return Verdict(
            f"No significant change: {share}, and {_percent(unshifted['tuned_mean'])} the tuned model's ({test}, "
            f"{prompts}).",
            numbers=numbers,
            short="both models have the same first choices of tokens",
        )
    low, high = (abs(100 * unshifted[end]) for end in ("ci_low", "ci_high"))
    sentence = (
        f"{share} too and {_percent(shifted['base_mean'])} rank beyond its third ({prompts}; first choices "
        f"{100 * unshifted['difference']:+.1f} points in the tuned model, 95 % interval {min(low, high):.1f} to "
        f"{max(low, high):.1f}, {p_text(unshifted['p_paired'])})"
    )
    writer = str(tables["token_shift_tests"].attrs.get("responses", ""))
    return Verdict(
        f"{sentence}. {_depth_sentence(depth, first)}",
        direction="changed",
        caveat=_WRITERS.get(writer, ""),
        numbers=numbers,
        short=f"the base would have written {_percent(unshifted['base_mean'])} of the response's tokens itself",
    )


def rows_of_all(tests: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the rows of all prompts, by statistic."""
    chosen = tests[tests["group"] == "all"]
    return {str(row["statistic"]): as_said(row) for _, row in chosen.iterrows()}


def first_row(table: pd.DataFrame) -> pd.Series:
    """Return the row of all prompts."""
    return as_said(table.iloc[0])


def _depth_sentence(depth: pd.Series, first: int) -> str:
    if not is_tested(depth):
        return f"Whether the first {first} tokens diverge most was not tested ({depth['note']} that are longer)."
    prompts = f"{int(depth['n'])} prompts with longer responses"
    carry, even = (
        f"The first {first} tokens carry {_percent(depth['share'])} of the divergence",
        _percent(depth["even"]),
    )
    if not depth["p_paired"] < _LEVEL:
        return (
            f"{carry}, not significantly different from the {even} of an even spread ({p_text(depth['p_paired'])}, "
            f"{prompts})."
        )
    more = "more" if depth["difference"] > 0 else "less"
    low, high = sorted(abs(100 * depth[end]) for end in ("ci_low", "ci_high"))
    return (
        f"{carry}, {abs(100 * depth['difference']):.1f} points {more} than an even spread would give them (95 % "
        f"interval {low:.1f} to {high:.1f}, {p_text(depth['p_paired'])}, {prompts})."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if np.isfinite(share) else "–"


def _points(name: str, row: Mapping[str, float] | pd.Series) -> Headline:
    value, low, high = (100 * float(row[column]) for column in ("difference", "ci_low", "ci_high"))
    return Headline(name, value, low, high, float(row["p_paired"]), int(row["n"]), "points")


def _share(name: str, row: pd.Series) -> Headline:
    return Headline(name, 100 * float(row["base_mean"]), n=int(row["n"]), unit="%", signed=False)


def _nats(name: str, row: pd.Series) -> Headline:
    value, low, high = (float(row[column]) for column in ("difference", "ci_low", "ci_high"))
    return Headline(name, value, low, high, float(row["p_paired"]), int(row["n"]), "nats")
