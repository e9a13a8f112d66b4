"""The detector of attribution in a selftest: how far each token's attribution moved where its embedding was planted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from itlens.findings.attribution.diff import attributions
from itlens.findings.detector import Detector, Setup, Unit
from itlens.hooked.attribution import attribute
from itlens.hooked.hooks import run_hooked
from itlens.hooked.tokens import forced
from itlens.stats.p_values import p_under_exchange
from itlens.stats.paired import paired_t, wilcoxon

_RESAMPLES = 100  # of an interval that is not read here
_LIKELY = 1e-3  # a probability below which moving a token's logit by a nat or two hardly moves the others
_TESTABLE = 5  # prompts that a paired test needs


class TokenAttribution(Detector):
    """How far the attribution of each token moved, as a share of its prompt's attribution.

    For prompt i: sum over targets of |tuned - base| of a source token / sum of |base| over all; a token's value is the
    mean over its occurrences. A moved token also changes the other tokens of its prompt, and truly so; where its row
    is also W_U's (tied embeddings), those of prompts that it is a likely next token of (1 in 1,000 anywhere in the
    response). These are not counted as false discoveries; tokens of the other prompts are.
    """

    name, kind, sees = "attribution", "token", ("embedding_row",)
    about = "moved share of the attribution of a token"
    local, slow = False, True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._base = self._now = self._maps()
        self._ids = [set(ds["source_id"].values.tolist()) for ds in self._base]
        self._touching = [own | likely for own, likely in zip(self._ids, _likely(setup), strict=True)]
        self.units = [Unit(-1, token) for token in sorted(set().union(*self._ids))]

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        self._now = self._maps()
        moved: dict[int, list[float]] = {unit.number: [] for unit in self.units}
        for base, tuned in zip(self._base, self._now, strict=True):
            change = np.abs(tuned["score"].values - base["score"].values).sum(axis=1)
            share = change / np.abs(base["score"].values).sum()
            for token, value in zip(base["source_id"].values.tolist(), share.tolist(), strict=True):
                moved[token].append(value)
        return np.array([np.mean(values) for values in moved.values()])

    def copy(self) -> list[xr.Dataset] | None:
        """See `Detector.copy`; None where there are too few prompts, or some without an instruction."""
        enough = len(self._now) >= _TESTABLE and all(prompt.instruction for prompt in self.setup.prompts)
        return self._now if enough else None

    def p_values(self, one: list[xr.Dataset], other: list[xr.Dataset], *, exchanged: bool) -> dict[str, np.ndarray]:
        """Return those of the diff's two paired tests on the instruction scores of all prompts."""
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

    def judged(self, planted: Unit) -> np.ndarray:
        """Return the tokens of prompts that the planted token does not change; none where the plant is no token."""
        if planted.layer >= 0:
            return np.zeros(len(self.units), dtype=bool)
        prompts = zip(self._ids, self._touching, strict=True)
        touched = set().union(*(ids for ids, touching in prompts if planted.number in touching))
        return np.array([unit.number not in touched for unit in self.units])

    def _maps(self) -> list[xr.Dataset]:
        return [attribute(self.setup.model, prompt, progress=False) for prompt in self.setup.prompts]


def _likely(setup: Setup) -> list[set[int]]:
    """Return for each prompt the tokens that are likely at any place of the response; none if W_E and W_U differ."""
    model = setup.model
    if model.W_E.untyped_storage().data_ptr() != model.W_U.untyped_storage().data_ptr():
        return [set() for _ in setup.prompts]
    device, likely = next(model.parameters()).device, []
    for prompt in forced(model, setup.prompts):
        with torch.no_grad():
            logits = run_hooked(model, torch.tensor([prompt.read], device=device), positions=prompt.positions)
        possible = (torch.softmax(logits[0].float(), dim=-1) >= _LIKELY).any(dim=0)
        likely.append(set(torch.nonzero(possible)[:, 0].tolist()))
    return likely
