"""How far apart both models' activations are on the same tokens, layer by layer and head by head (`shift`)."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.report import text, theme
from itlens.report.head_grid import (
    MOST_ACROSS,
    cells_of,
    chosen_label,
    floats,
    head_map,
    head_name,
    layer_height,
    layer_lines,
    panels,
    require_result,
    ticks,
)
from itlens.report.numbers import interval, number, whole

_CALL = "views.shift"
_LINES = (("resid_relative_change", "residual stream", "#0f9d7a"), ("mlp_relative_change", "MLP output", "#9b59b6"))
_KL = (
    ("own", "own readouts", "#b8860b", "solid"),
    ("base", "base's readout", theme.BASE, "dash"),
    ("tuned", "tuned's readout", theme.TUNED, "dot"),
)
WORDS = {
    "result_relative_change": "relative change of what a head writes",
    "z_relative_change": "relative change of a head's z",
    "result_cosine": "cosine of what a head writes",
    "z_cosine": "cosine of a head's z",
    "result_norm_ratio": "norm, tuned / base, of what a head writes",
    "z_norm_ratio": "norm, tuned / base, of a head's z",
    "pattern_jsd": "divergence of attention patterns (nats)",
    **{
        f"{kind}_{measure}": f"{words} of the {where}"
        for kind, where in (("resid", "residual stream"), ("mlp", "MLP output"))
        for measure, words in (
            ("relative_change", "relative change"), ("cosine", "cosine"), ("norm_ratio", "norm, tuned / base,"),
        )
    },
    "lens_kl_base_tuned": "KL(base || tuned) of the logit lens (nats)",
    "lens_kl_tuned_base": "KL(tuned || base) of the logit lens (nats)",
}  # fmt: skip


def shift(
    ds: xr.Dataset,
    *,
    statistic: str = "result_relative_change",
    token_class: str = "rest",
    group: str = "all",
) -> go.Figure:
    """Draw a map of heads, layers down and heads across, and next to it the layers: how far tuning changed them.

    ds: of `itlens.diff.shift_summary`. statistic: on heads, such as "result_relative_change" (0: the same),
    "result_cosine" (1: the same; darker is less) or "pattern_jsd" (nats); means over prompts. Next to it, where there
    are any: relative change of the residual stream and of the MLP's output, and KL(base || tuned) of the logit lens
    (nats), with 95 % intervals over prompts (of the lens, for each stream with its own readout). token_class: "rest" is
    all but the first token. Raises ResultError for another result, and for a statistic, class or group that there is
    not.
    """
    require_result(ds, "diff.shift_summary", _CALL, "itlens.diff.shift_summary")
    known = [str(name) for name in ds.data_vars if "head" in ds[name].dims]
    if statistic not in known:
        raise ResultError(
            f"{_CALL} cannot draw statistic={statistic!r}; on heads there are {', '.join(known) or 'none'}."
        )
    chosen = ds.sel(group=chosen_label(ds, "group", group, _CALL))
    if "token_class" in ds.dims:
        chosen = chosen.sel(token_class=chosen_label(ds, "token_class", token_class, _CALL))
    lines = [line for line in _LINES if line[0] in ds]
    lens = "lens_kl_base_tuned" in ds
    titles = ["each head", *(["each layer"] if lines else []), *(["logit lens"] if lens else [])]
    widths = {1: [1.0], 2: [0.6, 0.4], 3: [0.5, 0.25, 0.25]}[len(titles)]
    fig = theme.figure(
        "How far tuning changed the activations",
        subtitle=_subtitle(chosen, statistic, token_class),
        height=layer_height(ds.sizes["layer"]),
    )
    panels(fig, widths, titles, shared=True)
    _add_map(fig, chosen[statistic], WORDS.get(statistic, statistic))
    for name, words, color in lines:
        _add_lines(fig, chosen[name], words, color, 2)
    if lines:
        fig.update_xaxes(title={"text": "relative change"}, rangemode="tozero", row=1, col=2)
    if lens:
        for reading, words, color, dash in _KL:
            kl = chosen["lens_kl_base_tuned"].sel(reading=reading)
            _add_lines(fig, kl, f"KL, {words}", color, len(titles), dash)
        fig.update_xaxes(title={"text": "KL(base || tuned), nats"}, rangemode="tozero", row=1, col=len(titles))
    layers = ds["layer"].values
    fig.update_yaxes(**ticks(layers), range=[len(layers) - 0.5, -0.5])
    fig.update_yaxes(title={"text": "layer"}, row=1, col=1)
    return fig


def _add_map(fig: go.Figure, values: xr.DataArray, words: str) -> None:
    values = values.transpose("summary", "layer", "head")
    layers, heads = values["layer"].values, values["head"].values
    hover = [
        [_hover(values.sel(layer=layer, head=each), head_name(layer, each), words) for each in heads]
        for layer in layers
    ]
    z = floats(values.sel(summary="mean"), "layer", "head")
    drawn = head_map(fig, z, hover, words, signed=False, meta=cells_of(layers, heads))
    fig.add_trace(drawn.update(_scale(str(values.name), z)), row=1, col=1)
    fig.update_xaxes(**ticks(heads, MOST_ACROSS), title={"text": "head"}, range=[-0.5, len(heads) - 0.5], row=1, col=1)


def _scale(statistic: str, z: np.ndarray) -> dict[str, object]:
    """Colours of what is 1, not 0, where nothing changed: the darker (of ratios: the stronger) the further from 1."""
    known = z[np.isfinite(z)]
    if statistic.endswith("_cosine"):
        return {
            "zmin": float(known.min(initial=0.99)),
            "zmax": 1.0,
            "colorscale": theme.SEQUENTIAL,
            "reversescale": True,
        }
    if statistic.endswith("_norm_ratio"):
        limit = float(np.abs(known - 1).max(initial=0.01))
        return {"zmin": 1 - limit, "zmax": 1 + limit, "colorscale": theme.DIVERGING}
    return {}


def _add_lines(fig: go.Figure, values: xr.DataArray, words: str, color: str, column: int, dash: str = "solid") -> None:
    values = values.transpose("summary", "layer")
    value, low, high = (floats(values.sel(summary=name)) for name in ("mean", "ci_low", "ci_high"))
    hover = [_hover(values.sel(layer=layer), f"layer {layer}", words) for layer in values["layer"].values]
    if dash != "solid":  # a second line over the same streams: its band would hide the first
        low, high = np.full(value.shape, np.nan), np.full(value.shape, np.nan)
    cells = cells_of(values["layer"].values)
    for trace in layer_lines(np.arange(len(value)), value, low, high, words, color, hover, cells):
        fig.add_trace(trace.update(line={"dash": dash}) if trace.fill is None else trace, row=1, col=column)


def _hover(cell: xr.DataArray, name: str, words: str) -> str:
    at = dict(zip(cell["summary"].values.tolist(), cell.values.tolist(), strict=True))
    span = interval(at["ci_low"], at["ci_high"], sign=False)
    return f"<b>{name}</b><br>{text.plotly(words)} {number(at['mean'])} {span}<br>over {whole(at['n'])} prompts"


def _subtitle(chosen: xr.Dataset, statistic: str, token_class: str) -> str:
    prompts = f"means over {whole(chosen['prompts'].item())} prompts" if "prompts" in chosen.coords else "means"
    tokens = {"rest": "all tokens but the first", "all": "all tokens"}.get(token_class, f"{token_class} tokens")
    return f"{prompts}; {text.plotly(tokens)}; bands: 95 % interval over prompts"
