"""The attribution of one prompt as a heat map: prompt tokens down, response tokens across (`heatmap`)."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from itlens.errors import ResultError
from itlens.report import text, theme
from itlens.report.numbers import number
from itlens.results.characters import ShownToken, shown_tokens
from itlens.results.density import sparsify
from itlens.results.provenance import model_label

_MOST_LABELS = 60


def heatmap(ds: xr.Dataset, *, values: str = "score", levels: int = 10, threshold: int = 7) -> go.Figure:
    """Heat map of an attribution: score(source, target) as it is, or its levels 0..`levels` (entries <= `threshold` 0).

    Axes are positions, with the tokens written beside them, so that equal tokens stay apart; on long axes every
    k-th token is written, and hovering names the others. A character of several tokens is written at its first one, its
    further pieces as ₂, ₃. Raises ResultError for anything but an attribution.
    """
    require_attribution(ds, "views.heatmap")
    if values not in ("score", "levels"):
        raise ResultError(f"views.heatmap cannot draw values={values!r}: choose 'score' or 'levels'.")
    shown = ds["score"] if values == "score" else sparsify(ds, levels=levels, threshold=threshold)
    z = np.asarray(shown.transpose("source", "target").values, dtype=float)
    sources, targets = shown_tokens(ds, "source"), shown_tokens(ds, "target")
    words = "attribution" if values == "score" else f"level (0 to {levels})"
    model = model_label(ds.attrs)
    fig = theme.figure(
        "Which prompt token drives which response token",
        subtitle=text.plotly(text.short(f"{model} {ds.attrs.get('prompt_id', '')}".strip(), 90)),
        height=int(np.clip(190 + 15 * len(sources), 300, 1100)),
        xaxis={"title": {"text": "response token"}, "side": "bottom", **_labels(targets)},
        yaxis={"title": {"text": "prompt token"}, "autorange": "reversed", **_labels(sources)},
    )
    fig.add_heatmap(
        z=z, x=list(range(len(targets))), y=list(range(len(sources))), **_colors(z, values, levels),
        customdata=_hover(z, sources, targets, words), hovertemplate="%{customdata}<extra></extra>",
        colorbar={"title": {"text": words, "side": "top"}, "thickness": 12, "outlinewidth": 0},
    )  # fmt: skip
    if not z.size:
        fig.add_annotation(
            text="no response tokens", x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 15}
        )
    return fig


def require_attribution(ds: xr.Dataset, call: str) -> None:
    """Raise unless `ds` looks like the result of itlens.attribute."""
    if not isinstance(ds, xr.Dataset) or "score" not in ds or not {"source_token", "target_token"} <= set(ds.coords):
        got = f"a Dataset of {', '.join(map(str, ds))}" if isinstance(ds, xr.Dataset) else f"a {type(ds).__name__}"
        raise ResultError(
            f"{call} needs score(source, target) with source_token and target_token, got {got}: pass what "
            "itlens.attribute returns."
        )


def _labels(tokens: list[ShownToken]) -> dict[str, object]:
    every = max(1, -(-len(tokens) // _MOST_LABELS))
    places = list(range(0, len(tokens), every))
    return {
        "tickvals": places,
        "ticktext": [
            text.plotly(text.short(text.with_signs(tokens[i].inline), 18)).replace(" ", "\u00a0") for i in places
        ],
        "tickfont": {"size": 11},
        "showgrid": False,
        "zeroline": False,
    }


def _colors(z: np.ndarray, values: str, levels: int) -> dict[str, object]:
    if values == "levels":
        return {"colorscale": theme.SEQUENTIAL, "zmin": 0, "zmax": levels}
    limit = float(np.nanmax(np.abs(z))) if z.size and np.isfinite(z).any() else 1.0
    return {"colorscale": theme.SIGNED, "zmin": -(limit or 1.0), "zmax": limit or 1.0}


def _hover(z: np.ndarray, sources: list[ShownToken], targets: list[ShownToken], words: str) -> list[list[str]]:
    down = [f"prompt {i}: {_bold(token)}" for i, token in enumerate(sources)]
    across = [f"response {j}: {_bold(token)}" for j, token in enumerate(targets)]
    return [
        [f"{down[i]}<br>{across[j]}<br>{words}: {number(z[i, j], 4)}" for j in range(z.shape[1])]
        for i in range(z.shape[0])
    ]


def _bold(token: ShownToken) -> str:
    """Return a token for plotly; a piece of a character as which one it is."""
    return f"<b>{text.plotly(text.short(token.place or token.text, 40))}</b>"
