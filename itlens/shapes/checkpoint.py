"""A checkpoint of a known shape with random values, written a layer at a time, and a tuned self of it.

1. Values are normal with standard deviation 0.02. On the axis of the residual stream they are scaled by a falling
   spectrum (rank ** -0.12, the first five twice as large): trained layers have a few large directions and a long tail,
   and independent numbers, whose directions all weigh the same, are the one case that no real model shows. 2. The TUNED
   self adds to each matrix a change of rank 8 whose size is 2 % of the matrix. 3. Both are rounded to the precision of
   the file. Each layer is a safetensors file of its own, next to an index, a config and a tokenizer, so that no more
   than a layer is in memory. The same seed gives the same files.

    python -m itlens.shapes.checkpoint FOLDER --shape 7b --layers 2     writes FOLDER/base and FOLDER/tuned
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from itlens.shapes.model_shapes import SHAPES, ModelShape

RANK, SIZE = 8, 0.02  # of the change: its rank, and its Frobenius norm as a share of the matrix
SCALE = 0.02


def write_pair(
    folder: str | Path, shape: ModelShape, layers: int, *, dtype: torch.dtype = torch.bfloat16, seed: int = 0
) -> tuple[Path, Path]:
    """Write `folder`/base and `folder`/tuned, and return both. layers: how many; their values do not depend on it."""
    paths = Path(folder) / "base", Path(folder) / "tuned"
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    weight_maps: list[dict[str, str]] = [{}, {}]
    for number in range(layers + 1):
        held = dict(_layer(shape, number, seed) if number < layers else _ends(shape, seed))
        file = f"model-{number + 1:05d}-of-{layers + 1:05d}.safetensors"
        for path, weight_map, tuned in zip(paths, weight_maps, (False, True), strict=True):
            _save({name: _rounded(pair[tuned], dtype) for name, pair in held.items()}, path / file)
            weight_map |= dict.fromkeys(held, file)
    tokenizer = shape.tokenizer()
    for path, weight_map in zip(paths, weight_maps, strict=True):
        config = shape.config(layers)
        config.dtype = dtype
        config.save_pretrained(path)
        tokenizer.save_pretrained(path)
        index = {"metadata": {}, "weight_map": weight_map}
        (path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return paths


def _layer(shape: ModelShape, layer: int, seed: int) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Yield the name of each tensor of a layer, and its base and tuned values in float32, outputs x inputs."""
    generator = torch.Generator().manual_seed(1000 * seed + layer)
    front, queries, keys = f"model.layers.{layer}", shape.heads * shape.d_head, shape.key_value_heads * shape.d_head
    reads = {"self_attn.q_proj": queries, "self_attn.k_proj": keys, "self_attn.v_proj": keys}
    reads |= {"mlp.gate_proj": shape.d_mlp, "mlp.up_proj": shape.d_mlp}
    for name, rows in reads.items():
        yield f"{front}.{name}.weight", _matrix(rows, shape.d_model, generator, stream=1)
    for name, columns in {"self_attn.o_proj": queries, "mlp.down_proj": shape.d_mlp}.items():
        yield f"{front}.{name}.weight", _matrix(shape.d_model, columns, generator, stream=0)
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"{front}.{name}.weight", (torch.ones(shape.d_model),) * 2


def _ends(shape: ModelShape, seed: int) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    generator = torch.Generator().manual_seed(1000 * seed + 999)
    for name in ("model.embed_tokens",) if shape.tied else ("model.embed_tokens", "lm_head"):
        yield f"{name}.weight", (_spread(torch.randn(shape.vocabulary, shape.d_model, generator=generator), 1),) * 2
    yield "model.norm.weight", (torch.ones(shape.d_model),) * 2


def _matrix(rows: int, columns: int, generator: torch.Generator, stream: int) -> tuple[Tensor, Tensor]:
    base = _spread(torch.randn(rows, columns, generator=generator), stream)
    left, right = torch.randn(rows, RANK, generator=generator), torch.randn(RANK, columns, generator=generator)
    change = left @ right
    return base, base + change * (SIZE * torch.linalg.vector_norm(base) / torch.linalg.vector_norm(change))


def _spread(values: Float[Tensor, "rows columns"], stream: int) -> Float[Tensor, "rows columns"]:
    """Scale the axis of the residual stream by the spectrum. stream: that axis."""
    spectrum = SCALE * torch.arange(1, values.shape[stream] + 1) ** -0.12
    spectrum[:5] *= 2
    return values.mul_(spectrum if stream == 1 else spectrum[:, None])


def _rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype).contiguous()


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path, metadata={"format": "pt"})


def _main() -> None:
    """Write a pair as the command line asks for it."""
    parser = argparse.ArgumentParser(
        prog="python -m itlens.shapes.checkpoint", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--layers", type=int, help="default: all of the shape")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="bfloat16")
    args = parser.parse_args()
    shape = SHAPES[args.shape]
    write_pair(args.folder, shape, args.layers or shape.layers, dtype=getattr(torch, args.dtype))


if __name__ == "__main__":
    _main()
