"""The result of `itlens.divergence`: the four cells of every boundary, on labelled axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from itlens.hooked.tokens import Forced
from itlens.models.compatibility import PairReport

_SIDES = ("base", "tuned")


@dataclass(frozen=True)
class Parting:
    """Where two answers part, and the gaps there.

    position: of the response, from 0. ids, tokens: by side. gaps: by the side whose late blocks run, by the side whose
    norm and unembedding read: logit(t_T) - logit(t_B) of the plain run, then of its blocks from boundary 0, 1, ... on
    the other side's streams.
    """

    position: int
    ids: Mapping[str, int]
    tokens: Mapping[str, str]
    gaps: Mapping[str, Mapping[str, np.ndarray]]

    def cells(self, readout: str) -> np.ndarray:
        """Return Y on (boundary, upstream, late), through one side's norm and unembedding."""
        plain = {side: self.gaps[side][readout][0] for side in _SIDES}
        boundaries = self.gaps["base"][readout].size  # one for each block, and the one behind the last
        out = np.empty((boundaries, 2, 2))
        for late, side in enumerate(_SIDES):
            upstream = 1 - late
            out[:, late, late] = plain[side]
            out[:-1, upstream, late] = self.gaps[side][readout][1:]
            out[-1, upstream, late] = plain[_SIDES[upstream]]  # no block is left to run
        return out


def divergence_dataset(
    prompts: Sequence[Forced], partings: Sequence[Parting | None], report: PairReport, attrs: Mapping[str, object]
) -> xr.Dataset:
    """Return the result on (prompt, boundary, upstream, late); NaN, "" and -1 where the answers do not part."""
    boundaries = int(report.base["layers"]) + 1
    shape = (len(prompts), boundaries, 2, 2)
    gaps = {name: np.full(shape, np.nan) for name in ("base", "tuned")}
    position = np.full(len(prompts), np.nan)
    ids = {side: np.full(len(prompts), -1, dtype=np.int64) for side in _SIDES}
    tokens = {side: np.full(len(prompts), "", dtype=object) for side in _SIDES}
    for number, parting in enumerate(partings):
        if parting is None:
            continue
        position[number] = parting.position
        for side in _SIDES:
            gaps[side][number] = parting.cells(side)
            ids[side][number], tokens[side][number] = parting.ids[side], parting.tokens[side]

    def strings(values: list[str]) -> tuple[str, np.ndarray]:
        return "prompt", np.array(values, dtype=object)

    cells = ("prompt", "boundary", "upstream", "late")
    return xr.Dataset(
        {
            "position": ("prompt", position),
            **{f"token_{side}": ("prompt", tokens[side]) for side in _SIDES},
            **{f"id_{side}": ("prompt", ids[side]) for side in _SIDES},
            "compared": ("prompt", np.array([len(prompt.targets) for prompt in prompts])),
            "logit_gap": (cells, gaps["base"], {"unit": "logits", "readout": "base"}),
            "logit_gap_tuned": (cells, gaps["tuned"], {"unit": "logits", "readout": "tuned"}),
        },
        coords={
            "prompt": np.array([prompt.id for prompt in prompts], dtype=object),
            "boundary": np.arange(boundaries),
            "upstream": list(_SIDES),
            "late": list(_SIDES),
            "group": strings([prompt.group for prompt in prompts]),
            "finish": strings([prompt.finish for prompt in prompts]),
            "tokens_digest": strings([prompt.digest for prompt in prompts]),
        },
        attrs=dict(attrs),
    )
