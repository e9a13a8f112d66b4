"""What patching says: how much of the gap heads carry, how few of them and which, what random heads do; group by group.

With the metric m of the receiver alone (r), of the donor alone (d) and of the receiver with a part patched (p):
effect = p - r,  gap = d - r,  recovered = sum over prompts of effect / sum over prompts of gap.
A ratio of sums, because single prompts with a gap near zero would make a mean of ratios mean nothing. The verdict
quotes the numbers of `itlens.patch` with their own intervals and tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import xarray as xr
from scipy.stats import false_discovery_control, t

from itlens.errors import ResultError
from itlens.findings.base import Headline, Verdict
from itlens.results.provenance import provenance
from itlens.stats.groups import groups_of
from itlens.stats.paired import p_text, too_few

_NAMES = ("recovered", "recovered_low", "recovered_high", "t", "p", "p_bh")
_SAME = ("what", "unit", "direction", "metric", "unit_of_effect", "responses", "base_model", "tuned_model")
_LEVEL = 0.05
_NAMED = 3  # heads that a sentence names
_Interval: TypeAlias = tuple[float, float]


def patch_groups(patched: xr.Dataset, *, seed: int = 0, minimum: int = 5) -> xr.Dataset:
    """Compute recovered fractions over all prompts and per group of prompts, with intervals and tests.

    patched: of `itlens.patch` with exact effects. seed: of the bootstrap over prompts. minimum: groups of fewer prompts
    get no interval and no test.

    Returns, on (group, layer, head) or the axes that were patched: recovered, recovered_low, recovered_high (ratio of
    sums, 95 % bootstrap over the group's prompts), t, p, p_bh (paired t over prompts; Benjamini-Hochberg over the parts
    within the group). On (group), "all" first: gap, gap_low, gap_high (of the metric's unit; 95 % by Student's t),
    prompts, note (why there is no number: too few prompts, or models that do not differ there beyond chance).

    Raises ResultError for another kind of result.
    """
    if not isinstance(patched, xr.Dataset) or patched.attrs.get("probe") != "patch" or "effect" not in patched:
        raise ResultError("patch_groups takes a Dataset of itlens.patch with exact effects; got something else.")
    of_prompt = patched["group"].values
    groups = groups_of(of_prompt)
    results = [_group(patched.isel(prompt=np.flatnonzero(chosen)), seed, minimum) for chosen in groups.values()]
    same = {name: patched.attrs[name] for name in _SAME if name in patched.attrs}
    joined: xr.Dataset = xr.concat(
        [result for result, _ in results], dim="group", coords="minimal", compat="override"
    )  # fmt: skip
    return joined.assign_coords(
        group=list(groups),
        prompts=("group", np.array([int(chosen.sum()) for chosen in groups.values()])),
        note=("group", np.array([note for _, note in results], dtype=np.str_)),
    ).assign_attrs(provenance("diff.patch_groups", **same, seed=seed, minimum=minimum))


def _group(patched: xr.Dataset, seed: int, minimum: int) -> tuple[xr.Dataset, str]:
    """Return the numbers of some prompts, and why there are none."""
    effect = patched["effect"].transpose("prompt", ...)
    cells, count = effect.values.reshape(len(effect), -1), len(effect)
    gap = gap_of(patched["donor"].values, patched["receiver"].values)
    values = [*recovered(cells, gap, seed=seed), *paired_tests(cells)]
    few = too_few(count, minimum)
    if few:
        values[1:] = [np.full(cells.shape[1], np.nan)] * (len(values) - 1)
    on_parts = {
        name: (effect.dims[1:], value.reshape(effect.shape[1:])) for name, value in zip(_NAMES, values, strict=True)
    }
    low, high = (np.nan, np.nan) if few else (gap.low, gap.high)
    coords = {name: patched[name] for name in effect.dims[1:]}
    result = xr.Dataset(on_parts | {"gap": gap.mean, "gap_low": low, "gap_high": high}, coords=coords)
    return result, "; ".join(filter(None, (few, gap.note)))


def patching_verdict(patched: xr.Dataset) -> str:
    """Return what a result of `itlens.patch` over heads says, in a few sentences.

    Raises ResultError for another kind of result.
    """
    verdict = judge_heads(patched)
    return " ".join(filter(None, (verdict.sentence, verdict.caveat)))


def judge_heads(patched: xr.Dataset) -> Verdict:
    """Return the `Verdict` on a result of `itlens.patch` over heads: what all of them carry, the best few, and each.

    Raises ResultError for another kind of result.
    """
    if not isinstance(patched, xr.Dataset) or patched.attrs.get("probe") != "patch" or "head" not in patched.dims:
        raise ResultError("patching_verdict takes a Dataset of itlens.patch over heads; got something else.")
    if "recovered" not in patched or not np.isfinite(patched["recovered"]).any():
        why = str(patched.attrs.get("note", "")) or "recovered fractions were not computed exactly"
        return Verdict(
            f"Not tested on {_prompts(patched)}: {why}.", tested=False, numbers=(_gap(patched),),
            short="the heads that carry the tuned behaviour were not tested: the models do not differ enough",
        )  # fmt: skip
    together, single = _Together(patched), _Single(patched)
    carries = together.low > 0 or single.closing.size or single.widening.size
    return Verdict(
        f"{together.sentence} {single.sentence}",
        direction="changed" if carries else "none",
        caveat=together.caveat,
        numbers=(*together.headlines, single.headline, _gap(patched)),
        short=together.short or single.short,
    )


class _Together:
    """What all heads carry together, and the fewest that carry four fifths of that, next to random heads."""

    def __init__(self, patched: xr.Dataset) -> None:
        self._patched = patched
        self._heads = patched["layer"].size * patched["head"].size
        self._share = float(patched["joint"][-1]) if "joint" in patched else np.nan
        self.low, self._high = _ends(patched.isel(count=-1), "joint") if "joint" in patched else (np.nan, np.nan)
        few = float(patched["needed_80_of_all"]) if "needed_80_of_all" in patched else np.nan
        self._few = int(few) if np.isfinite(few) and np.isfinite(self._share) else None
        self._judged = int(patched["judged"].sum()) if "judged" in patched else patched.sizes["prompt"]

    @property
    def _fewest_words(self) -> str:
        """The fewest heads that were tried and are enough, as words: not every number of heads was tried."""
        assert self._few is not None
        return f"{'' if is_fewest(self._patched, self._few) else 'at most '}{self._few}"

    @property
    def sentence(self) -> str:
        donor, receiver = _models(self._patched)
        if not np.isfinite(self._share):
            return f"{_difference(self._patched)} ({_prompts(self._patched)})."
        span = f"; 95 % interval {_percent(self.low)} to {_percent(self._high)}" if np.isfinite(self.low) else ""
        return (
            f"{_difference(self._patched)}: put into the {receiver} model together, the {self._heads} heads of the "
            f"{donor} model recover {_percent(self._share)} of that ({_number_of(self._judged)}{span}){self._fewest}."
        )

    @property
    def _fewest(self) -> str:
        if self._few is None:
            return ""
        best = self._patched.sel(count=self._few)
        others = self._patched.sizes["prompt"] - self._judged
        chosen = f", chosen on the other {others}," if others else ""
        sentence = f", and the best {self._few} alone{chosen} {_percent(best['joint'])}"
        if not np.isfinite(best["joint_random"]) or self._few == self._heads:
            return sentence
        low, high = _ends(best, "joint_random")
        return (
            f"{sentence} (as many random heads: {_percent(best['joint_random'])}, "
            f"95 % of the draws {_percent(low)} to {_percent(high)})"
        )

    @property
    def caveat(self) -> str:
        if "joint" not in self._patched:
            return ""
        if not np.isfinite(self._share):
            return (
                "What heads carry together is not known: on the prompts that would judge it the models do not differ "
                "enough."
            )
        if self._few is not None and self._few < self._heads:
            best = self._patched.sel(count=self._few)
            if best["joint"] <= best["joint_random_high"]:
                return "The choice of the best heads is no better than chance: random heads do as well."
        if "judged" in self._patched and bool(self._patched["judged"].all()):
            return "The best heads are judged on the prompts that they were chosen on."
        return ""

    @property
    def headlines(self) -> list[Headline]:
        if not np.isfinite(self._share):
            return []
        share, low, high = (100 * share for share in (self._share, self.low, self._high))
        count = self._judged
        all_heads = Headline(
            f"share of the gap that all {self._heads} heads carry",
            share,
            low,
            high,
            n=count,
            unit="%",
            signed=False,
        )
        if self._few is None:
            return [all_heads]
        most = "heads" if is_fewest(self._patched, self._few) else "heads, at most,"
        fewest = Headline(f"{most} that carry four fifths of what all heads carry", self._few, n=count, signed=False)
        return [all_heads, fewest]

    @property
    def short(self) -> str:
        if not np.isfinite(self._share):
            return ""
        all_heads = f"the {self._heads} attention heads carry {_percent(self._share)} of the tuned behaviour"
        return f"{all_heads}, {self._fewest_words} of them four fifths of that" if self._few is not None else all_heads


def is_fewest(patched: xr.Dataset, count: int) -> bool:
    """Return whether one part less than this count was tried too, so that nothing is left open between the two."""
    return count <= 1 or count - 1 in patched["count"].values


class _Single:
    """The heads that narrow the gap by themselves, and those that widen it, as far as their effect is significant."""

    def __init__(self, patched: xr.Dataset) -> None:
        cells = patched[["recovered", "p_bh"]].stack(cell=("layer", "head"))
        self._p = cells["p_bh"].values
        self._prompts = patched.sizes["prompt"]
        significant = cells.isel(cell=np.flatnonzero(self._p < _LEVEL)).sortby("recovered", ascending=False)
        values = significant["recovered"].values
        self.closing = significant["recovered"].isel(cell=values > 0)
        self.widening = significant["recovered"].isel(cell=values < 0).isel(cell=slice(None, None, -1))

    @property
    def sentence(self) -> str:
        if not np.isfinite(self._p).any():
            return "Single heads were not tested: there are too few prompts."
        if not self.closing.size and not self.widening.size:
            return f"No single head has a significant effect (smallest corrected {p_text(float(np.nanmin(self._p)))})."
        effects = [
            f"{heads.size} {several if heads.size > 1 else one} the gap (most: {_named(heads)})"
            for one, several, heads in (("narrows", "narrow", self.closing), ("widens", "widen", self.widening))
            if heads.size
        ]
        return f"Of the heads with a significant effect by themselves, {' and '.join(effects)}."

    @property
    def short(self) -> str:
        count = self.closing.size + self.widening.size
        return f"{count} of {self._p.size} attention heads change the response significantly by themselves"

    @property
    def headline(self) -> Headline:
        tested = bool(np.isfinite(self._p).any())
        return Headline(
            "heads with a significant effect by themselves",
            float(self.closing.size + self.widening.size) if tested else None,
            p=float(np.nanmin(self._p)) if tested else None,
            n=self._prompts,
            signed=False,
        )


def _gap(patched: xr.Dataset) -> Headline:
    value, low, high = (float(patched.attrs.get(name, np.nan)) for name in ("gap", "gap_low", "gap_high"))
    unit = str(patched.attrs.get("unit_of_effect", ""))
    return Headline("gap between the models", value, low, high, n=patched.sizes["prompt"], unit=unit)


def _difference(patched: xr.Dataset) -> str:
    """Return what the models differ by, as the start of a sentence."""
    donor, receiver = _models(patched)
    gap = float(patched.attrs["gap"])
    if patched.attrs.get("metric") != "logprob":
        unit = str(patched.attrs.get("unit_of_effect", "")) or "units"
        return f"The {donor} model's metric is {gap:+.3g} {unit} from the {receiver} model's"
    more, less = (donor, receiver) if gap > 0 else (receiver, donor)
    return f"The {more} model gives these responses {abs(gap):.2f} nats more per token than the {less} model does"


def _models(patched: xr.Dataset) -> tuple[str, str]:
    donor, _, receiver = str(patched.attrs["direction"]).partition("->")
    return donor, receiver


def _ends(patched: xr.Dataset, name: str) -> _Interval:
    if f"{name}_low" not in patched:
        return np.nan, np.nan
    return float(patched[f"{name}_low"]), float(patched[f"{name}_high"])


def _named(heads: xr.DataArray) -> str:
    first = heads.isel(cell=slice(_NAMED))
    return ", ".join(
        f"L{layer}H{head} {_percent(value)}"
        for (layer, head), value in zip(first["cell"].values.tolist(), first.values.tolist(), strict=True)
    )


def _percent(share: float | xr.DataArray) -> str:
    return f"{100 * float(share):.0f} %"


def _prompts(patched: xr.Dataset) -> str:
    return _number_of(patched.sizes["prompt"])


def _number_of(prompts: int) -> str:
    return f"{prompts} prompt{'' if prompts == 1 else 's'}"


# ---- recovered fractions

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
