"""Behaviour of both models next to each other, and next to what the other findings say of the same prompts.

1. Each number, paired over prompts (`itlens.stats.paired`): difference with its interval, p, Holm over the numbers of a
   group. p: Wilcoxon's signed-rank test; of numbers that are 0 or 1 the exact test of the prompts on which the models
   differ (McNemar). A prompt counts where each model wrote its own response.
2. OPENINGS: first words that one model uses on more prompts than the other: exact test of the prompts on which only one
   of them does (McNemar), Benjamini-Hochberg over the openings.
3. LINKS: Spearman's rank correlation over prompts between the change of a behaviour (tuned - base) and the change of
   each number that the other findings have by prompt (`Finding.changes`); bootstrap interval, p of random pairings
   (2,000, or 40 for each correlation), Benjamini-Hochberg over all of them. A correlation over prompts is no cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from itlens.errors import ResultError
from itlens.findings.behaviour.traits import NUMBERS, YES_OR_NO
from itlens.stats.groups import ALL, groups_of, paired_groups
from itlens.stats.paired import adjust
from itlens.stats.ranks import rank_correlation, rank_correlation_interval, rank_correlation_p

LEVEL = 0.05
_FEWEST = 5  # prompts with an opening, and prompts of a correlation
_DRAWS = 2000  # random pairings, at least
_DRAWS_PER_LINK = 40  # so that one link can be significant among all of them
_COLUMNS = ("id", "group", "model", "first_words", *NUMBERS)


def behaviour_tests(rows: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return a row per number and group: statistic, group, then those of `itlens.diff.paired`, and p (exact for
    numbers of 0 and 1, else p_wilcoxon) with p_holm, over the numbers of a group.

    rows: one for each prompt and model: id, group, model ("base", "tuned"), first_words, and the numbers of the probe.
    Raises ResultError for another table.
    """
    _require(rows)
    base, tuned = _sides(rows)
    groups = groups_of(base["group"])
    tables = []
    for name in NUMBERS:
        tested = paired_groups(groups, base[name], tuned[name], seed=seed).assign(statistic=name)
        tested["p"] = tested["p_wilcoxon"]
        if name in YES_OR_NO:
            exact = [_exact_p((tuned[name] - base[name]).to_numpy(float)[of]) for of in groups.values()]
            tested["p"] = tested["p_wilcoxon"].where(tested["p_wilcoxon"].isna(), exact)
        tables.append(tested)
    table = pd.concat(tables, ignore_index=True)
    table["note"] = table["note"].where(table["p"].isna(), "")  # of the t-test, which is not shown
    table["p_holm"] = table.groupby("group", sort=False)["p"].transform(lambda p: pd.Series(adjust(p), p.index))
    return table[["statistic", *(name for name in table.columns if name != "statistic")]]


def behaviour_openings(rows: pd.DataFrame, *, words: int = 1) -> pd.DataFrame:
    """Return a row for each opening that is used on at least five prompts: opening, base and tuned (shares of the
    prompts), only_base, only_tuned (prompts), p, p_bh; the most significant first. words: how many, of three."""
    _require(rows)
    base, tuned = (side["first_words"].map(lambda text: " ".join(text.split()[:words])) for side in _sides(rows))
    found = []
    for opening in sorted({*base, *tuned} - {""}):
        ours, theirs = (base == opening).to_numpy(), (tuned == opening).to_numpy()
        if (ours | theirs).sum() < _FEWEST:
            continue
        only_base, only_tuned = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        p = _exact_p(theirs.astype(float) - ours)
        shares = {"base": float(ours.mean()), "tuned": float(theirs.mean())}
        found.append({"opening": opening, **shares, "only_base": only_base, "only_tuned": only_tuned, "p": p})
    names = ["opening", "base", "tuned", "only_base", "only_tuned", "p"]
    table = pd.DataFrame(found, columns=names)
    table["p_bh"] = adjust(table["p"].to_numpy(float), "fdr_bh")
    return table.sort_values("p", kind="stable").reset_index(drop=True)


def behaviour_links(rows: pd.DataFrame, changes: Mapping[str, pd.DataFrame], *, seed: int = 0) -> pd.DataFrame:
    """Return a row per behaviour and number of a finding: behaviour, finding, number, n, spearman, ci_low, ci_high, p,
    p_bh. Left out are those without spread on either side, and a number that is the behaviour itself (a length)
    where both are known.

    changes: by finding, a table with the column id and a column for each number (`Finding.changes`).
    """
    _require(rows)
    base, tuned = _sides(rows)
    moved = tuned[list(NUMBERS)] - base[list(NUMBERS)]
    found: list[dict[str, Any]] = []
    pairs = []
    for finding, table in changes.items():
        by_id = table.drop_duplicates("id").set_index("id").reindex(moved.index)
        for number in by_id.select_dtypes("number").columns:
            for behaviour in NUMBERS:
                x, y = moved[behaviour].to_numpy(float), by_id[number].to_numpy(float)
                both = np.isfinite(x) & np.isfinite(y)
                n = int(both.sum())
                rho = rank_correlation(x, y) if n >= _FEWEST else np.nan
                if not np.isfinite(rho) or np.array_equal(x[both], y[both]):
                    continue
                low, high = rank_correlation_interval(x, y, seed=seed, resamples=1000)
                row = {"behaviour": behaviour, "finding": finding, "number": str(number), "n": n, "spearman": rho}
                found.append({**row, "ci_low": low, "ci_high": high})
                pairs.append((x, y))
    draws = max(_DRAWS, _DRAWS_PER_LINK * len(pairs))
    for row, (x, y) in zip(found, pairs, strict=True):
        row["p"] = rank_correlation_p(x, y, seed=seed, draws=draws)
    names = ["behaviour", "finding", "number", "n", "spearman", "ci_low", "ci_high", "p"]
    links = pd.DataFrame(found, columns=names)
    links["p_bh"] = adjust(links["p"].to_numpy(float), "fdr_bh")
    return links.sort_values("p", kind="stable").reset_index(drop=True)


def _exact_p(change: np.ndarray) -> float:
    """Return McNemar's exact two-sided p of changes that are -1, 0 or 1; 1 where there are none."""
    fell, rose = int((change < 0).sum()), int((change > 0).sum())
    return float(binomtest(fell, fell + rose).pvalue) if fell + rose else 1.0


def of_all(tests: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of all prompts together."""
    return tests[tests["group"] == ALL].reset_index(drop=True)


def _sides(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both models' rows by id, of the prompts that both have, in the base's order."""
    base, tuned = (rows[rows["model"] == side].set_index("id") for side in ("base", "tuned"))
    both = [id for id in base.index if id in tuned.index]
    return base.loc[both], tuned.loc[both]


def _require(rows: object) -> None:
    missing = [name for name in _COLUMNS if name not in getattr(rows, "columns", ())]
    if missing:
        raise ResultError(
            f"The table of responses lacks {', '.join(missing)}; expected a row for each prompt and model: the "
            "table 'behaviour' of a comparison."
        )
