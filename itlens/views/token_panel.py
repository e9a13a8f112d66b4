"""The HTML of one token view: a prompt coloured by importance, and the response that chooses what is shown.

The panel is complete without any script: its spans carry the colours of what it starts with. assets/tokens.js makes
it answer to the pointer, from numbers alone (`data-rows`); no token text is ever part of a script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from itlens.density import importance_density, sparsify
from itlens.views import text
from itlens.views.map_chart import token_texts
from itlens.views.numbers import number

_STEPS = 1000  # raw scores and densities are sent as thousandths of the largest
_WHOLE = "importance density"
_LEGEND = {
    True: '<span class="scale"><span>−</span><span class="ramp signed"></span><span>+</span></span>',
    False: '<span class="scale"><span>0</span><span class="ramp"></span><span>most</span></span>',
}
_KIND = {"score": "attribution", "levels": "level"}


@dataclass(frozen=True)
class Row:
    """What one selection shows: `steps`(source) in whole numbers, `unit` of a step, and the steps of `full` colour."""

    steps: np.ndarray
    unit: float
    full: int

    def packed(self) -> list[object]:
        """[unit, full, [token, steps, token, steps, ...]], without the tokens that are zero."""
        pairs = [int(x) for i in np.flatnonzero(self.steps) for x in (i, self.steps[i])]
        return [float(f"{self.unit:.6g}"), self.full, pairs]


@dataclass(frozen=True)
class Scale:
    """How scores become levels and densities (METHODS: levels L, threshold b, power p)."""

    levels: int = 10
    threshold: int = 7
    p: int | float = 4


def rows(ds: xr.Dataset, values: str, scale: Scale) -> list[Row]:
    """Row 0: importance density, divided by its largest; row j + 1: the levels or raw scores of response token j."""
    score = ds["score"].transpose("source", "target")
    if not score.size:
        return [Row(np.zeros(score.sizes["source"], int), 0.001, _STEPS)]
    density = importance_density(ds, levels=scale.levels, threshold=scale.threshold, p=scale.p)
    first = _thousandths(np.asarray(density.values, float), relative=True)
    if values == "levels":
        levels = np.asarray(sparsify(ds, levels=scale.levels, threshold=scale.threshold).values, float)
        return [first, *(Row(np.rint(column).astype(int), 1.0, scale.levels) for column in levels.T)]
    return [first, *(_thousandths(column) for column in np.asarray(score.values, float).T)]


def _thousandths(values: np.ndarray, *, relative: bool = False) -> Row:
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    return Row(np.rint(values / largest * _STEPS).astype(int), (1.0 if relative else largest) / _STEPS, _STEPS)


def panel(
    ds: xr.Dataset,
    *,
    heading: str,
    target: int | None,
    mask: Sequence[bool] | None,
    values: str,
    scale: Scale,
    model: str = "tuned",
) -> str:
    """One `<figure>`; `mask`(source) underlines tokens, `model` gives the colour, `target` what it starts with."""
    shown = rows(ds, values, scale)
    start = 0 if target is None else target + 1
    numbers = json.dumps([row.packed() for row in shown], separators=(",", ":"))
    responses = token_texts(ds, "target")
    kind = _KIND[values]
    mode = _WHOLE if target is None else f"{kind} for response token {start} “{text.visible(responses[target])}”"
    underlined = " (instruction underlined)" if mask is not None and any(mask) else ""
    signed = any(bool((row.steps < 0).any()) for row in shown)
    return (
        f'<figure class="itlens-tokens {model}" data-rows="{numbers}" data-start="{start}" data-kind="{kind}"'
        f' data-all="{_WHOLE}"><figcaption><span class="name">{text.html(heading)}</span>'
        f"{_LEGEND[signed]}</figcaption>"
        f'<div class="label">prompt{underlined} · '
        f'<span class="mode">{text.html(mode)}</span></div>'
        f'<div class="prompt">{_prompt(token_texts(ds, "source"), shown[start], mask)}</div>'
        f"{_response(responses, ds, start)}</figure>"
    )


def _prompt(tokens: Sequence[str], row: Row, mask: Sequence[bool] | None) -> str:
    spans = []
    for i, token in enumerate(tokens):
        part = min(1.0, abs(float(row.steps[i])) / row.full)
        color = "neg" if row.steps[i] < 0 else "rgb"
        style = f' style="background-color:rgba(var(--{color}),{0.75 * part:.3f})"' if part else ""
        classes = "t i" if mask is not None and mask[i] else "t"
        value = number(row.steps[i] * row.unit)
        spans.append(f'<span class="{classes}" title="{value}"{style}>{text.html(token)}</span>{_break(token)}')
    return "".join(spans)


def _response(tokens: Sequence[str], ds: xr.Dataset, start: int) -> str:
    if not tokens:
        return '<div class="label">response</div><div class="none">Empty: the model ended at once (scores 0).</div>'
    objective = np.asarray(ds["objective"].values, float) if "objective" in ds.coords else None
    name = text.html(ds.attrs.get("objective_name", "objective"))
    spans = []
    for j, token in enumerate(tokens):
        tip = f"token {j + 1}" + (f", {name} {number(objective[j])}" if objective is not None else "")
        spans.append(
            f'<span class="t r" role="button" tabindex="0" aria-pressed="{"true" if j + 1 == start else "false"}"'
            f' title="{tip}">{text.html(token)}</span>{_break(token)}'
        )
    hidden = "" if start else " hidden"
    return (
        '<div class="label">response · point at a token to see what it read, click to keep it'
        f'<button type="button" class="whole"{hidden}>whole response</button></div>'
        f'<div class="response">{"".join(spans)}</div>'
    )


def _break(token: str) -> str:
    return "<br>" if "\n" in token else ""
