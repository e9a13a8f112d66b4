"""Is the difference at the first positions of texts more than chance, does it say something, and does it do something?

1. `difference_places`: base against tuned, paired over the texts of one half, in their projection on the unit direction
   that the other half gives: a direction that these texts did not choose. Next to it the size of the mean difference,
   relative to the base's streams, and of differences between halves of the texts within the base.
2. `difference_words`: the words of each direction; the share of instruction words among them and their percentile, with
   p-values: the share of random directions of the same length that have as much, or the share of differences between
   halves of the texts within the base (both signs), whichever is larger (Benjamini-Hochberg over directions, lenses).
3. `difference_spectrum`: how much of all differences lies in the first directions.
4. `dial_effects`: the difference added to the base or subtracted from the tuned model, against the plain model, paired
   over prompts (t, Holm over models and strengths). Random directions of the same length stand beside it, as a range:
   a few fixed directions are no sample that prompts could test.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.results.provenance import provenance
from itlens.stats.paired import adjust, paired_cells, paired_row

COMPONENTS = 10
_RESAMPLES = 2000
_TESTED = ("n", "base_mean", "tuned_mean", "difference", "ci_low", "ci_high", "effect_size", "p_paired")


def difference_places(ad: xr.Dataset, *, seed: int = 0, resamples: int = _RESAMPLES, minimum: int = 5) -> pd.DataFrame:
    """Test the difference at each place: "mean" (over positions), then every position.

    Returns place, norm (of the mean difference), base_size (mean length of the base's streams there), relative (norm /
    base_size), constant (length of the constant part as a share of base_size: from two halves of the texts, so that
    noise cancels), half_norm and half_high (mean and 97.5 % quantile of differences between halves of the texts within
    the base), half_cosine; of the projections n (texts that did not choose the direction), base_mean, tuned_mean,
    difference, ci_low, ci_high (95 % BCa bootstrap), effect_size, p_paired, p_holm (over positions), note. Raises
    ResultError for another kind of result.
    """
    _refuse_other(ad, "difference_places")
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    base, tuned = (ad[f"{side}_projection"].values for side in ("base", "tuned"))
    known = np.isfinite(base[:, 0])
    first = int(ad.attrs["first"])
    sizes = ad["base_norm"].mean("text").values
    rows = []
    for place, name in enumerate(ad["place"].values.astype(str)):
        tested = paired_row(base[known, place], tuned[known, place], "text", **options)
        size = float(sizes[first:].mean() if place == 0 else sizes[place - 1])
        halves = ad["half_norm"].values[:, place]
        norm = float(ad["norm"][place])
        rows.append(
            {
                "place": name,
                "norm": norm,
                "base_size": size,
                "relative": norm / size if size else np.nan,
                "constant": float(ad["constant_norm"][place]) / size if size else np.nan,
                "half_norm": float(halves.mean()) if halves.size else np.nan,
                "half_high": float(np.quantile(halves, 0.975)) if halves.size else np.nan,
                "half_cosine": float(ad["half_cosine"][place]),
                **{key: tested[key] for key in (*_TESTED, "note")},
            }
        )
    table: pd.DataFrame = pd.DataFrame(rows)
    holm = np.concatenate([[np.nan], adjust(table["p_paired"].to_numpy(float)[1:])])
    table.insert(list(table.columns).index("p_paired") + 1, "p_holm", holm)
    table.attrs.update(provenance("diff.difference_places", **_of(ad), **options))
    return table


def difference_words(ad: xr.Dataset) -> pd.DataFrame:
    """Return the words of every direction under each lens, and how many of them are instruction words.

    Returns lens ("base", "tuned", "patchscope"), direction, words (from the first), share (of instruction words among
    them), random_share and half_share (means over random directions, and over halves of the texts within the base),
    p_share, percentile (mean place of all instruction words among all tokens, 0 to 1), random_percentile,
    half_percentile, p_percentile, p_bh (of p_percentile), draws. Raises ResultError for another kind of result.
    """
    _refuse_other(ad, "difference_words")
    rows = []
    for lens in ad["lens"].values.astype(str):
        for direction in ad["direction"].values.astype(str):
            at = ad.sel(lens=lens, direction=direction)
            words = [word for word in at["word"].values.tolist() if word]
            row: dict[str, object] = {
                "lens": lens,
                "direction": direction,
                "words": " · ".join(word.strip(" ") or "␣" for word in words),
            }
            for name in ("share", "percentile"):
                value = float(at[f"instruction_{name}"])
                random, half = (_known(at[f"{null}_{name}"].values) for null in ("random", "half"))
                row |= {name: value, f"random_{name}": _mean(random), f"half_{name}": _mean(half)}
                larger = np.fmax(_above(value, random), _above(value, half))  # of the nulls that there are
                row |= {f"p_{name}": float(larger), "draws": random.size}
            rows.append(row)
    table: pd.DataFrame = pd.DataFrame(rows)
    table["p_bh"] = adjust(table["p_percentile"].to_numpy(float), "fdr_bh")
    table.attrs.update(provenance("diff.difference_words", **_of(ad)))
    return table


def difference_spectrum(ad: xr.Dataset) -> pd.DataFrame:
    """Return for the first directions of all differences: component, share (of the summed squares), within (the same of
    differences between texts within the base); in attrs directions and directions_within, exp(entropy of the shares).

    Raises ResultError for another kind of result.
    """
    _refuse_other(ad, "difference_spectrum")
    table: pd.DataFrame = pd.DataFrame(
        {
            "component": ad["component"].values[:COMPONENTS],
            "share": ad["spectrum"].values[:COMPONENTS],
            "within": ad["spectrum_texts"].values[:COMPONENTS],
        }
    )
    spread = {"directions": _spread(ad["spectrum"].values), "directions_within": _spread(ad["spectrum_texts"].values)}
    table.attrs.update(provenance("diff.difference_spectrum", **_of(ad), **spread))
    return table


def dial_effects(dial: xr.Dataset, *, seed: int = 0, resamples: int = _RESAMPLES, minimum: int = 5) -> pd.DataFrame:
    """Test what adding the difference does, next to random directions of the same length.

    dial: of `difference_dial`. Returns statistic ("logprob", "kl", and "score" where the dial has it), model ("base":
    added, "tuned": subtracted), strength, n (prompts; of the score those that have one), plain (mean without),
    difference_mean (mean with the difference), change, change_low, change_high (difference − plain, 95 % bootstrap over
    prompts), effect_size, change_p, change_p_holm (paired t; over models and strengths of a statistic; NaN where all
    prompts change by the same), random_change, random_change_low, random_change_high (of the random directions, each
    the mean over prompts of direction − plain: mean, lowest and highest; not tested). Raises ResultError for another
    kind of result.
    """
    if not isinstance(dial, xr.Dataset) or dial.attrs.get("probe") != "difference_dial":
        got = "another kind of result" if isinstance(dial, xr.Dataset) else f"a {type(dial).__name__}"
        raise ResultError(f"dial_effects takes a Dataset of difference_dial; got {got}.")
    tables = []
    for statistic in (name for name in ("logprob", "kl", "score") if name in dial):
        known = dial[statistic].dropna("prompt")
        ours = known.sel(direction="difference").transpose("prompt", "model", "strength").values
        random = known.isel(direction=slice(1, None)).mean("prompt")
        theirs = random.transpose("direction", "model", "strength").values
        plain, ours, theirs = (_flat(values) for values in (ours[..., :1] + 0 * ours[..., 1:], ours[..., 1:],
                                                            theirs[..., 1:] - theirs[..., :1]))  # fmt: skip
        tested = paired_cells(plain, ours, seed=seed, resamples=resamples, minimum=minimum)
        columns: dict[str, object] = {"statistic": statistic}
        columns["model"] = np.repeat(dial["model"].values.astype(str), dial.sizes["strength"] - 1)
        columns["strength"] = np.tile(dial["strength"].values[1:], dial.sizes["model"])
        columns |= {"n": tested["n"].astype(int), "plain": plain.mean(axis=0), "difference_mean": ours.mean(axis=0)}
        columns |= {"change": tested["difference"], "change_low": tested["ci_low"], "change_high": tested["ci_high"]}
        columns |= {"effect_size": tested["effect_size"], "change_p": tested["p_paired"]}
        columns["change_p_holm"] = adjust(tested["p_paired"])
        columns |= {"random_change": theirs.mean(axis=0), "random_change_low": theirs.min(axis=0)}
        columns["random_change_high"] = theirs.max(axis=0)
        tables.append(pd.DataFrame(columns))
    table: pd.DataFrame = pd.concat(tables, ignore_index=True)
    table.attrs.update(provenance("diff.dial_effects", seed=seed, resamples=resamples, minimum=minimum))
    return table


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)


def _known(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan


def _above(value: float, null: np.ndarray) -> float:
    """Return the share of a null (and the value itself) that is at least the value; NaN where there is none."""
    if not np.isfinite(value) or not null.size:
        return np.nan
    return float((1 + (null >= value - 1e-12).sum()) / (1 + null.size))


def _spread(shares: np.ndarray) -> float:
    """Return exp(entropy) of shares: as many directions would share evenly; 0 where there is nothing to share."""
    known = shares[shares > 0]
    return float(np.exp(-(known * np.log(known)).sum())) if known.size else 0.0


def _of(ad: xr.Dataset) -> Mapping[str, object]:
    same = ("base_model", "tuned_model", "layer", "layers", "positions", "texts", "top")
    return {name: ad.attrs[name] for name in same if name in ad.attrs}


def _refuse_other(ad: object, call: str) -> None:
    if not isinstance(ad, xr.Dataset) or ad.attrs.get("probe") != "activation_difference":
        got = "another kind of result" if isinstance(ad, xr.Dataset) else f"a {type(ad).__name__}"
        raise ResultError(f"{call} takes a Dataset of itlens.activation_difference; got {got}.")
    if "constant_norm" not in ad:
        raise ResultError(
            f"{call} needs constant_norm, which this older result has not; run itlens.activation_difference again."
        )
