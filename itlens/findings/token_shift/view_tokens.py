"""A response coloured by how the base ranks its tokens; pointing at a token shows what the base would have written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr

from itlens.errors import ResultError
from itlens.report.blocks import FoldablePanel
from itlens.report.head_grid import require_result
from itlens.report.numbers import number, percent, whole
from itlens.report.text import with_signs
from itlens.results.characters import ShownToken, shown_tokens
from itlens.results.provenance import model_label

_CALL = "views.shifted_response"
_MARKS = (("none", "the base's first choice"), ("weak", "its second or third"), ("strong", "beyond its third"))


@dataclass(frozen=True)
class MarkedToken:
    """A token as it is shown. mark: one of the legend's; tip: what pointing at it says; further: a piece of a character
    whose first piece is shown before."""

    text: str
    mark: str
    tip: str
    further: bool = False


@dataclass(frozen=True, repr=False)
class ShiftedResponse(FoldablePanel):
    """A prompt and the response to it, its tokens marked. legend: each mark and what it means."""

    template: ClassVar[str] = "marked_tokens.html"
    styles: ClassVar[tuple[str, ...]] = ("marked.css",)

    heading: str
    prompt: str
    tokens: tuple[MarkedToken, ...]
    legend: tuple[tuple[str, str], ...]
    summary: str


def shifted_response(
    shift: xr.Dataset, prompt: str | int = 0, *, names: tuple[str, str] | None = None, folded: bool | None = None
) -> ShiftedResponse:
    """Show the response to one prompt, its tokens coloured by their rank under the base.

    shift: of `itlens.token_shift`. prompt: its id, or its number from 0. names: what to call base and tuned; default
    the models of the result. folded: in a page, None for a card with its title, True or False for closed or open at
    first. Point at a token to read its rank, both probabilities, the divergence, and the base's five most probable
    tokens there. Raises ResultError for another kind of result, and for a prompt that it does not have.
    """
    require_result(shift, "token_shift", _CALL, "itlens.token_shift")
    chosen = shift.isel(prompt=_number(shift, prompt))
    length = int(chosen["length"])
    base, tuned = names or tuple(model_label(shift.attrs, side) or side for side in ("base", "tuned"))
    kept = chosen.isel(position=slice(0, length))
    rank = kept["rank"].values
    counts = [int((rank == 1).sum()), int(((rank > 1) & (rank <= 3)).sum()), int((rank > 3).sum())]
    summary = f"{whole(counts[0])} of {whole(length)} tokens are {base}'s first choice, {whole(counts[2])} are shifted"
    return ShiftedResponse(
        title=f"Response to {chosen['prompt'].item()!s}",
        heading=f"{tuned}'s response, read by {base}",
        prompt=str(chosen["prompt_text"].item()),
        tokens=tuple(_marked(kept, place, shown, base, tuned) for place, shown in enumerate(_shown(kept))),
        legend=_MARKS,
        summary=summary,
        folded=folded,
    )


def _number(shift: xr.Dataset, prompt: str | int) -> int:
    ids = [str(id) for id in shift["prompt"].values]
    if isinstance(prompt, str) and prompt in ids:
        return ids.index(prompt)
    if isinstance(prompt, int) and not isinstance(prompt, bool) and -len(ids) <= prompt < len(ids):
        return prompt % len(ids)
    raise ResultError(
        f"{_CALL} got prompt={prompt!r}; expected an id ({', '.join(ids[:3])} ...) or a number from 0 to "
        f"{len(ids) - 1}."
    )


def _shown(kept: xr.Dataset) -> list[ShownToken]:
    """Return the tokens with each character of several tokens once; the end of the text as it is written."""
    ended = np.asarray(kept["kind"].values == "end of text", dtype=bool)
    own = kept.isel(position=np.flatnonzero(~ended))
    coords = {f"target_{name}": ("target", own[name].values) for name in ("token", "start", "stop")}
    text = {"response_text": str(kept["response_text"].item())}
    listed = shown_tokens(xr.Dataset(coords=coords, attrs=text), "target")
    return [*listed, *(ShownToken(str(token)) for token in kept["token"].values[ended])]


def _marked(kept: xr.Dataset, place: int, shown: ShownToken, base: str, tuned: str) -> MarkedToken:
    at = kept.isel(position=place)
    rank = float(at["rank"])
    mark = _MARKS[0 if rank == 1 else 1 if rank <= 3 else 2][0]
    choices = [
        f"{with_signs(token)!s} {percent(p)} %"
        for token, p in zip(at["base_top"].values, at["base_top_p"].values, strict=True)
        if np.isfinite(p)
    ]
    name = with_signs(shown.text if shown.piece == 1 else shown.place)
    tip = (
        f"“{name}”: rank {whole(rank)} under {base}; probability {percent(at['p_base'].item())} % under {base}, "
        f"{percent(at['p_tuned'].item())} % under {tuned}; KL {number(at['kl'].item(), 2)} nats. "
        f"{base} would write: {' · '.join(choices)}"
    )
    return MarkedToken(shown.inline, mark, tip, shown.piece > 1)
