"""The tokens whose removal is measured, and how important each of them is said to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from itlens.density import importance_density, score_of
from itlens.errors import ProbeError, PromptError
from itlens.models import source_of
from itlens.probes.gradient.response import with_response
from itlens.prompts import Prompt
from itlens.tokenization import Encoded, encode

ORDERED_BY = ("density", "sum")


@dataclass(frozen=True)
class Reading:
    """A prompt and its response as ids, and the prompt tokens' importance; `second` orders what is equally important.

    front: ids in front of the prompt, which are never removed. coords: what a result says of the source tokens.
    """

    name: str
    front: tuple[int, ...]
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    importance: np.ndarray
    second: np.ndarray
    coords: dict[str, Any]
    attrs: dict[str, Any]

    @property
    def read(self) -> list[int]:
        """What is fed: all but the response's last token."""
        return [*self.front, *self.prompt_ids, *self.response_ids][:-1]

    @property
    def sources(self) -> slice:
        """Where the prompt's own tokens stand in `read`."""
        return slice(len(self.front), len(self.front) + len(self.prompt_ids))

    @property
    def positions(self) -> list[int]:
        """Where each response token is predicted."""
        start = len(self.front) + len(self.prompt_ids) - 1
        return list(range(start, start + len(self.response_ids)))


def reading_of_scores(model: Any, prompt: Prompt, ds: xr.Dataset, by: str, prepend_bos: bool | None) -> Reading:
    """Of a result of `itlens.attribute`; its tokens must be those that this model reads.

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
    said = {key: ds.attrs.get(key, "") for key in ("method", "objective_name", "response_source", "finish")}
    return _reading(
        prompt, encoded.front, ids, tuple(int(number) for number in ds["target_id"].values), importance, total,
        {name: coord for name, coord in ds.coords.items() if coord.dims == ("source",)},
        said | {"scores_model": ds.attrs.get("model", ""), "response_text": str(ds.attrs.get("response_text", ""))},
    )  # fmt: skip


def reading_of_values(
    model: Any, prompt: Prompt, values: Any, response: str | None, max_new_tokens: int, prepend_bos: bool | None
) -> Reading:
    """Of one importance per prompt token, wherever it comes from."""
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
    said = {"method": "given", "objective_name": "", **how, "scores_model": "", "response_text": encoded.response_text}
    return _reading(
        prompt, encoded.front, encoded.prompt_ids, encoded.response_ids, importance, np.zeros(count), _coords(encoded),
        said,
    )  # fmt: skip


def _reading(prompt: Prompt, front: Any, ids: Any, response: Any, *rest: Any) -> Reading:
    if not response:
        raise PromptError(f"{_name(prompt)} has an empty response, so nothing is predicted; give it a response.")
    return Reading(_name(prompt), tuple(front), tuple(ids), tuple(response), *rest)


def _coords(encoded: Encoded) -> dict[str, Any]:
    return {
        "source_token": ("source", np.array(encoded.prompt_tokens, dtype=object)),
        "source_id": ("source", np.array(encoded.prompt_ids, dtype=np.int64)),
        "source_start": ("source", np.array(encoded.prompt_start, dtype=np.int64)),
        "source_stop": ("source", np.array(encoded.prompt_stop, dtype=np.int64)),
    }


def _tokenizer(model: Any) -> Any:
    source = source_of(model)
    if source.tokenizer is None:
        raise ProbeError(f"{source.name} has no tokenizer; load it with load_model(..., tokenizer=...).")
    return source.tokenizer


def _name(prompt: Prompt) -> str:
    return f"prompt {prompt.id!r}" if prompt.id else "the prompt"
