"""How fast is the change of weights? Against the singular value decompositions that it needs, in one run.

1. A layer of a large shape, both models streamed from checkpoints in bfloat16. It NEEDS, for each of its seven
   matrices, the singular values of the change and the left singular vectors of base and tuned: torch.linalg.svdvals
   once and torch.linalg.svd twice, in float32. These are measured on one square matrix and one of the feed-forward
   layer, and count four and three times. Ours has the singular values in float64, the nulls, and the products of all
   heads too.
2. The 135M shape: seconds of two layers, times 15, as a share of a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from itlens.findings.benchmark import Benchmark, Ratio, gigabytes
from itlens.findings.weight_delta.probe import layer_delta
from itlens.shapes.workbench import Workbench
from itlens.weights import Weights

_MINUTE = 60.0


class WeightChangeSpeed(Benchmark):
    """Weight change of a layer, and of a small model."""

    name = "weight-change"
    measures = "Weight change of a layer against the decompositions it needs, and of the 135M shape against a minute"

    def run(self, bench: Workbench) -> Iterator[Ratio]:
        """Yield the ratio of a large layer, its memory, and the share of a minute of the small shape."""
        pair = bench.pair(bench.large, 1)
        ours = bench.measured(lambda: layer_delta(*pair, 0))
        needed = self._needed(bench, *pair)
        size = f"a layer of the {bench.large.name}"
        detail = f"{ours.seconds:.1f} s against {needed:.1f} s; {gigabytes(ours.memory)}"
        yield Ratio(f"weight change, {size}", "the SVDs it needs", ours.seconds / needed, "lower", 3.0, detail)
        small, layers = bench.pair(bench.small, 2), bench.small.layers
        seconds = bench.seconds(lambda: [layer_delta(*small, layer) for layer in (0, 1)]) * layers / 2
        detail = f"{seconds:.0f} s for {layers} layers, from two of them"
        yield Ratio("weight change, 135M shape", "60 s of processor time", seconds / _MINUTE, "lower", 1.0, detail)

    def _needed(self, bench: Workbench, base: Weights, tuned: Weights) -> float:
        square = [weights.attention(0).W_Q.transpose(1, 2).flatten(0, 1).float() for weights in (base, tuned)]
        oblong = [weights.mlp(0).W_out.float() for weights in (base, tuned)]
        seconds = 0.0
        for (own, other), count in ((square, 4), (oblong, 3)):
            spectrum = bench.seconds(partial(torch.linalg.svdvals, other - own))
            vectors = bench.seconds(partial(torch.linalg.svd, own, full_matrices=False))
            seconds += count * (spectrum + 2 * vectors)
        return seconds
