"""How much of the gap between two models a part recovers, and whether there is a gap: numbers for probe and diff.

With the metric m of the receiver alone (r), of the donor alone (d) and of the receiver with a part patched (p):
effect = p - r,  gap = d - r,  recovered = sum over prompts of effect / sum over prompts of gap.
A ratio of sums, because single prompts with a gap near zero would make a mean of ratios mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control, t

RESAMPLES = 2000
_LEAST = 5  # prompts for a test, as everywhere in this package


@dataclass(frozen=True)
class Gap:
    """What is to be recovered: donor - receiver by prompt, and a note where it is not different from zero."""

    values: np.ndarray
    low: float
    high: float
    note: str

    @property
    def mean(self) -> float:
        return float(self.values.mean())


def gap_of(donor: np.ndarray, receiver: np.ndarray) -> Gap:
    """Return the gap by prompt, and the 95 % interval of its mean by Student's t (NaN for one prompt).

    No bootstrap: of few prompts its interval is too narrow, and finds a gap where there is none three times too often.
    """
    values = donor - receiver
    mean, size = float(values.mean()), max(1.0, float(np.abs(receiver).mean()))
    low, high, interval = np.nan, np.nan, "too few prompts for an interval"
    if values.size > 1:
        half = float(t.ppf(0.975, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size))
        low, high = mean - half, mean + half
        interval = f"95 % interval {low:.3g} to {high:.3g}"
    note = ""
    if abs(mean) <= 1e-6 * size or (values.size > 1 and low <= 0 <= high):
        note = (
            f"the metric does not differ between the models (mean gap {mean:.3g}, {interval}), so there is nothing to "
            "recover: recovered is NaN"
        )
    return Gap(values, low, high, note)


def recovered(effect: np.ndarray, gap: Gap, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (value, low, high) by part, of effects (prompt, part): the ratio of sums and its 95 % bootstrap interval.

    The ratio is computed again in each resample of the prompts. All NaN where the gap has a note, no interval for one
    prompt.
    """
    empty = np.full(effect.shape[1], np.nan)
    if gap.note:
        return empty, empty.copy(), empty.copy()
    value = effect.sum(axis=0) / gap.values.sum()
    if gap.values.size < 2:
        return value, empty, empty.copy()
    counts = _resamples(gap.values.size, seed)
    below = counts @ gap.values
    usable = np.sign(below) == np.sign(gap.mean)  # the interval of the gap excludes 0: all but a few in a thousand
    ratios = (counts[usable] @ effect) / below[usable, None]
    low, high = np.quantile(ratios, [0.025, 0.975], axis=0)
    return value, low, high


def paired_tests(effect: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (t, p, p_bh) by part, of effects (prompt, part): paired t over prompts, Benjamini-Hochberg over the parts.

    NaN for fewer than five prompts, and for effects without any spread; p is 1 where every effect is zero.
    """
    n, parts = effect.shape
    statistic, p = np.full(parts, np.nan), np.full(parts, np.nan)
    if n < _LEAST:
        return statistic, p, p.copy()
    mean, sd = effect.mean(axis=0), effect.std(axis=0, ddof=1)
    largest = np.abs(effect).max(axis=0, initial=0.0)
    spread = sd > 1e-12 * np.maximum(1.0, largest)
    statistic[spread] = mean[spread] / (sd[spread] / np.sqrt(n))
    p[spread] = 2 * t.sf(np.abs(statistic[spread]), n - 1)
    p[~spread & (largest < 1e-12)] = 1.0
    corrected = np.full(parts, np.nan)
    known = np.isfinite(p)
    if known.any():
        corrected[known] = false_discovery_control(p[known])
    return statistic, p, corrected


def _resamples(prompts: int, seed: int) -> np.ndarray:
    """Return how often each prompt is drawn, (resample, prompt)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(prompts, np.full(prompts, 1 / prompts), RESAMPLES).astype(float)
