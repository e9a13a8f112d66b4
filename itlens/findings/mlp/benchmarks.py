"""How fast are the concepts of a feed-forward layer? Against the Gram matrix and its eigenvectors, in one run.

A layer of a large shape, streamed from a checkpoint in bfloat16: 300 components, 50 words each of 26,000. The REFERENCE
is what components need at least without further thought: the Gram matrix of the centred rows in float32 and all of its
eigenvectors (torch.linalg.eigh). Ours are exact in float64, and include the words. The angle to the eigenvectors in
float32 and the peak of memory come with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from itlens.findings.benchmark import Benchmark, Ratio, gigabytes
from itlens.findings.mlp.probe import LayerConcepts
from itlens.shapes.workbench import Workbench
from itlens.vocabulary import Vocabulary

_COMPONENTS, _MOST_BYTES = 300, 4e9


class ConceptSpeed(Benchmark):
    """Concepts of one layer."""

    name = "concepts"
    measures = "Concepts of a feed-forward layer against its Gram matrix and eigenvectors"

    def run(self, bench: Workbench) -> Iterator[Ratio]:
        """Yield the ratio to Gram matrix and eigenvectors, and the memory."""
        weights, _ = bench.pair(bench.large, 1)
        vocab = Vocabulary(bench.large.words(bench.words))
        count = min(_COMPONENTS, bench.large.d_model // 2)
        probe = LayerConcepts(
            weights, vocab, vectors="value", layers=None, components=count, top_k=50, signed=False, resamples=0,
            seed=0,
        )  # fmt: skip
        ours = bench.measured(lambda: probe.read(0))
        rows = weights.mlp(0).W_out.float()
        rows = rows - rows.mean(0)
        vectors = torch.empty(0)

        def reference() -> None:
            nonlocal vectors
            vectors = torch.linalg.eigh(rows.T @ rows).eigenvectors

        seconds = bench.seconds(reference)
        cosines = np.abs((ours.value["direction"].values[0] * vectors.T.flip(0)[:count].numpy()).sum(1))
        size = f"a layer of the {bench.large.name} x {count}"
        detail = f"{ours.seconds:.1f} s with words against {seconds:.1f} s; smallest cosine of a component with theirs "
        detail += f"{cosines.min():.4f}"
        against = "Gram matrix and eigenvectors"
        yield Ratio(f"concepts, {size}", against, ours.seconds / seconds, "lower", 3.0, detail)
        if ours.memory is not None:
            detail = f"{gigabytes(ours.memory)} above the words' vectors"
            yield Ratio(f"concepts, memory, {size}", "4 GB", ours.memory / _MOST_BYTES, "lower", 1.0, detail)
