"""Token views: one prompt under one model (`tokens`), or under base and tuned side by side (`token_pair`).

Two ways to show the same panel. In a notebook each output stands alone, in some 10 to 50 KB: plain spans, a style and
a small script, because the 1.3 MB circuitsvis bundle in every output would bloat the notebook and stall VS Code; and
where scripts are not run (an untrusted notebook, a preview), the coloured prompt still shows. As a page (`.html`,
`str()`), circuitsvis draws the prompt, its bundle once; the page asks no network and its policy forbids any.
"""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr

from itlens.density import span_mask
from itlens.errors import ResultError
from itlens.prompts import Prompt
from itlens.provenance import short_name
from itlens.views import page, text
from itlens.views.map_chart import require_attribution
from itlens.views.token_panel import Scale, panel


@dataclass(frozen=True)
class TokenView:
    """A token view. Jupyter and VS Code display it; `.html` is a page of its own for a file (about 1.3 MB)."""

    title: str
    panels: str

    def _repr_html_(self) -> str:
        return f"<style>{page.asset('tokens.css')}</style>{self.panels}<script>{page.asset('tokens.js')}</script>"

    @property
    def html(self) -> str:
        """A complete offline page, drawn by circuitsvis."""
        body = f'<main><h1>{text.html(self.title)}</h1><section class="card">{self.panels}</section></main>'
        return page.page(
            self.title, body, styles=("page.css", "tokens.css"), scripts=(page.circuitsvis(), page.asset("tokens.js"))
        )

    def __str__(self) -> str:
        return self.html


def tokens(
    ds: xr.Dataset,
    *,
    target: int | None = None,
    prompt: Prompt | None = None,
    values: str = "score",
    levels: int = 10,
    threshold: int = 7,
    p: int | float = 4,
) -> TokenView:
    """The prompt's tokens coloured by importance, and the response, whose tokens choose what is shown.

    ds: an attribution, score(source, target). target: the response token to start with (its number from 0, or from the
    end when negative); None starts with the importance density over the whole response (levels, threshold, p as in
    itlens.importance_density). values: "score" colours a response token's raw attributions, "levels" its levels
    0..`levels` after the cut-off, which is what the density counts. prompt: underlines its instruction.
    Raises ResultError for a Dataset that is no attribution, and for a target that the response does not have.
    """
    _check(ds, values, "views.tokens")
    panels = panel(
        ds, heading=_model(ds) or "attribution", target=_target(ds, target),
        mask=_mask(ds, prompt), values=_possible(ds, values), scale=Scale(levels, threshold, p),
    )  # fmt: skip
    return TokenView(f"Attribution: {_name(ds)}", panels)


def token_pair(
    base: xr.Dataset,
    tuned: xr.Dataset,
    prompt: Prompt | None = None,
    *,
    values: str = "levels",
    levels: int = 10,
    threshold: int = 7,
    p: int | float = 4,
    names: tuple[str, str] | None = None,
) -> TokenView:
    """One prompt under both models, side by side, the instruction underlined when `prompt` is given.

    Parameters as in `tokens`; each side answers to its own response's tokens. names: how to call base and tuned;
    default the models of the results, with the adapter where there is one.
    """
    scale = Scale(levels, threshold, p)
    sides = []
    given = names or (_model(base), _model(tuned))
    for role, ds, model in zip(("base", "tuned"), (base, tuned), given, strict=True):
        _check(ds, values, "views.token_pair")
        sides.append(
            panel(
                ds, heading=f"{role}: {model}" if model else role, target=None, mask=_mask(ds, prompt),
                values=_possible(ds, values), scale=scale, model=role,
            )
        )  # fmt: skip
    return TokenView(f"Base and tuned: {_name(base)}", f'<div class="itlens-pair">{"".join(sides)}</div>')


def _check(ds: xr.Dataset, values: str, call: str) -> None:
    require_attribution(ds, call)
    if values not in ("score", "levels"):
        raise ResultError(f"{call} cannot show values={values!r}: choose 'score' or 'levels'.")


def _possible(ds: xr.Dataset, values: str) -> str:
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


def _model(ds: xr.Dataset) -> str:
    return " + ".join(short_name(str(ds.attrs[name])) for name in ("model", "adapter") if ds.attrs.get(name))


def _name(ds: xr.Dataset) -> str:
    return str(ds.attrs.get("prompt_id", "")) or text.short(ds.attrs.get("prompt_text", "prompt"), 50)
