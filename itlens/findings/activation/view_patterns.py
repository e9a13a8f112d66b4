"""Attention patterns of one layer as a panel: every head small, one head large, tokens that can be pinned.

Numbers go into the page as bytes (255 is all of a token's attention), the lower triangle of each head row by row, in
base64: 12 heads of 100 tokens are 80 kB. Token texts stand in the page as text and are never part of a script;
assets/attention.js draws the numbers and reads the texts from there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from itlens.errors import ResultError
from itlens.hooked.patterns import attention_patterns
from itlens.models import HookedModel, ModelPair
from itlens.prompts import Prompt
from itlens.report.blocks import Panel
from itlens.results.characters import ShownToken
from itlens.results.provenance import short_name
from itlens.selection import Numbers

_ALL = 255


@dataclass(frozen=True, repr=False)
class AttentionView(Panel):
    """Attention patterns of one layer. Jupyter and VS Code display it; `.html` is a page of its own for a file.

    heads: their numbers. tokens: their texts. sides: what can be chosen ("base", "tuned", "difference"; one model: its
    name alone). data: the numbers, as JSON. start: the place of the head that is large at first. patterns: the Dataset
    that is drawn.
    """

    template: ClassVar[str] = "attention.html"
    styles: ClassVar[tuple[str, ...]] = ("attention.css",)
    scripts: ClassVar[tuple[str, ...]] = ("attention.js",)

    layer: int
    heads: tuple[int, ...]
    tokens: tuple[str, ...]
    sides: tuple[tuple[str, str], ...]
    data: str
    start: int
    note: str
    patterns: xr.Dataset


def attention(
    model: HookedModel | ModelPair | Sequence[Any] | xr.Dataset,
    prompt: Prompt | str | None = None,
    layer: int = 0,
    head: Numbers = None,
    *,
    response: str | None = None,
    format: str = "raw",
    names: tuple[str, str] | None = None,
) -> AttentionView:
    """Show the attention patterns of one layer: of a model, or of base, tuned and their difference on the same tokens.

    model: from `load_model`, a `load_pair`, or what `attention_patterns` returned (then no prompt). prompt: a `Prompt`
    or text; a text of more than 512 tokens is cut there, with a note. layer: its number; head: a number or several,
    None for all. response, format: as in `attention_patterns`. names: what to call base and tuned.

    Point at a cell to read it. Point at a token to see where it looks, click (or press Enter) to pin it, and switch to
    see who looks at it. Of a pair, the head that differs most is large at first.

    Raises what `attention_patterns` raises, and ResultError for a Dataset without this layer or without patterns.
    """
    if isinstance(model, xr.Dataset):
        ds = _of_dataset(model, layer, head)
    elif prompt is None:
        raise ResultError("views.attention got no prompt; give a text or an itlens.Prompt.")
    else:
        ds = attention_patterns(model, prompt, layer, head, response=response, format=format)
    pattern = ds["pattern"].sel(layer=layer)
    values = pattern.transpose(..., "head", "query", "key").values
    is_pair = "model" in pattern.dims
    base, tuned = names or tuple(short_name(str(ds.attrs.get(f"{side}_model", side))) for side in ("base", "tuned"))
    one = short_name(str(ds.attrs.get("model", "") or "model"))
    sides = (("base", base), ("tuned", tuned), ("difference", "difference")) if is_pair else (("tuned", one),)
    packed = {side: _packed(each) for side, each in zip(("base", "tuned"), values, strict=False)} if is_pair else {}
    packed = packed or {"tuned": _packed(values)}
    start = int(np.abs(values[1] - values[0]).sum(axis=(1, 2)).argmax()) if is_pair else 0
    title = f"Attention of layer {layer}: " + (f"{base} | {tuned}" if is_pair else one)
    return AttentionView(
        title=title,
        layer=layer,
        heads=tuple(int(number) for number in np.atleast_1d(ds["head"].values)),
        tokens=_inline(ds["token"].values.tolist()),
        sides=sides,
        data=json.dumps(packed, separators=(",", ":")),
        start=start,
        note=str(ds.attrs.get("note", "")),
        patterns=ds,
    )


def _of_dataset(ds: xr.Dataset, layer: int, head: Numbers) -> xr.Dataset:
    if "pattern" not in ds or not {"layer", "head", "query", "key"} <= set(ds["pattern"].dims):
        raise ResultError(
            "views.attention got a Dataset without pattern(layer, head, query, key); expected what "
            "itlens.attention_patterns returned."
        )
    for name, wanted in (("layer", [layer]), ("head", _listed(head))):
        known = ds[name].values.tolist()
        if missing := [number for number in wanted if number not in known]:
            have = ", ".join(map(str, known))
            raise ResultError(f"views.attention got {name} {missing[0]}, and this result has {name}s {have}.")
    return ds if head is None else ds.sel(head=_listed(head))


def _listed(head: Numbers) -> list[int]:
    return [] if head is None else [head] if isinstance(head, int) else list(head)


def _inline(tokens: Sequence[str]) -> tuple[str, ...]:
    """Return the texts to show: a further piece of a character, which has no text of its own, is its number (₂)."""
    shown: list[str] = []
    piece = 1
    for token in tokens:
        piece = 1 if token else piece + 1
        shown.append(ShownToken(token, piece).inline)
    return tuple(shown)


def _packed(values: np.ndarray) -> str:
    """Return patterns(head, query, key) as base64 of bytes: of each head the lower triangle, row by row."""
    rows, columns = np.tril_indices(values.shape[-1])
    steps = np.rint(np.clip(values[:, rows, columns], 0, 1) * _ALL).astype(np.uint8)
    return base64.b64encode(steps.tobytes()).decode()
