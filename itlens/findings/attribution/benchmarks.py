"""How fast is attribution, and what does half precision cost in accuracy? A model of the 135M shape, random values.

1. Ratios against the RELEASED way: one forward and one backward pass of the Hugging Face model per response token, with
   gradients for the parameters too. 2. The share of the machine's matrix-product PEAK, on the operations of the layers
   alone: with P parameters in them, T tokens read and M response tokens, one pass forward and M rows backward take
   2 P T (1 + M) operations. What causality saves counts as speed. 3. The rank correlation of importance densities in
   bfloat16 with those in float32, over prompts. (inseq and captum need an environment of their own:
   benchmarks/attribution_speed.py.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from itlens.findings.benchmark import Benchmark, Ratio
from itlens.hooked.attribution import attribute
from itlens.models import load_model, source_of
from itlens.models.hooked_model import Backend
from itlens.results.density import importance_density
from itlens.shapes.model_shapes import ModelShape
from itlens.shapes.workbench import Workbench

_BACKENDS: tuple[Backend, ...] = ("hooked", "bridge")
_LENGTHS = ((48, 48),)  # tokens of prompt and response
_FULL_LENGTHS = ((48, 48), (16, 96), (200, 200))
_PRECISION_PROMPTS, _PRECISION_TOKENS = 4, (24, 8)  # prompts; tokens of each prompt and response


class AttributionSpeed(Benchmark):
    """Input x gradient of all response tokens."""

    name = "attribution"
    measures = "Attribution of a prompt and its response against the released way and the machine's peak"

    def run(self, bench: Workbench) -> Iterator[Ratio]:
        """Yield, for each length and backend, the ratio to the released way and the share of the peak."""
        shape, layers = bench.small, bench.small_layers
        hf = shape.hf_model(layers)
        models = {
            backend: load_model(
                shape.hf_model(layers), tokenizer=shape.tokenizer(), backend=backend, check=False, device="cpu"
            )
            for backend in _BACKENDS
        }
        inside = sum(parameter.numel() for parameter in hf.model.layers.parameters())
        for prompt, response in _FULL_LENGTHS if bench.full else _LENGTHS:
            texts = text_of(shape, prompt, response, seed=0)
            ids = source_of(models["hooked"]).tokenizer(" ".join(texts))["input_ids"]
            ways: dict[str, Any] = {"released": lambda p=prompt, ids=ids: released_way(hf, ids[:p], ids[p:])}
            for backend, model in models.items():
                ways[backend] = lambda model=model, texts=texts: attribute(model, *texts)
            seconds = bench.in_turns(ways)
            size = f"{prompt} + {response} tokens, {layers} layers"
            for backend in _BACKENDS:
                detail = f"{seconds[backend]:.2f} s against {seconds['released']:.2f} s"
                ratio = seconds["released"] / seconds[backend]
                yield Ratio(f"attribution, {backend}, {size}", "the released way", ratio, "higher", None, detail)
            operations = 2 * inside * (prompt + response - 1) * (1 + response)
            for backend in _BACKENDS:
                share = operations / seconds[backend] / bench.rate
                goal = 0.85 if bench.full and prompt == response == 48 else None
                detail = f"{operations / 1e9:.0f} billion operations in {seconds[backend]:.2f} s"
                yield Ratio(f"attribution, {backend}, {size}", "the matrix-product peak", share, "higher", goal, detail)


class HalfPrecision(Benchmark):
    """Importance densities in bfloat16 next to those in float32."""

    name = "bfloat16"
    measures = "Rank correlation of importance densities in bfloat16 with those in float32, 135M shape"

    def run(self, bench: Workbench) -> Iterator[Ratio]:
        """Yield the mean rank correlation over prompts."""
        shape = bench.small
        texts = [text_of(shape, *_PRECISION_TOKENS, seed=seed) for seed in range(_PRECISION_PROMPTS)]
        densities = []
        for dtype in ("float32", "bfloat16"):
            model = bench.model(shape, shape.layers, dtype=dtype)
            densities.append([importance_density(attribute(model, *text).score).values for text in texts])
        ranks = [spearmanr(whole, half).statistic for whole, half in zip(*densities, strict=True)]
        detail = f"{len(ranks)} prompts of {sum(_PRECISION_TOKENS)} tokens, lowest {min(ranks):.4f}"
        what = f"densities in bfloat16, {shape.layers} layers"
        yield Ratio(what, "float32 (rank correlation)", float(np.mean(ranks)), "higher", 0.99, detail)


def text_of(shape: ModelShape, prompt: int, response: int, seed: int) -> tuple[str, str]:
    """Return a prompt and its response, of so many random words."""
    known = shape.words(20_000)
    words = [known[place] for place in np.random.default_rng(seed).integers(len(known), size=prompt + response)]
    return " ".join(words[:prompt]), " " + " ".join(words[prompt:])


def released_way(hf: Any, prompt: list[int], response: list[int]) -> np.ndarray:
    """Return scores (prompt, response) by one backward pass per response token, gradients for parameters too."""
    for parameter in hf.parameters():
        parameter.requires_grad_(True)
    scores = np.zeros((len(prompt), len(response)))
    for number, target in enumerate(response):
        ids = torch.tensor([prompt + response[:number]])
        embeddings = hf.get_input_embeddings()(ids).detach().requires_grad_(True)
        torch.softmax(hf(inputs_embeds=embeddings).logits[0, -1], -1)[target].backward()
        scores[:, number] = (embeddings.grad * embeddings.detach())[0, : len(prompt)].sum(-1).numpy()
        hf.zero_grad()
    return scores
