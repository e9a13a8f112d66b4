"""Does the finding hang on the cut-off b and the power p? The same tests over b = 0..L-1 and p in {2, 4, 8}."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from itlens.diff.attribution_scores import Aligned
from itlens.diff.statistics import cohen_dz, paired_t, too_few, welch

_VARIABLES = (*("difference", "base_mean", "tuned_mean", "t_paired", "p_paired", "effect_size", "t_welch", "p_welch"),)


def sensitivity_grid(
    aligned: Aligned, levels: int, powers: Sequence[float] = (2, 4, 8), *, minimum: int = 5
) -> xr.Dataset:
    """Means and tests on (threshold, power); tests are NaN for fewer than `minimum` prompts. Two-sided paired t, and
    the one-sided Welch t (tuned > base); no correction for the number of settings, which are not independent."""
    thresholds = range(levels)
    base, tuned = (np.array([s.scores(thresholds, powers) for s in side]) for side in (aligned.base, aligned.tuned))
    small = bool(too_few(len(aligned.ids), minimum))
    cells = [[_cell(base[:, b, k], tuned[:, b, k], small) for k in range(len(powers))] for b in range(len(thresholds))]
    values = np.array(cells)
    variables = {name: (("threshold", "power"), values[..., i]) for i, name in enumerate(_VARIABLES)}
    return xr.Dataset(variables, {"threshold": list(thresholds), "power": list(powers)}, {"n": len(aligned.ids)})


def _cell(base: np.ndarray, tuned: np.ndarray, small: bool) -> list[float]:
    means = [float((tuned - base).mean()), float(base.mean()), float(tuned.mean())]
    if small:
        return [*means, *[np.nan] * 5]
    return [*means, *paired_t(base, tuned), cohen_dz(tuned - base), *welch(tuned, base, alternative="greater")]
