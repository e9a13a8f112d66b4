"""Slow, independent references for the attribution probe: one Hugging Face backward pass per token."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def objective_of(logits: torch.Tensor, target: int, name: str, other: int | None = None) -> torch.Tensor:
    """The objective of one target from one row of logits."""
    if name == "prob":
        return torch.softmax(logits, -1)[target]
    if name == "logprob":
        return torch.log_softmax(logits, -1)[target]
    if name == "logit":
        return logits[target]
    ranked = logits.detach().argsort(descending=True).tolist()
    against = other if other is not None else next(token for token in ranked if token != target)
    return logits[target] - logits[against]


def gradients(hf: Any, ids: list[int], target: int, name: str = "prob", point: Any = None) -> tuple[Any, Any, float]:
    """Embeddings (T, d), the objective's gradient on them (T, d) and the objective, for the token after `ids`."""
    own = hf.get_input_embeddings()(torch.tensor([ids])).detach()
    embeddings = (own if point is None else point).clone().requires_grad_(True)
    value = objective_of(hf(inputs_embeds=embeddings).logits[0, -1], target, name)
    value.backward()
    hf.zero_grad()
    return own[0], embeddings.grad[0], float(value.detach())


def per_token_scores(
    hf: Any, front: list[int], prompt: list[int], response: list[int], objective: str = "prob", method: str = "ixg"
) -> np.ndarray:
    """Scores (source, target) from one forward and backward pass of the Hugging Face model per response token."""
    scores = np.zeros((len(prompt), len(response)))
    rows = slice(len(front), len(front) + len(prompt))
    for m, target in enumerate(response):
        embeddings, gradient, _ = gradients(hf, [*front, *prompt, *response[:m]], target, objective)
        if method == "saliency":
            scores[:, m] = gradient[rows].norm(dim=-1).numpy()
        else:
            scores[:, m] = (gradient * embeddings)[rows].sum(-1).numpy()
    return scores
