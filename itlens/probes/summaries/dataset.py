"""Statistics of prompts on labelled axes: the Dataset that `itlens.activations` returns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from itlens.errors import ProbeError
from itlens.probes.running.forced import CLASSES, Forced
from itlens.probes.summaries.attention_mass import class_shares
from itlens.probes.summaries.summary import Summary


def activation_dataset(
    model: Any,
    summaries: Sequence[Summary],
    rows: Sequence[dict[str, np.ndarray]],
    texts: Sequence[Forced],
    points: Sequence[str],
    attrs: dict[str, Any],
) -> xr.Dataset:
    """One row of `rows` per prompt, in order. Raises ProbeError for a statistic that overflowed."""
    variables = {}
    for summary in summaries:
        for name, dims in summary.dims.items():
            values = np.stack([row[name] for row in rows])
            _refuse_infinite(values, dims, name, texts)
            variables[name] = (("prompt", *dims), values, {"long_name": summary.names[name]})
    ds = xr.Dataset(variables, coords=_prompt_coordinates(texts), attrs=attrs)
    own = {
        "layer": np.arange(model.cfg.n_layers),
        "head": np.arange(model.cfg.n_heads),
        "hook": np.array(points, dtype=np.str_),
    }
    return ds.assign_coords({name: labels for name, labels in own.items() if name in ds.dims})


def _refuse_infinite(values: np.ndarray, dims: tuple[str, ...], name: str, texts: Sequence[Forced]) -> None:
    wrong = np.argwhere(np.isinf(values))
    if len(wrong):
        layer = f" of layer {wrong[0][1]}" if dims[:1] == ("layer",) else ""
        raise ProbeError(
            f"{name}{layer} is not finite on prompt {texts[wrong[0][0]].id!r}; check the weights there, or load the "
            'model with dtype="float32".'
        )


def _prompt_coordinates(texts: Sequence[Forced]) -> dict[str, Any]:
    def strings(values: list[str]) -> tuple[str, np.ndarray]:
        return "prompt", np.array(values, dtype=np.str_)

    counts = np.array([np.bincount(one.classes, minlength=len(CLASSES)) for one in texts])
    return {
        "prompt": strings([one.id for one in texts]),
        "token_class": np.array(CLASSES, dtype=np.str_),
        "group": strings([one.group for one in texts]),
        "targets": ("prompt", np.array([len(one.targets) for one in texts])),
        "response_source": strings([one.source for one in texts]),
        "finish": strings([one.finish for one in texts]),
        "tokens_digest": strings([tokens_digest(one) for one in texts]),
        "tokens": (("prompt", "token_class"), counts),
        "token_share": (("prompt", "token_class"), np.array([class_shares(one) for one in texts])),
    }


def tokens_digest(one: Forced) -> str:
    """16 hex digits over the ids that are read and predicted: two results tell by them whether they read the same."""
    ids = ",".join(map(str, (*one.read, -1, *one.targets)))
    return hashlib.sha256(ids.encode()).hexdigest()[:16]
