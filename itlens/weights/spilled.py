"""The `Weights` of a loaded model, put on the disk so that the model can be let go of.

Where both models' weights are compared and the files of the base cannot be read a layer at a time, one model would wait
in memory for the other. 1. Each layer's parameters, as the probe reads them, are written to a file of their own in a
temporary folder, and the rows of embedding and unembedding as well. 2. A layer is read back as a view of the mapped
file, rows of words from their places in it. Values, precision and the order in memory are the model's own, so that sums
round alike. 3. The folder goes with the object that holds it, at the end of the study.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor

from itlens.models.locate import Located
from itlens.models.tensor_files import TensorFiles
from itlens.weights import AttentionWeights, MlpWeights, Weights

_INDEX = "model.safetensors.index.json"


class SpilledWeights:
    """`Weights` read back from files that `spilled` wrote."""

    def __init__(self, weights: Weights, folder: Path) -> None:
        self.facts, self.attrs, self.tokenizer = dict(weights.facts), dict(weights.attrs), weights.tokenizer
        every = torch.arange(self.facts["vocabulary"])
        ends = {"embed": weights.embed(every), "unembed": weights.unembed(every), "final_gain": weights.final_gain()}
        self._device = ends["embed"].device
        self._orders: dict[str, tuple[int, ...]] = {}
        index: dict[str, str] = {}
        _save(ends, folder / "ends.safetensors", index)
        del ends
        for layer in range(self.facts["layers"]):
            halves: dict[str, AttentionWeights | MlpWeights] = {"attention": weights.attention(layer)}
            halves["mlp"] = weights.mlp(layer)
            tensors = {
                f"{layer}.{half}.{field.name}": tensor
                for half, held in halves.items()
                for field in dataclasses.fields(held)
                if (tensor := getattr(held, field.name)) is not None
            }
            self._orders |= {key: _memory_order(tensor) for key, tensor in tensors.items()}
            in_order = {key: tensor.permute(self._orders[key]) for key, tensor in tensors.items()}
            _save(in_order, folder / f"layer-{layer}.safetensors", index)
        (folder / _INDEX).write_text(json.dumps({"weight_map": index}), encoding="utf-8")
        self._files = TensorFiles(Located(self.attrs["model"], folder))

    def attention(self, layer: int) -> AttentionWeights:
        """Return the attention of one layer, norm included."""
        return AttentionWeights(**self._half(layer, "attention"))

    def mlp(self, layer: int) -> MlpWeights:
        """Return the feed-forward half of one layer, norm included."""
        return MlpWeights(**({"W_gate": None} | self._half(layer, "mlp")))

    def embed(self, ids: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """Return the rows of W_E as they enter the residual stream."""
        return self._files.rows("embed", ids).to(self._device)

    def unembed(self, ids: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """Return the columns of W_U, as rows."""
        return self._files.rows("unembed", ids).to(self._device)

    def final_gain(self) -> Float[Tensor, " d_model"]:
        """Return the gain of the norm before the unembedding; ones where there is none."""
        return self._files.tensor("final_gain").to(self._device)

    def _half(self, layer: int, half: str) -> dict[str, Any]:
        front = f"{layer}.{half}."
        held = {key: order for key, order in self._orders.items() if key.startswith(front)}
        return {
            key.removeprefix(front): self._files.tensor(key).permute(*np.argsort(order).tolist()).to(self._device)
            for key, order in held.items()
        }


@contextmanager
def spilled(weights: Weights, size: int) -> Iterator[Weights]:
    """Give the same weights from files, inside; the weights themselves where the disk has no room.

    size: bytes that they take, about.
    """
    if shutil.disk_usage(tempfile.gettempdir()).free < 2 * size:
        yield weights
        return
    with tempfile.TemporaryDirectory(prefix="itlens-weights-") as folder:
        aside = SpilledWeights(weights, Path(folder))
        del weights  # this frame waits until the end, and would keep the model
        yield aside


def _memory_order(tensor: Tensor) -> tuple[int, ...]:
    """Return the axes from the slowest to the fastest in memory."""
    strides = tensor.stride()
    return tuple(sorted(range(tensor.ndim), key=lambda axis: -strides[axis]))


def _save(tensors: dict[str, Tensor], path: Path, index: dict[str, str]) -> None:
    save_file(
        {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()},
        path,
    )
    index |= dict.fromkeys(tensors, path.name)
