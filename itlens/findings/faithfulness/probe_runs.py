"""Log-probability of a response with prompt tokens replaced: what is read, in which order tokens go, and the runs.

1. `ranked_by_scores` (a result of `itlens.attribute`) or `ranked_by_values` (one number per token): the prompt and its
   response as ids, with the importance of each prompt token.
2. `masked_logprobs`: a mask says which prompt tokens are replaced by a baseline vector at `hook_embed`; masks run in
   batches, and the mean log-probability of the response's tokens is measured under each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from itlens.errors import ProbeError, PromptError
from itlens.hooked.hooks import run_hooked, token_logprobs
from itlens.hooked.response import with_response
from itlens.models import source_of
from itlens.models.hooked_model import HookedModel
from itlens.models.memory import free_bytes, room_for, rows_at_a_time
from itlens.models.precision import as_numbers, exact, exact_device
from itlens.models.running import undisturbed
from itlens.prompts import Prompt
from itlens.results.density import importance_density, score_of
from itlens.tokenization import Encoded, encode
from itlens.weights import weights_of

By: TypeAlias = Literal["density", "sum"]
Baseline: TypeAlias = Literal["mean", "zero"]
Ids: TypeAlias = tuple[int, ...]

ORDERED_BY: tuple[By, ...] = get_args(By)
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
_BLOCK = 1 << 14  # rows of the embedding at a time


@dataclass(frozen=True)
class RankedPrompt:
    """A prompt and its response as ids, and the prompt tokens' importance; `second` orders what is equally important.

    front: ids in front of the prompt, which are never removed. coords: what a result says of the source tokens.
    """

    name: str
    front: Ids
    prompt_ids: Ids
    response_ids: Ids
    importance: np.ndarray
    second: np.ndarray
    coords: Mapping[str, object]
    attrs: Mapping[str, object]

    @property
    def read(self) -> list[int]:
        """The ids that the model is fed: all but the response's last token."""
        return [*self.front, *self.prompt_ids, *self.response_ids][:-1]

    @property
    def sources(self) -> slice:
        """The positions of the prompt's own tokens in `read`."""
        return slice(len(self.front), len(self.front) + len(self.prompt_ids))

    @property
    def positions(self) -> list[int]:
        """The positions that predict each response token."""
        start = len(self.front) + len(self.prompt_ids) - 1
        return list(range(start, start + len(self.response_ids)))


def ranked_by_scores(
    model: HookedModel, prompt: Prompt, ds: xr.Dataset, by: By, prepend_bos: bool | None
) -> RankedPrompt:
    """Rank by a result of `itlens.attribute`; its tokens must be those that this model reads.

    by: "density" (`itlens.importance_density`; ties by the sum) or "sum" (of the scores over the targets, with sign).
    """
    missing = [name for name in ("source_id", "target_id", "source_start") if name not in ds.coords]
    if missing or "prompt_text" not in ds.attrs:
        raise ProbeError(
            f"scores lack {', '.join(missing) or 'their prompt_text'}; expected a result of itlens.attribute by tokens."
        )
    if ds.attrs["prompt_text"] != prompt.text:
        raise ProbeError(
            f"The scores were computed on {ds.attrs['prompt_text'][:40]!r}, but the prompt reads "
            f"{prompt.text[:40]!r}; pass the prompt as the model read it, after formatting."
        )
    given = ds.attrs.get("response_source") == "given"
    text = str(ds.attrs.get("response_text", "")) if given else None
    encoded = encode(_tokenizer(model), prompt.text, text, prepend_bos=prepend_bos)
    ids = tuple(int(number) for number in ds["source_id"].values)
    if ids != encoded.prompt_ids or len(encoded.front) != int(ds.attrs.get("front_tokens", len(encoded.front))):
        raise ProbeError(
            f"The scores are of {len(ids)} prompt tokens that are not the {len(encoded.prompt_ids)} that this model "
            "reads; compute them with this model's tokenizer and the same prepend_bos."
        )
    total = score_of(ds).values.astype(np.float64).sum(axis=1)
    importance = importance_density(ds).values.astype(np.float64) if by == "density" else total
    attrs = {key: ds.attrs.get(key, "") for key in ("method", "objective_name", "response_source", "finish")}
    attrs |= {"scores_model": ds.attrs.get("model", ""), "response_text": str(ds.attrs.get("response_text", ""))}
    coords = {str(name): coord for name, coord in ds.coords.items() if coord.dims == ("source",)}
    response_ids = tuple(int(number) for number in ds["target_id"].values)
    _refuse_empty(prompt, response_ids)
    return RankedPrompt(_name(prompt), encoded.front, ids, response_ids, importance, total, coords, attrs)


