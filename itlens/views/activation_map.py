"""What tuning changed in a model's run, layer by layer and head by head (`activations`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.views import text, theme
from itlens.views.activation_lines import model_lines
from itlens.views.head_grid import (
    LEVEL,
    MOST_ACROSS,
    chosen_label,
    floats,
    head_map,
    layer_height,
    layer_lines,
    panels,
    require_result,
    star_marks,
    ticks,
)
from itlens.views.head_map import head_name
from itlens.views.numbers import interval, number, p_value, whole

_CALL = "views.activations"


def activations(
    ds: xr.Dataset,
    *,
    statistic: str = "attention_mass",
    token_class: str = "instruction",
    group: str = "all",
) -> go.Figure:
    """One statistic of `itlens.diff.activations`: what changed, and where.

    A statistic on heads is a map, layers down and heads across, of the mean difference (tuned - base), blue where the
    tuned model has more, with stars where it holds after Benjamini-Hochberg (below 0.05); beside it both models' means
    over the heads of each layer. A statistic on layers is drawn as both models' means, and the difference with its 95 %
    interval, stars where it holds. Of `itlens.diff.activation_means` each model is a line down the layers, any number
    of them. token_class: for statistics that have classes. Units: the statistic's own.
    Raises ResultError for another result, and for a statistic, class or group that there is not.
    """
    if isinstance(ds, xr.Dataset) and ds.attrs.get("probe") == "diff.activation_means":
        return model_lines(ds, statistic, token_class, group, _CALL)
    require_result(ds, "diff.activations", _CALL, "itlens.diff.activations")
    part, about = _selected(ds, statistic, token_class, group)
    fig = theme.figure(
        f"What changed: {text.plotly(about)}",
        subtitle=_subtitle(part, ds.sel(group=group)),
        height=layer_height(ds.sizes["layer"]),
    )
    on_heads = "head" in part.dims
    if on_heads:
        panels(fig, [0.62, 0.38], ["difference (tuned − base)", "mean over heads"], shared=True)
        _add_map(fig, part)
    else:
        panels(fig, [0.5, 0.5], ["base and tuned", "difference (tuned − base), 95 %"], shared=True)
        _add_difference(fig, part)
    _add_models(fig, part.mean("head") if on_heads else part, 2 if on_heads else 1)
    layers = part["layer"].values
    fig.update_yaxes(**ticks(layers), range=[len(layers) - 0.5, -0.5])
    fig.update_yaxes(title={"text": "layer"}, row=1, col=1)
    return fig


def _selected(ds: xr.Dataset, statistic: str, token_class: str, group: str) -> tuple[xr.DataArray, str]:
    known = [str(name) for name in ds.data_vars if "layer" in ds[name].dims]
    if statistic not in known:
        raise ResultError(f"{_CALL} cannot draw statistic={statistic!r}; on layers there are {', '.join(known)}.")
    part = ds[statistic].sel(group=chosen_label(ds, "group", group, _CALL))
    about = str(part.attrs.get("long_name", statistic))
    if "token_class" in part.dims:
        part = part.sel(token_class=chosen_label(ds, "token_class", token_class, _CALL))
        about += f" on {token_class} tokens"
    if extra := sorted(map(str, set(part.dims) - {"measure", "layer", "head"})):
        raise ResultError(
            f"{_CALL} draws layers and heads; {statistic!r} has {', '.join(extra)} as well: select first."
        )
    return part.transpose("measure", "layer", ...), about


def _add_map(fig: go.Figure, part: xr.DataArray) -> None:
    rows, columns = part["layer"].values, part["head"].values
    hover = [[_words(part.sel(layer=layer, head=head), head_name(layer, head)) for head in columns] for layer in rows]
    z = floats(part.sel(measure="difference"), "layer", "head")
    fig.add_trace(head_map(fig, z, hover, "tuned − base", signed=True), row=1, col=1)
    stars = star_marks(floats(part.sel(measure="p_bh"), "layer", "head") < LEVEL, f"p BH < {LEVEL:g}")
    if stars is not None:
        fig.add_trace(stars, row=1, col=1)
    fig.update_xaxes(
        **ticks(columns, MOST_ACROSS), title={"text": "head"}, range=[-0.5, len(columns) - 0.5], row=1, col=1
    )


def _add_models(fig: go.Figure, part: xr.DataArray, column: int) -> None:
    places, nothing = np.arange(part.sizes["layer"]), np.full(part.sizes["layer"], np.nan)
    for name, color in (("base", theme.BASE), ("tuned", theme.TUNED)):
        values = floats(part.sel(measure=f"{name}_mean"), "layer")
        hover = [f"<b>layer {layer}</b><br>{name} {number(x)}" for layer, x in zip(part["layer"].values, values)]  # noqa: B905
        for trace in layer_lines(places, values, nothing, nothing, name, color, hover):
            fig.add_trace(trace, row=1, col=column)
    fig.update_xaxes(title={"text": "mean"}, row=1, col=column)


def _add_difference(fig: go.Figure, part: xr.DataArray) -> None:
    places = np.arange(part.sizes["layer"])
    middle, low, high, p = (
        floats(part.sel(measure=name), "layer") for name in ("difference", "ci_low", "ci_high", "p_bh")
    )
    hover = [_words(part.sel(layer=layer), f"layer {layer}") for layer in part["layer"].values]
    for trace in layer_lines(places, middle, low, high, "difference", theme.NEUTRAL, hover):
        fig.add_trace(trace, row=1, col=2)
    if (p < LEVEL).any():
        marker = {"symbol": "star", "size": 12, "color": theme.TEXT}
        stars: dict[str, Any] = {"x": middle[p < LEVEL], "y": places[p < LEVEL], "marker": marker, "hoverinfo": "skip"}
        fig.add_scatter(**stars, mode="markers", name=f"p BH < {LEVEL:g}", row=1, col=2)
    fig.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"}, row=1, col=2)
    fig.update_xaxes(title={"text": "tuned − base"}, row=1, col=2)


def _words(cell: xr.DataArray, name: str) -> str:
    at = dict(zip(cell["measure"].values.tolist(), cell.values.tolist(), strict=True))
    return (
        f"<b>{name}</b><br>base {number(at['base_mean'])} → tuned {number(at['tuned_mean'])}<br>difference "
        f"{number(at['difference'], sign=True)} {interval(at['ci_low'], at['ci_high'])}<br>"
        f"d_z {number(at['effect_size'], 2)}, p {p_value(at['p_paired'])}, Benjamini-Hochberg {p_value(at['p_bh'])}"
    )


def _subtitle(part: xr.DataArray, chosen: xr.Dataset) -> str:
    note = str(chosen["note"].item()) if "note" in chosen.coords else ""
    if note:
        return text.plotly(note)
    p = floats(part.sel(measure="p_bh"))
    prompts = f"{whole(chosen['prompts'].item())} prompts" if "prompts" in chosen.coords else "prompts"
    what = "heads" if "head" in part.dims else "layers"
    found = int((p < LEVEL).sum())
    return f"paired over {prompts}; {whole(found) if found else 'none'} of {whole(p.size)} {what} below {LEVEL:g}" \
        " (Benjamini-Hochberg)"  # fmt: skip
