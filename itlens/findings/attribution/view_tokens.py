"""Token views: one prompt under one model (`tokens`), or under base and tuned side by side (`token_pair`).

Two ways to show the same panel. In a notebook each output is complete in itself, in some 10 to 50 KB: plain spans, a
style and a small script, because the 1.3 MB circuitsvis bundle in every output would bloat the notebook and stall VS
Code; and where scripts are not run (an untrusted notebook, a preview), the coloured prompt still shows. As a page
(`.html`, `str()`), circuitsvis draws the prompt, its bundle once; the page asks no network and its policy forbids any.

A character of several tokens is written once, in its first; each further piece is a small ₂, ₃ that carries its own
colour. Prompt and response are written in the direction of their own text (right to left for Arabic or Hebrew).

The spans carry the colours of what the view starts with. assets/tokens.js makes it answer to the pointer, from numbers
alone (`TokenSide.rows`); no token text is ever part of a script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import xarray as xr

from itlens.errors import ResultError
from itlens.findings.attribution.view_map import require_attribution
from itlens.prompts import Prompt
from itlens.report import text
from itlens.report.blocks import FoldablePanel
from itlens.report.numbers import number
from itlens.results.characters import ShownToken, shown_tokens
from itlens.results.density import importance_density, span_mask, sparsify
from itlens.results.provenance import model_label

Values: TypeAlias = Literal["score", "levels"]
Role: TypeAlias = Literal["base", "tuned"]
_STEPS = 1000  # raw scores and densities are sent as thousandths of the largest
_OPACITY = 0.6  # of the strongest token: letters keep a contrast of 4.5 on it in both themes
_WHOLE = "importance density"
_KIND: dict[str, str] = {"score": "attribution", "levels": "level"}


@dataclass(frozen=True)
class PromptToken:
    """A token of the prompt as it is shown first. value: as text. opacity: of its colour. marked: underlined.

    place: which piece of a character it is, "" for whole characters; further: not the first piece.
    """

    text: str
    place: str
    further: bool
    value: str
    opacity: float
    negative: bool
    marked: bool


@dataclass(frozen=True)
class ResponseToken:
    """A token of the response. tip: its number and objective. chosen: it is what is shown first.

    place, further: as in `PromptToken`.
    """

    text: str
    place: str
    further: bool
    tip: str
    chosen: bool


@dataclass(frozen=True)
class TokenSide:
    """One prompt under one model.

    model: gives the colour. rows: what each selection shows, as JSON (`ShownRow.packed`). start: the row that is shown
    first. kind: of what a response token's row holds. whole: of what the first row holds. mode: what is shown, in
    words. signed: whether any number is negative. underlined: whether any token is marked.
    """

    heading: str
    model: Role
    rows: str
    start: int
    kind: str
    whole: str
    mode: str
    signed: bool
    underlined: bool
    prompt: tuple[PromptToken, ...]
    response: tuple[ResponseToken, ...]


@dataclass(frozen=True, repr=False)
class TokenView(FoldablePanel):
    """A token view. Jupyter and VS Code display it; `.html` is a page of its own for a file (about 1.3 MB)."""

    template: ClassVar[str] = "tokens.html"
    styles: ClassVar[tuple[str, ...]] = ("tokens.css",)
    scripts: ClassVar[tuple[str, ...]] = ("circuitsvis", "tokens.js")

    sides: tuple[TokenSide, ...]


@dataclass(frozen=True)
class ColourScale:
    """How scores become levels and densities (METHODS: levels L, threshold b, power p)."""

    levels: int = 10
    threshold: int = 7
    p: int | float = 4


@dataclass(frozen=True)
class ShownRow:
    """What one selection shows: `steps`(source) in whole numbers, `unit` of a step, and the steps of `full` colour."""

    steps: np.ndarray
    unit: float
    full: int

    def packed(self) -> list[object]:
        """Return [unit, full, [token, steps, token, steps, ...]], without the tokens that are zero."""
        pairs = [int(x) for i in np.flatnonzero(self.steps) for x in (i, self.steps[i])]
        return [float(f"{self.unit:.6g}"), self.full, pairs]


def tokens(
    ds: xr.Dataset,
    *,
    target: int | None = None,
    prompt: Prompt | None = None,
    values: Values = "score",
    levels: int = 10,
    threshold: int = 7,
    p: int | float = 4,
) -> TokenView:
    """Show the prompt's tokens coloured by importance, and the response, whose tokens choose what is shown.

    ds: an attribution, score(source, target). target: the response token to start with (its number from 0, or from the
    end when negative); None starts with the importance density over the whole response (levels, threshold, p as in
    itlens.importance_density). values: "score" colours a response token's raw attributions, "levels" its levels
    0..`levels` after the cut-off, which is what the density counts. prompt: underlines its instruction.
    Raises ResultError for a Dataset that is no attribution, and for a target that the response does not have.
    """
    _check(ds, values, "views.tokens")
    side = _side(
        ds, heading=model_label(ds.attrs) or "attribution", model="tuned", target=_target(ds, target),
        mask=_mask(ds, prompt), values=_possible(ds, values), scale=ColourScale(levels, threshold, p),
    )  # fmt: skip
    return TokenView(f"Attribution: {_name(ds)}", (side,))


def token_pair(
    base: xr.Dataset,
    tuned: xr.Dataset,
    prompt: Prompt | None = None,
    *,
    values: Values = "levels",
    levels: int = 10,
    threshold: int = 7,
    p: int | float = 4,
    names: tuple[str, str] | None = None,
) -> TokenView:
    """Show one prompt under both models, side by side, the instruction underlined when `prompt` is given.

    Parameters as in `tokens`; each side answers to its own response's tokens. names: how to call base and tuned;
    default the models of the results, with the adapter where there is one.
    """
    scale = ColourScale(levels, threshold, p)
    base_name, tuned_name = names or (model_label(base.attrs), model_label(tuned.attrs))
    given: tuple[tuple[Role, xr.Dataset, str], ...] = (("base", base, base_name), ("tuned", tuned, tuned_name))
    sides = []
    for role, ds, name in given:
        _check(ds, values, "views.token_pair")
        sides.append(
            _side(
                ds, heading=f"{role}: {name}" if name else role, model=role, target=None, mask=_mask(ds, prompt),
                values=_possible(ds, values), scale=scale,
            )
        )  # fmt: skip
    return TokenView(f"Base and tuned: {_name(base)}", tuple(sides))


def _side(
    ds: xr.Dataset,
    *,
    heading: str,
    model: Role,
    target: int | None,
    mask: Sequence[bool] | None,
    values: Values,
    scale: ColourScale,
) -> TokenSide:
    """Return one model's side; `mask`(source) underlines tokens, `target` is what it starts with."""
    shown = shown_rows(ds, values, scale)
    start = 0 if target is None else target + 1
    responses = shown_tokens(ds, "target")
    kind = _KIND[values]
    return TokenSide(
        heading=heading,
        model=model,
        rows=json.dumps([row.packed() for row in shown], separators=(",", ":")),
        start=start,
        kind=kind,
        whole=_WHOLE,
        mode=_WHOLE if target is None else f"{kind} for response token {start} “{_name_of(responses[target])}”",
        signed=any(bool((row.steps < 0).any()) for row in shown),
        underlined=mask is not None and any(mask),
        prompt=_prompt_tokens(shown_tokens(ds, "source"), shown[start], mask),
        response=_response_tokens(responses, ds, start),
    )