def ranked_by_values(
    model: HookedModel,
    prompt: Prompt,
    values: ArrayLike,
    response: str | None,
    max_new_tokens: int,
    prepend_bos: bool | None,
) -> RankedPrompt:
    """Rank by one importance per prompt token, wherever it comes from."""
    encoded, how = with_response(
        model, prompt.text, prompt.response if response is None else response, max_new_tokens=max_new_tokens,
        prepend_bos=prepend_bos, name=_name(prompt),
    )  # fmt: skip
    importance = np.asarray(values)
    count = len(encoded.prompt_ids)
    if importance.shape != (count,) or importance.dtype.kind not in "fiub" or not np.isfinite(importance).all():
        raise ProbeError(
            f"scores are an array of shape {importance.shape} and type {importance.dtype}; expected a Dataset of "
            f"itlens.attribute, or one finite number for each of the {count} prompt tokens."
        )
    importance = importance.astype(np.float64)
    attrs = {"method": "given", "objective_name": "", **how, "scores_model": "", "response_text": encoded.response_text}
    _refuse_empty(prompt, encoded.response_ids)
    return RankedPrompt(
        _name(prompt), encoded.front, encoded.prompt_ids, encoded.response_ids, importance, np.zeros(count),
        _coords(encoded), attrs,
    )  # fmt: skip


def _refuse_empty(prompt: Prompt, response_ids: Ids) -> None:
    if not response_ids:
        raise PromptError(f"{_name(prompt)} has an empty response, so nothing is predicted; give it a response.")


def _coords(encoded: Encoded) -> dict[str, object]:
    return {
        "source_token": ("source", np.array(encoded.prompt_tokens, dtype=object)),
        "source_id": ("source", np.array(encoded.prompt_ids, dtype=np.int64)),
        "source_start": ("source", np.array(encoded.prompt_start, dtype=np.int64)),
        "source_stop": ("source", np.array(encoded.prompt_stop, dtype=np.int64)),
    }


def _tokenizer(model: HookedModel) -> Any:
    source = source_of(model)
    if source.tokenizer is None:
        raise ProbeError(f"{source.name} has no tokenizer; load it with load_model(..., tokenizer=...).")
    return source.tokenizer


def _name(prompt: Prompt) -> str:
    return f"prompt {prompt.id!r}" if prompt.id else "the prompt"


def baseline_vector(model: HookedModel, kind: Baseline) -> Float[torch.Tensor, " d_model"]:
    """Return what replaces a removed token: the mean of the vocabulary's embeddings, or zero.

    Only ids that the tokenizer has count: the other rows of a padded embedding were never trained.
    """
    if kind not in BASELINES:
        raise ProbeError(f"baseline={kind!r} is unknown; expected one of {', '.join(map(repr, BASELINES))}.")
    weights = weights_of(model)
    first = weights.embed(torch.zeros(1, dtype=torch.long))[0]
    if kind == "zero":
        return torch.zeros_like(first)
    count = min(len(weights.tokenizer), int(model.cfg.d_vocab))
    total = torch.zeros_like(first, dtype=torch.float64, device=exact_device(first.device))
    for start in range(0, count, _BLOCK):
        rows = weights.embed(torch.arange(start, min(start + _BLOCK, count)))
        total += exact(rows).sum(dim=0)
    return (total / count).to(first.dtype).to(first.device)


def masked_logprobs(
    model: HookedModel,
    ranked: RankedPrompt,
    removed: Bool[np.ndarray, "mask source"],
    baseline: Float[torch.Tensor, " d_model"],
    rows: int | None,
    tell: Callable[[int, int], None],
) -> Float[np.ndarray, " mask"]:
    """Measure the mean log-probability (nats) of the response's tokens under each mask; front tokens stay."""
    device = next(model.parameters()).device
    tokens = torch.tensor([ranked.read], device=device)
    targets = torch.tensor(ranked.response_ids, dtype=torch.long, device=device)
    gone = torch.zeros(len(removed), tokens.shape[1], dtype=torch.bool, device=device)
    gone[:, ranked.sources] = torch.from_numpy(removed).to(device)
    size = _rows(model, ranked) if rows is None else rows
    out = np.empty(len(removed))
    room = room_for(
        model, ranked.name, len(ranked.read), rows=min(size, len(removed)), targets=len(ranked.response_ids)
    )
    with undisturbed(model), torch.no_grad(), room:
        for start in range(0, len(removed), size):
            batch = gone[start : start + size]
            hooks = [("hook_embed", _replacing(batch, baseline))]
            logits = run_hooked(model, tokens.expand(len(batch), -1), hooks, positions=ranked.positions)
            values = token_logprobs(logits, targets).mean(dim=-1)
            if not bool(torch.isfinite(values).all()):
                raise ProbeError(
                    f"The log-probability of the response of {ranked.name} is not finite; load the model with "
                    'dtype="float32" or check its weights.'
                )
            out[start : start + size] = as_numbers(values)
            tell(min(start + size, len(removed)), len(removed))
    return out


def _replacing(gone: torch.Tensor, baseline: torch.Tensor) -> Callable[[torch.Tensor, object], torch.Tensor]:
    def replace(value: torch.Tensor, hook: object) -> torch.Tensor:
        return torch.where(gone[..., None], baseline.to(value.dtype), value)

    return replace


def _rows(model: HookedModel, ranked: RankedPrompt) -> int:
    """Texts at a time: the logits of large vocabularies take more memory than the layers."""
    logits = 4 * len(ranked.response_ids) * int(model.cfg.d_vocab) * 4  # in float32, with what a softmax takes
    fitting = free_bytes(next(model.parameters()).device) // 4 // logits
    return max(1, min(rows_at_a_time(model, len(ranked.read)), int(fitting)))
