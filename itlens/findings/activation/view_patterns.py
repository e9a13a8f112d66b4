"""Attention patterns as a panel: every head small, one head large, tokens that can be pinned.

Numbers go into the page as bytes (255 is all of a token's attention), the lower triangle of each head row by row,
packed (gzip, base64). Token texts are in the page as text and are never part of a script; assets/attention.js draws the
numbers and reads the texts from there.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from itlens.errors import ResultError
from itlens.prompts import Prompt
from itlens.report.blocks import FoldablePanel
from itlens.results.characters import ShownToken
from itlens.results.provenance import model_label
from itlens.selection import Numbers

if TYPE_CHECKING:
    from itlens.models import HookedModel, ModelPair

_ALL = 255


@dataclass(frozen=True, repr=False)
class AttentionView(FoldablePanel):
    """Attention patterns of some heads. Jupyter and VS Code display it; `.html` is a page of its own for a file.

    layers, heads: the numbers of each head. tokens: their texts. sides: what can be chosen ("base", "tuned",
    "difference"; one model: its name alone). data: the numbers, as JSON. start: the place of the head that is large at
    first. patterns: the Dataset that is drawn.
    """

    template: ClassVar[str] = "attention.html"
    styles: ClassVar[tuple[str, ...]] = ("attention.css",)
    scripts: ClassVar[tuple[str, ...]] = ("attention.js",)

    layers: tuple[int, ...]
    heads: tuple[int, ...]
    tokens: tuple[str, ...]
    sides: tuple[tuple[str, str], ...]
    data: str
    start: int
    note: str
    patterns: xr.Dataset

    @property
    def places(self) -> list[tuple[int, int]]:
        """(layer, head) of each."""
        return list(zip(self.layers, self.heads, strict=True))


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
        from itlens.hooked.patterns import attention_patterns  # loads torch, which drawing a Dataset does not need

        ds = attention_patterns(model, prompt, layer, head, response=response, format=format)
    pattern = ds["pattern"].sel(layer=layer)
    values = pattern.transpose(..., "head", "query", "key").values
    is_pair = "model" in pattern.dims
    base, tuned = names or _names(ds)
    one = model_label(ds.attrs) or "model"
    heads = [int(number) for number in np.atleast_1d(ds["head"].values)]
    return _view(
        f"Attention of layer {layer}: " + (f"{base} | {tuned}" if is_pair else one),
        [(layer, number) for number in heads],
        ds["token"].values.tolist(),
        {"base": values[0], "tuned": values[1]} if is_pair else {"tuned": values},
        {"base": base, "tuned": tuned} if is_pair else {"tuned": one},
        str(ds.attrs.get("note", "")),
        ds,
    )


def changed_patterns(patterns: xr.Dataset, prompt_id: str) -> AttentionView:
    """Show the heads that changed most on one prompt. patterns: pattern(prompt, model, place, query, key) with the
    coordinates layer, head, token, length, whole. Raises KeyError for another prompt."""
    ds = patterns.sel(prompt=prompt_id)
    length, whole = int(ds["length"]), int(ds["whole"])
    base, tuned = _names(ds)
    values = ds["pattern"].transpose("model", "place", "query", "key").values[..., :length, :length]
    return _view(
        f"Attention of the heads that changed most: {base} | {tuned}",
        list(zip(ds["layer"].values.tolist(), ds["head"].values.tolist(), strict=True)),
        ds["token"].values.tolist()[:length],
        dict(zip(("base", "tuned"), values, strict=True)),
        {"base": base, "tuned": tuned},
        f"cut to the first {length} of {whole} tokens" if whole > length else "",
        ds,
    )


def _view(
    title: str,
    places: Sequence[tuple[int, int]],
    tokens: Sequence[str],
    values: Mapping[str, np.ndarray],
    names: Mapping[str, str],
    note: str,
    ds: xr.Dataset,
) -> AttentionView:
    """Return the panel. values: by side, patterns(head, query, key); names: of the sides."""
    is_pair = len(values) == 2
    moved = np.abs(values["tuned"] - values["base"]).sum(axis=(1, 2)) if is_pair else np.zeros(len(places))
    sides = (*names.items(), ("difference", "difference")) if is_pair else (*names.items(),)
    return AttentionView(
        title=title,
        layers=tuple(layer for layer, _ in places),
        heads=tuple(head for _, head in places),
        tokens=_inline(tokens),
        sides=sides,
        data=json.dumps({side: _packed(each) for side, each in values.items()}, separators=(",", ":")),
        start=int(moved.argmax()),
        note=note,
        patterns=ds,
    )


def _names(ds: xr.Dataset) -> tuple[str, str]:
    base, tuned = (model_label(ds.attrs, side) or side for side in ("base", "tuned"))
    return base, tuned


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
    """Return patterns(head, query, key) as bytes, packed: of each head the lower triangle, row by row."""
    rows, columns = np.tril_indices(values.shape[-1])
    steps = np.rint(np.clip(values[:, rows, columns], 0, 1) * _ALL).astype(np.uint8)
    return base64.b64encode(gzip.compress(steps.tobytes(), 9, mtime=0)).decode()
