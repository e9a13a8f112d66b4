"""Is the model "constantly conditioned" on the instruction? Its share of the importance along the response."""

from __future__ import annotations

import numpy as np
import xarray as xr

from itlens.density import span_profile
from itlens.diff.attribution_scores import Aligned, Scored
from itlens.diff.statistics import bootstrap_interval, mean


def response_profile(
    aligned: Aligned, levels: int, threshold: int, *, bins: int = 20, seed: int = 0, resamples: int = 2_000
) -> xr.Dataset:
    """Mean over prompts of `itlens.span_profile`: share, ci_low, ci_high and n on (model, position).

    The interval is a 95 % percentile bootstrap over prompts; n counts the prompts that have a share there.
    `uniform_share` is what evenly spread importance would give: the mean share of instruction tokens in the prompts.
    """
    sides = {"base": aligned.base, "tuned": aligned.tuned}
    profiles = [np.array([_profile(s, levels, threshold, bins) for s in side]) for side in sides.values()]
    shape = (len(sides), bins)
    share, low, high, n = (np.full(shape, np.nan) for _ in range(4))
    for k, at in np.ndindex(shape):
        known = profiles[k][:, at][np.isfinite(profiles[k][:, at])]
        share[k, at], n[k, at] = mean(known), known.size
        low[k, at], high[k, at] = bootstrap_interval(known, seed=seed, resamples=resamples, method="percentile")
    axes = ("model", "position")
    variables = {"share": (axes, share), "ci_low": (axes, low), "ci_high": (axes, high), "n": (axes, n.astype(int))}
    uniform = float(np.mean([s.mask.mean() for s in aligned.base]))
    coords = {"model": list(sides), "position": (np.arange(bins) + 0.5) / bins}
    return xr.Dataset({**variables, "uniform_share": uniform}, coords)


def _profile(scored: Scored, levels: int, threshold: int, bins: int) -> np.ndarray:
    score = xr.DataArray(scored.levels, dims=("source", "target"), attrs={"levels": levels})
    return span_profile(score, xr.DataArray(scored.mask, dims="source"), levels, threshold, bins).values
