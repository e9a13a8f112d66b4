"""What the activation difference says: how large and how constant it is, what it reads as, and what it does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from itlens.findings.activation_difference.columns import random_range
from itlens.findings.base import Headline, Tables, Verdict
from itlens.report.numbers import headline
from itlens.stats.paired import as_said, is_tested, p_text

_LEVEL = 0.05
_MOST, _ALIKE = 0.5, 0.9  # energy in one direction, cosine of halves: "mostly in one direction" beyond both
_CAVEAT = (
    "Any tuning moves streams: what counts is whether the difference is one direction, whether it says something that "
    "random directions do not, and whether it acts."
)


def difference_verdict(tables: Tables) -> Verdict:
    """Return the `Verdict` on the tables of the finding: difference_places, _words, _spectrum and dial_effects."""
    mean, words, dial = mean_row(tables["difference_places"]), tables["difference_words"], tables.get("dial_effects")
    spectrum = tables["difference_spectrum"]
    texts = int(tables["difference_places"].attrs["texts"])
    layer = int(tables["difference_places"].attrs["layer"])
    lens = words_of(words, "tuned", "mean")
    added, scored = strongest(dial), strongest(dial, "score")
    numbers = [
        _projection(mean),
        _share("size of the constant part, share of the base's streams", mean["constant"], texts),
        _share("energy of all differences in one direction", spectrum["share"].iloc[0], texts),
        Headline(
            "percentile of instruction words under the tuned lens", 100 * float(lens["percentile"]),
            p=float(lens["p_percentile"]), n=int(lens["draws"]), unit="%", signed=False,
        ),
    ]  # fmt: skip
    if added is not None:
        numbers.append(_dial("log-probability of the response", added, "nats"))
    if scored is not None:
        numbers.append(_dial("instruction score", scored))
    where = f"at the first positions of {texts} unrelated texts, before block {layer}"
    if not is_tested(mean):
        return Verdict(
            f"Not tested: {mean['note']}, {where}.", tested=False,
            numbers=tuple(numbers), short="the activation difference was not tested (too few texts)",
        )  # fmt: skip
    if not _is_significant(mean):
        test = "the streams are the same" if not mean["norm"] else p_text(mean["p_paired"])
        return Verdict(
            f"No significant difference {where} ({test}, n = {int(mean['n'])} texts that did not choose the "
            "direction).",
            numbers=tuple(numbers),
            short="no significant constant difference at the beginning of unrelated texts",
        )
    first = float(spectrum["share"].iloc[0])
    one = ", mostly in one direction" if first > _MOST and mean["half_cosine"] > _ALIKE else ""
    same = "" if np.isfinite(mean["p_paired"]) else ", the same in every text"
    said = (
        f"The streams differ {where}, with a constant part of {_percent(mean['constant'])} of the base's length{one} "
        f"({_percent(first)} of the energy in the first direction, cosine of two halves of the texts "
        f"{mean['half_cosine']:.2f}; projection "
        f"{headline(mean['difference'], mean['ci_low'], mean['ci_high'], mean['p_paired'])}{same}). "
    )
    return Verdict(
        said + _meaning(lens, added),
        direction="changed",
        caveat=_CAVEAT,
        numbers=tuple(numbers),
        short=f"unrelated texts already carry a constant difference of {_percent(mean['constant'])} of the stream",
    )


def mean_row(places: pd.DataFrame) -> pd.Series:
    """Return the row of the mean over positions."""
    return as_said(places.iloc[0])


def words_of(words: pd.DataFrame, lens: str, direction: str) -> pd.Series:
    """Return the row of a direction under a lens."""
    return words[(words["lens"] == lens) & (words["direction"] == direction)].iloc[0]


def strongest(dial: pd.DataFrame | None, statistic: str = "logprob") -> pd.Series | None:
    """Return the row of a statistic in the base with the difference itself added (strength 1, or the first); None
    where there is no dial, or none of this statistic."""
    if dial is None:
        return None
    rows = dial[(dial["statistic"] == statistic) & (dial["model"] == "base")]
    if not len(rows):
        return None
    one = rows[rows["strength"] == 1]
    row = (one if len(one) else rows).iloc[0]
    return as_said(row, p="change_p", difference="change", low="change_low", high="change_high")


def _is_significant(row: pd.Series) -> bool:
    """Return whether the projection rose; an interval above 0 without a p: the same in every text."""
    p = float(row["p_paired"])
    return bool(row["difference"] > 0 and (p < _LEVEL if np.isfinite(p) else row["ci_low"] > 0))


def _meaning(lens: pd.Series, added: pd.Series | None) -> str:
    if np.isfinite(lens["p_percentile"]):
        above = "significantly" if lens["p_percentile"] < _LEVEL else "not significantly"
        nulls = "random directions and differences between halves of the texts within the base"
        one_test = f"one test, uncorrected {p_text(lens['p_percentile'])}"
        words = f"Instruction words rank {above} higher there than under {nulls} ({one_test})"
    else:
        words = "The tokenizer has no instruction word as one token"
    if added is None or not np.isfinite(added["change_low"]):
        return f"{words}."
    change = headline(added["change"], added["change_low"], added["change_high"], unit="nats")
    p = added["change_p_holm"]
    same = f", Holm {p_text(p)}" if np.isfinite(p) else ", the same in every prompt"
    return (
        f"{words}; added to the base it changes the response's log-probability by {change}{same} (random directions of "
        f"its length: {random_range(added)}; {int(added['n'])} prompts)."
    )


def _projection(row: pd.Series) -> Headline:
    value, low, high = (float(row[name]) for name in ("difference", "ci_low", "ci_high"))
    return Headline("projection on the difference, tuned − base", value, low, high, float(row["p_paired"]),
                    int(row["n"]))  # fmt: skip


def _share(name: str, value: float, n: int) -> Headline:
    return Headline(name, 100 * float(value), n=n, unit="%", signed=False)


def _dial(statistic: str, row: Mapping[str, float] | pd.Series, unit: str = "") -> Headline:
    value, low, high = (float(row[name]) for name in ("change", "change_low", "change_high"))
    return Headline(
        f"{statistic}, base with the difference added − base", value, low, high, float(row["change_p_holm"]),
        int(row["n"]), unit,
    )  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if np.isfinite(share) else "–"