def shown_rows(ds: xr.Dataset, values: Values, scale: ColourScale) -> list[ShownRow]:
    """Return row 0: importance density, divided by its largest; row j + 1: levels or raw scores of response token j."""
    score = ds["score"].transpose("source", "target")
    if not score.size:
        return [ShownRow(np.zeros(score.sizes["source"], int), 0.001, _STEPS)]
    density = importance_density(ds, levels=scale.levels, threshold=scale.threshold, p=scale.p)
    first = _thousandths(np.asarray(density.values, float), relative=True)
    if values == "levels":
        levels = np.asarray(sparsify(ds, levels=scale.levels, threshold=scale.threshold).values, float)
        return [first, *(ShownRow(np.rint(column).astype(int), 1.0, scale.levels) for column in levels.T)]
    return [first, *(_thousandths(column) for column in np.asarray(score.values, float).T)]


def _thousandths(values: np.ndarray, *, relative: bool = False) -> ShownRow:
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    return ShownRow(np.rint(values / largest * _STEPS).astype(int), (1.0 if relative else largest) / _STEPS, _STEPS)


def _name_of(token: ShownToken) -> str:
    """Return a token's text, with signs; for a further piece of a character, which one it is."""
    return text.with_signs(token.text if token.piece == 1 else token.place)


def _prompt_tokens(tokens: Sequence[ShownToken], row: ShownRow, mask: Sequence[bool] | None) -> tuple[PromptToken, ...]:
    return tuple(
        PromptToken(
            token.inline,
            token.place,
            token.piece > 1,
            number(row.steps[i] * row.unit),
            _OPACITY * min(1.0, abs(float(row.steps[i])) / row.full),
            negative=bool(row.steps[i] < 0),
            marked=mask is not None and bool(mask[i]),
        )
        for i, token in enumerate(tokens)
    )


def _response_tokens(tokens: Sequence[ShownToken], ds: xr.Dataset, start: int) -> tuple[ResponseToken, ...]:
    objective = np.asarray(ds["objective"].values, float) if "objective" in ds.coords else None
    name = ds.attrs.get("objective_name", "objective")
    tips = [f"token {j + 1}{', ' if token.place else ''}{token.place}" for j, token in enumerate(tokens)]
    if objective is not None:
        tips = [f"{tip}, {name} {number(value)}" for tip, value in zip(tips, objective, strict=True)]
    return tuple(
        ResponseToken(token.inline, token.place, token.piece > 1, tip, chosen=j + 1 == start)
        for j, (token, tip) in enumerate(zip(tokens, tips, strict=True))
    )


def _check(ds: xr.Dataset, values: str, call: str) -> None:
    require_attribution(ds, call)
    if values not in _KIND:
        raise ResultError(f"{call} cannot show values={values!r}: choose 'score' or 'levels'.")


def _possible(ds: xr.Dataset, values: Values) -> Values:
    # maps that were stored as levels have no raw scores to show
    return "levels" if "levels" in ds.attrs else values


def _target(ds: xr.Dataset, target: int | None) -> int | None:
    count = ds.sizes["target"]
    if target is None:
        return None
    if not -count <= target < count:
        have = f"0 to {count - 1}" if count else "none (the response is empty)"
        raise ResultError(f"views.tokens got target={target}, and this response has tokens {have}.")
    return target % count


def _mask(ds: xr.Dataset, prompt: Prompt | None) -> list[bool] | None:
    return None if prompt is None else [bool(x) for x in span_mask(ds, prompt, "instruction").values]


def _name(ds: xr.Dataset) -> str:
    return str(ds.attrs.get("prompt_id", "")) or text.short(ds.attrs.get("prompt_text", "prompt"), 50)
