"""What a series of models says of one statistic: does it go one way, and how far is the last model from the first?"""

from __future__ import annotations

import numpy as np

from itlens.diff.model_series import ModelSeries
from itlens.diff.statistics import p_text
from itlens.errors import ResultError

_WORDS = {"instruction_score": "importance of the instruction", "response_tokens": "length of the response (tokens)"}


def series_verdict(found: ModelSeries, *, statistic: str, group: str = "all", alpha: float = 0.05) -> str:
    """One or two plain sentences on the result of `itlens.diff.series`. Raises ResultError for unknown names."""
    tables = [table[(table["statistic"] == statistic) & (table["group"] == group)] for table in found]
    if any(table.empty for table in tables):
        raise ResultError(f"There is no statistic {statistic!r} in the group {group!r} of this series.")
    models, differences, trend = tables
    row = trend.iloc[0]
    words = _WORDS.get(statistic, statistic)
    means = ", ".join(f"{one['model']} {one['mean']:.3g}" for _, one in models.iterrows())
    if not np.isfinite(row["p_slope_holm"]):
        return f"The {words} over {row['n']} prompts: {means}. No trend was tested: {row['note'] or 'too few prompts'}."
    held = row["p_slope_holm"] < alpha
    way = "rises" if row["slope"] > 0 else "falls"
    said = f"The {words} {way} along the series" if held else f"No trend of the {words} along the series can be told"
    told = differences[differences["p_holm"] < alpha]
    pairs = ", ".join(f"{one['reference']} to {one['model']}" for _, one in told.iterrows()) or "none"
    return (
        f"{said} ({means}; slope {row['slope']:+.3g} a step, 95 % interval {row['ci_low']:.3g} to "
        f"{row['ci_high']:.3g}, Holm {p_text(float(row['p_slope_holm']))}, {row['n']} prompts). "
        f"Pairs that differ: {pairs}."
    )
