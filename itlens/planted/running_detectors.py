"""Detectors that run the model on prompts: attribution of each token, and patching of each head's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from itlens.diff.attribution_diff import attributions
from itlens.diff.statistics import paired_t, wilcoxon
from itlens.planted.detectors import Detector, Setup, heads_of, spread
from itlens.planted.nulls import p_under_exchange
from itlens.planted.plants import Place
from itlens.probes.attribution import attribute
from itlens.probes.patching import patch
from itlens.probes.running.forced import forced
from itlens.probes.running.hooking import run_hooked

_RESAMPLES = 100  # of an interval that is not read here
_PATCHED = 5  # prompts; of two, a head that matters to neither of them is found by nothing
_LIKELY = 1e-3  # a chance below which moving a token's logit by a nat or two hardly moves the others
_TESTABLE = 5  # prompts that a paired test needs


class Attribution(Detector):
    """How far the attribution of each token moved, as a share of its prompt's attribution.

    Of prompt i: sum over targets |tuned - base| of a source token / sum over all of |base|; a token's value is the mean
    over its places. A moved token truly changes the other tokens of its prompt as well, and where its row is also
    W_U's (tied embeddings) those of prompts that it is a likely next token of (1 in 1,000 anywhere in the response):
    these are not counted as false discoveries; tokens of the other prompts are.
    """

    name, kind, sees = "attribution", "token", ("embedding_row",)
    about = "moved share of the attribution of a token"
    local, slow = False, True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._base = self._now = self._maps()
        ids = [set(ds["source_id"].values.tolist()) for ds in self._base]
        self._touching = [own | likely for own, likely in zip(ids, _likely(setup), strict=True)]
        self._ids = ids
        self.units = [Place(-1, token) for token in sorted(set().union(*ids))]

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        self._now = self._maps()
        moved: dict[int, list[float]] = {unit.unit: [] for unit in self.units}
        for base, tuned in zip(self._base, self._now, strict=True):
            share = (
                np.abs(tuned["score"].values - base["score"].values).sum(axis=1) / np.abs(base["score"].values).sum()
            )
            for token, value in zip(base["source_id"].values.tolist(), share.tolist(), strict=True):
                moved[token].append(value)
        return np.array([np.mean(values) for values in moved.values()])

    def copy(self) -> list[xr.Dataset] | None:
        """See `Detector.copy`; None where there are too few prompts, or some without an instruction."""
        enough = len(self._now) >= _TESTABLE and all(prompt.instruction for prompt in self.setup.prompts)
        return self._now if enough else None

    def p_values(self, one: Any, other: Any, *, exchanged: bool) -> dict[str, np.ndarray]:
        """Of the instruction's importance density over all prompts: the diff's scores and its two paired tests."""
        table = attributions(one, other, self.setup.prompts, resamples=_RESAMPLES, seed=self.setup.seed).prompts
        base, tuned = (table[name].to_numpy(float) for name in ("base", "tuned"))
        tests = {
            "paired t": lambda x, y: np.array(paired_t(x, y)[1]),
            "Wilcoxon": lambda x, y: np.array(wilcoxon(y - x)[1]),
        }
        return {
            f"instruction density, {name}": p_under_exchange(base, tuned, test, exchanged=exchanged)
            for name, test in tests.items()
        }

    def judged(self, place: Place) -> np.ndarray:
        """Tokens that stand in no prompt which the planted token changes; none where the plant is no token."""
        if place.layer >= 0:
            return np.zeros(len(self.units), dtype=bool)
        prompts = zip(self._ids, self._touching, strict=True)
        touched = set().union(*(ids for ids, touching in prompts if place.unit in touching))
        return np.array([unit.unit not in touched for unit in self.units])

    def _maps(self) -> list[xr.Dataset]:
        return [attribute(self.setup.model, prompt, progress=False) for prompt in self.setup.prompts]


def _likely(setup: Setup) -> list[set[int]]:
    """For each prompt, the tokens that the model gives a chance at any place of the response; none if untied."""
    model = setup.model
    if model.W_E.untyped_storage().data_ptr() != model.W_U.untyped_storage().data_ptr():
        return [set() for _ in setup.prompts]
    device, out = next(model.parameters()).device, []
    for one in forced(model, setup.prompts):
        with torch.no_grad():
            logits = run_hooked(model, torch.tensor([one.read], device=device), positions=one.positions)
        likely = (torch.softmax(logits[0].float(), dim=-1) >= _LIKELY).any(dim=0)
        out.append(set(torch.nonzero(likely)[:, 0].tolist()))
    return out


class Patching(Detector):
    """What a head's own weights change in the log-probability of the responses, put into the unchanged model."""

    name, kind, sees = "patching", "head", ("scaled_head", "rank_one_qk")
    slow = True
    about = "mean over prompts of |change in log-probability| by a head's weights (nats)"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.units = heads_of(setup.layers, int(setup.model.cfg.n_heads))
        self._read = forced(setup.model, setup.prompts[:_PATCHED])

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`. The receiver is the unchanged model, so heads without the plant stay as they were."""
        asked = self.setup.layers if layers is None else list(layers)
        with self.setup.altered.pair() as pair:
            found = patch(
                pair, self._read, what="weights", layers=asked, estimate=False, curve=False, seed=self.setup.seed,
                progress=False,
            )  # fmt: skip
        return spread(np.abs(found["effect"].values).mean(axis=0), asked, self.setup.layers)
