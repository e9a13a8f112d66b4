"""What is attributed: a number per target token, computed from the logits at the position that predicts it.

prob         softmax probability of the target (the paper's; METHODS: not its logarithm, not its logit)
logprob      its natural logarithm
logit        the target's raw logit
contrastive  the target's logit minus that of another token: of `contrast`, or of the strongest other token

Probabilities come from the target's log-odds against all other tokens, log p = -log(1 + exp(-odds)), because the
gradient p (1 - p) that softmax uses is nothing but rounding in float32 where a model is sure of its token (1 - p
under 1e-7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float, Int

from itlens.errors import ProbeError
from itlens.tokenization import Tokenizer

OBJECTIVES = ("prob", "logprob", "logit", "contrastive")

Logits = Float[torch.Tensor, "target d_vocab"]
Values = Float[torch.Tensor, "target"]
Ids = Int[torch.Tensor, "target"]
Objective = Callable[[Logits, Ids, Ids], Values]


def _pick(table: Logits, ids: Ids) -> Values:
    return table.gather(-1, ids[:, None])[:, 0]


def _prob(logits: Logits, targets: Ids, others: Ids) -> Values:
    return _logprob(logits, targets, others).exp()


def _logprob(logits: Logits, targets: Ids, others: Ids) -> Values:
    rest = logits.scatter(-1, targets[:, None], -torch.inf).logsumexp(dim=-1)
    return torch.nn.functional.logsigmoid(_pick(logits, targets) - rest)


def _logit(logits: Logits, targets: Ids, others: Ids) -> Values:
    return _pick(logits, targets)


def _contrastive(logits: Logits, targets: Ids, others: Ids) -> Values:
    return _pick(logits, targets) - _pick(logits, others)


_FUNCTIONS: dict[str, Objective] = {
    "prob": _prob,
    "logprob": _logprob,
    "logit": _logit,
    "contrastive": _contrastive,
}


def objective_function(name: str) -> Objective:
    """Return the function of that name; ProbeError for a name that is none of `OBJECTIVES`."""
    if name not in _FUNCTIONS:
        raise ProbeError(f"objective={name!r} is unknown; expected one of {', '.join(OBJECTIVES)}.")
    return _FUNCTIONS[name]


def runner_up(logits: Logits, targets: Ids) -> Ids:
    """Return the strongest token other than the target, per row."""
    return logits.scatter(-1, targets[:, None], -torch.inf).argmax(dim=-1)


def contrast_ids(contrast: Any, tokenizer: Tokenizer, targets: Sequence[int]) -> list[int] | None:
    """Return the ids to contrast with, one per target: from a token (text or id) for all, or a sequence of them; None
    for None.

    Raises ProbeError for a text that is not one token, for a wrong number of them, and for the target itself.
    """
    if contrast is None:
        return None
    given = [contrast] * len(targets) if isinstance(contrast, (str, Integral)) else list(contrast)
    if len(given) != len(targets):
        raise ProbeError(
            f"contrast= has {len(given)} tokens; expected one, or one for each of the {len(targets)} targets."
        )
    ids = [_one_id(token, tokenizer) for token in given]
    same = [m for m, (one, other) in enumerate(zip(ids, targets, strict=True)) if one == other]
    if same:
        raise ProbeError(f"contrast= names the target token itself at position {same[0]}; name another token.")
    return ids


def _one_id(token: Any, tokenizer: Tokenizer) -> int:
    if isinstance(token, Integral):  # of numpy too
        if not 0 <= int(token) < len(tokenizer):
            raise ProbeError(f"contrast= has the id {token}; expected 0 to {len(tokenizer) - 1}.")
        return int(token)
    ids = tokenizer(token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ProbeError(f"contrast={token!r} is {len(ids)} tokens; give one token (mind the leading space) or its id.")
    return int(ids[0])
