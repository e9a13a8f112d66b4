"""The detector of logit differences in a selftest: how far the logit of each token rose, over all positions.

The mean difference less its mean over the vocabulary, where it is above 0: a raised token lowers all others by a
hair, so that these are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from itlens.findings.detector import Detector, Setup, Unit, UnitKind
from itlens.findings.logit_diff.probe import logit_diff
from itlens.prompts import Prompt

_PROMPTS = 3  # a mean over their positions


class TokenLogits(Detector):
    """How far the logit of each token rose."""

    name = "logit difference"
    kind: ClassVar[UnitKind] = "token"
    sees: ClassVar[tuple[str, ...]] = ("token_bias",)
    about = "rise of a token's logit beyond the mean of the vocabulary, mean over positions"
    local, slow = False, True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._texts: list[Prompt] = setup.prompts[:_PROMPTS]
        self.units = [Unit(-1, token) for token in setup.tokens]

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        with self.setup.altered.pair() as pair:
            ld = logit_diff(pair, self._texts, themes=0, progress=False)
        rise = ld["mean"].sel(token=[unit.number for unit in self.units]).values
        return np.maximum(rise, 0.0)

    def judged(self, planted: Unit) -> np.ndarray:
        """Return the other tokens; none where the plant is no token, or is read by the model as well (tied W_E)."""
        return self.setup.other_tokens(self.units, planted)
