"""Whether the first-order estimate may stand for exact patching: one point per head (`estimates`)."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.views import theme
from itlens.views.head_grid import require_result
from itlens.views.head_map import head_name
from itlens.views.numbers import interval, is_number, number, rounded, whole
from itlens.views.patch_map import units

_CALL = "views.estimates"
_NAMED, _CLOSE = 3, 0.08


def estimates(ds: xr.Dataset) -> go.Figure:
    """Estimated against exact recovered fraction of each part, with the line on which they agree.

    ds: of `itlens.patch` with exact effects and estimates. The subtitle has their rank correlation with its interval
    (Spearman, bootstrap over parts); the parts that carry most are named. Units: recovered fractions. Raises
    ResultError for another result, or one without both.
    """
    require_result(ds, "patch", _CALL, "itlens.patch")
    if missing := [name for name in ("recovered", "estimated") if name not in ds]:
        raise ResultError(f"{_CALL} needs {' and '.join(missing)}: pass what itlens.patch returns with exact=True.")
    rows = ds[["recovered", "estimated"]].to_dataframe().reset_index()
    rows = rows[np.isfinite(rows["recovered"]) & np.isfinite(rows["estimated"])]
    fig = theme.figure(
        f"Does the estimate find the same {units(ds)[1]}?",
        subtitle=_subtitle(ds, len(rows)),
        height=430,
        xaxis={"title": {"text": "exact: recovered fraction"}},
        yaxis={"title": {"text": "estimate, first order"}},
    )
    if not len(rows):
        return fig
    exact, estimated = rows["recovered"].to_numpy(float), rows["estimated"].to_numpy(float)
    ends = [min(exact.min(), estimated.min(), 0.0), max(exact.max(), estimated.max(), 0.0)]
    fig.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": theme.NEUTRAL, "dash": "dot", "width": 1.5}, name="equal",
        hoverinfo="skip",
    )  # fmt: skip
    names = [_name(row) for row in rows.to_dict("records")]
    best = _apart(exact, estimated, ends[1] - ends[0])
    fig.add_scatter(
        x=exact, y=estimated, mode="markers+text", name="parts", showlegend=False, customdata=names,
        text=[name if place in best else "" for place, name in enumerate(names)], textposition="top left",
        marker={"color": theme.TUNED, "size": 8, "opacity": 0.75},
        hovertemplate="<b>%{customdata}</b><br>exact %{x:.3f}<br>estimate %{y:.3f}<extra></extra>",
    )  # fmt: skip
    return fig


def _apart(exact: np.ndarray, estimated: np.ndarray, size: float) -> list[int]:
    """The parts that carry most, without those whose names would lie upon one another."""
    kept: list[int] = []
    for place in np.argsort(-exact, kind="stable")[:_NAMED].tolist():
        near = [max(abs(exact[place] - exact[i]), abs(estimated[place] - estimated[i])) for i in kept]
        if min(near, default=np.inf) > _CLOSE * size:
            kept.append(place)
    return kept


def _name(row: dict[str, float]) -> str:
    head = row.get("head", row.get("key_value_head"))
    return f"layer {int(row['layer'])}" if head is None else head_name(int(row["layer"]), int(head))


def _subtitle(ds: xr.Dataset, count: int) -> str:
    rho = ds.attrs.get("rank_correlation")
    if not is_number(rho):
        return f"{whole(count)} {units(ds)[1]}, a point each"
    low, high = ds.attrs.get("rank_correlation_low"), ds.attrs.get("rank_correlation_high")
    span = f" {interval(low, high, 2)}" if is_number(low) and is_number(high) else ""
    shown = rounded(rho, 2) if abs(float(rho)) < 1 else number(rho, 0)  # type: ignore[arg-type]
    return f"{whole(count)} {units(ds)[1]}, a point each; rank correlation {shown}{span}"
