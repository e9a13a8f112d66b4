"""How fast are feed-forward concepts? Ratios against singular value decompositions, measured in one run, in turns.

One layer of a 7B shape (11008 x 4096), 300 components, 50 words each of 26,000. `noise` is the hardest spectrum there
is (independent Gaussian numbers: neighbours lie closest), `trained` has a few outliers and a bulk like that of trained
layers. All ways centre the same rows and look words up in the same way.

  svd         torch.linalg.svd(float32, full_matrices=False)
  full        torch.linalg.svd(float32, full_matrices=True), what torch and numpy do by default, with --full
  itlens      what `itlens.mlp_concepts` does for one layer

Wall time and, since other programs disturb it, processor time of all threads; idle threads should sleep while they wait
(OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0), or they count; on a busy machine set OPENBLAS_NUM_THREADS=1 too, since the
threads of SciPy's LAPACK wait for one another at full speed. Then a float64 reference (eigenvectors of the float64 Gram
matrix), how far each way's components are from it, and how many of their words differ; and all layers of SmolLM2-135M's
shape (or of --model), with the peak of memory (Linux).

    python benchmarks/mlp_speed.py [--rounds 2] [--threads 2] [--full] [--model DIR]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from attribution_speed import shape_135m, word_tokenizer
from compare_memory import reset_peak, status
from transformers import LlamaForCausalLM

import itlens
from itlens import Vocabulary
from itlens.weights import AttentionWeights, MlpWeights
from itlens.weights.components import CentredRows, principal_components
from itlens.weights.unit_words import UnitWords

WIDTH, NEURONS = 4096, 11_008


class SevenB:
    """A layer of LLaMA-7B's shape: an `itlens.weights.Weights` without a model."""

    def __init__(self, kind: str) -> None:
        self.facts = {"layers": 1, "d_model": WIDTH, "vocabulary": 49_152}
        self.attrs, self.tokenizer = {"model": f"7B shape, {kind}"}, word_tokenizer()
        generator = torch.Generator().manual_seed(0)
        self._embedding = torch.randn(49_152, WIDTH, generator=generator, dtype=torch.float16)
        rows = torch.randn(NEURONS, WIDTH, generator=generator) * 0.02
        if kind == "trained":
            scale = torch.arange(1, WIDTH + 1) ** -0.12
            scale[:5] *= 2
            rows *= scale
        self.W_out = rows.half()

    def attention(self, layer: int) -> AttentionWeights:
        raise NotImplementedError("concepts need no attention")

    def mlp(self, layer: int) -> MlpWeights:
        one = torch.ones(WIDTH, dtype=torch.float16)
        return MlpWeights(self.W_out.T, None, self.W_out, one, one)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self._embedding[ids]

    def unembed(self, ids: torch.Tensor) -> torch.Tensor:
        return self._embedding[ids]

    def final_gain(self) -> torch.Tensor:
        return torch.ones(WIDTH, dtype=torch.float16)


def timed(run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds by the clock and of all processors, and what comes back."""
    start, busy = time.perf_counter(), time.process_time()
    out = run()
    return time.perf_counter() - start, time.process_time() - busy, out


def medians(pairs: list[tuple[float, float]]) -> list[float]:
    return [statistics.median(column) for column in zip(*pairs, strict=True)]


def by_svd(weights: SevenB, words: UnitWords, count: int, full: bool) -> tuple[torch.Tensor, np.ndarray]:
    rows = weights.W_out.float()
    directions = torch.linalg.svd(rows - rows.mean(0), full_matrices=full).Vh[:count]
    return directions, words.absolute(directions, 50).words


def by_itlens(weights: SevenB, words: UnitWords, count: int) -> tuple[torch.Tensor, np.ndarray]:
    mlp = weights.mlp(0)
    directions = principal_components(CentredRows(mlp.W_out, mlp.out_gain), count).directions
    return directions, words.absolute(directions, 50).words


def angle(got: torch.Tensor, expected: torch.Tensor) -> float:
    sign = (got.double() * expected).sum(1, keepdim=True).sign()
    return float(torch.linalg.vector_norm(got.double() - sign * expected, dim=1).max())


def one_layer(kind: str, vocab: Vocabulary, count: int, rounds: int, full: bool) -> None:
    weights = SevenB(kind)
    words = UnitWords(weights, vocab, "output", directions=count)
    ways: dict[str, Callable[[], Any]] = {
        "itlens": lambda: by_itlens(weights, words, count),
        "svd": lambda: by_svd(weights, words, count, False),
    }
    if full:
        ways["full"] = lambda: by_svd(weights, words, count, True)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    found: dict[str, Any] = {}
    for _ in range(rounds):
        for name, run in ways.items():
            lapse, busy, found[name] = timed(run)
            seconds[name].append((lapse, busy))
    gram = CentredRows(weights.W_out, torch.ones(WIDTH)).gram(torch.float64)
    lapse, _, exact = timed(lambda: torch.linalg.eigh(gram).eigenvectors[:, -count:].flip(1).T)
    reference = words.absolute(exact, 50).words
    ours = medians(seconds["itlens"])
    print(f"\n7B shape, {kind}: {count} components, {len(vocab)} words; float64 eigenvectors {lapse:.1f} s")
    for name, (directions, named) in found.items():
        own, each = medians(seconds[name]), " ".join(f"{s:.1f}" for s, _ in seconds[name])
        other = int((named != reference).sum())
        print(
            f"{name:<8}{own[0]:>7.1f} s ({each}) {own[0] / ours[0]:>5.1f}x   processors {own[1]:>6.1f} s "
            f"{own[1] / ours[1]:>5.1f}x   largest angle {angle(directions, exact):.1e}, words at another "
            f"place: {other} of {named.size}",
            flush=True,
        )


def whole_model(model: Any, vocab: Vocabulary, name: str) -> None:
    itlens.mlp_concepts(model, vocab, layers=0)
    before = status("VmRSS:")
    reset_peak()
    for vectors in ("value", "key"):
        lapse, busy, ds = timed(lambda vectors=vectors: itlens.mlp_concepts(model, vocab, vectors=vectors))
        sizes = f"{ds.sizes['layer']} layers, {ds.sizes['component']} components, {len(vocab)} words"
        print(
            f"{name}, {vectors} vectors: {lapse:.1f} s (processors {busy:.1f} s) for {sizes}; result "
            f"{ds.nbytes / 1e6:.0f} MB"
        )
    print(f"memory above the process with its model: {(status('VmHWM:') - before) / 1e9:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, default=26_000)
    parser.add_argument("--components", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--kinds", nargs="*", default=["noise", "trained"])
    parser.add_argument("--model")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    vocab = Vocabulary([f"w{number}" for number in range(2, args.words + 2)])
    if args.model:
        own = Vocabulary.load("builtin", size=args.words)
        whole_model(itlens.load_model(args.model, check=False), own, args.model)
    else:
        hf = LlamaForCausalLM(shape_135m(30)).eval()
        whole_model(itlens.load_model(hf, tokenizer=word_tokenizer(), check=False), vocab, "135M shape")
        del hf
    for kind in args.kinds:
        one_layer(kind, vocab, args.components, args.rounds, args.full)


if __name__ == "__main__":
    main()
