"""The detector of token shift in a selftest: how much more probable each token became, where the texts hold it.

The prompts are read as responses, so that every token of theirs has a probability under both models. What is counted
is a rise: a raised token lowers the probabilities of all others, which are 0 then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from itlens.findings.detector import Detector, Setup, Unit, UnitKind
from itlens.findings.token_shift.probe import token_shift
from itlens.prompts import Prompt

_BEFORE = "Text:\n"  # what the texts follow, so that their first token is predicted too


class ResponseTokens(Detector):
    """How much the log-probability of each token rose where it occurs."""

    name = "token shift"
    kind: ClassVar[UnitKind] = "token"
    sees: ClassVar[tuple[str, ...]] = ("token_bias",)
    about = "rise of a token's log-probability where it occurs (nats), mean over its places"
    local, slow = False, True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._texts = [Prompt(_BEFORE, response=prompt.text, id=prompt.id) for prompt in setup.prompts]
        self.units = [Unit(-1, token) for token in setup.tokens]

    def read(self, layers: Sequence[int] | None = None) -> np.ndarray:
        """See `Detector.read`."""
        with self.setup.altered.pair() as pair:
            shift = token_shift(pair, self._texts, responses="given", progress=False)
        ids, known = shift["token_id"].values, np.isfinite(shift["p_base"].values)
        p_base, p_tuned = (
            np.maximum(shift[name].values[known], np.finfo(float).tiny) for name in ("p_base", "p_tuned")
        )
        rise = np.log(p_tuned) - np.log(p_base)
        places = {unit.number: rise[ids[known] == unit.number] for unit in self.units}
        return np.array([max(0.0, float(own.mean())) if own.size else 0.0 for own in places.values()])

    def judged(self, planted: Unit) -> np.ndarray:
        """Return the other tokens; none where the plant is no token, or is read by the model as well (tied W_E)."""
        return self.setup.other_tokens(self.units, planted)
