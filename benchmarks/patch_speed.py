"""How fast is patching all heads? Against one head at a time and against plain passes, in one run, in turns.

A random model of SmolLM2-135M's shape (or --layers of it) and a second one of other weights; one prompt of 48
tokens (--tokens) with a response as long.

  one by one  a loop over heads: one whole forward pass each, with a hook that puts the donor's z in, and all logits
  own layout  the same loop on a model whose weights lie in memory as TransformerLens itself lays them (each pass copies
              them; `itlens.load_model` avoids that)
  itlens      what `itlens.patch` does: heads in batches, from their layer on, logits of the response only
  estimate    all heads by one pass forward and one backward of the receiver, and the donor's pass
  plain       one forward pass with all logits

Effects of both exact ways are compared. --heads limits how many heads the loop does (spread over all layers); its time
is then scaled to all of them.

    python benchmarks/patch_speed.py [--layers 30] [--heads 27] [--rounds 2] [--threads 2] [--batch N] [--tokens 48]
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
from transformers import LlamaForCausalLM

import itlens
from itlens.findings.patching.probe_metrics import estimated_effects, metric_of
from itlens.findings.patching.probe_parts import Part, parts_of
from itlens.findings.patching.probe_runs import ActivationPatches, Receiver
from itlens.hooked.hooks import run_hooked, token_logprobs
from itlens.hooked.tokens import Forced, forced

LOOPS = ("one by one", "own layout")


class Case:
    """Two models, one prompt, the donor's z at every head."""

    def __init__(self, layers: int, heads: int, batch: int | None, length: int) -> None:
        tokenizer = word_tokenizer()
        self.models = [self._model(layers, seed, tokenizer) for seed in (0, 1)]
        self.plain_layout = self._model(layers, 0, tokenizer)
        for parameter in self.plain_layout.parameters():
            parameter.data = parameter.data.contiguous()
        words = [f"w{number}" for number in np.random.default_rng(0).integers(2, 5000, 2 * length)]
        prompt = itlens.Prompt(" ".join(words[:length]), response=" " + " ".join(words[length:]))
        (self.one,) = forced(self.models[0], prompt)
        self.tokens = torch.tensor([self.one.read])
        self.parts = parts_of(self.models[0].cfg, "head", "", None, None)
        listed = self.parts.listed()
        every = max(1, len(listed) // heads)
        self.some = listed[:: every + (every % self.models[0].cfg.n_heads == 0)]  # not the same head of every layer
        self.batch = batch

    def _model(self, layers: int, seed: int, tokenizer: Any) -> Any:
        torch.manual_seed(seed)
        return itlens.load_model(LlamaForCausalLM(shape_135m(layers)).eval(), tokenizer=tokenizer, check=False)

    def donor(self) -> torch.Tensor:
        kept: list[torch.Tensor] = []

        def keep(value: torch.Tensor, hook: Any) -> None:
            kept.append(value[0])

        names = [self.parts.point(layer) for layer in self.parts.layers]
        run_hooked(self.models[1], self.tokens, [(name, keep) for name in names], positions=self.one.positions)
        return torch.stack(kept)

    def plain(self) -> torch.Tensor:
        return self.models[0](self.tokens)

    def one_by_one(self, given: torch.Tensor, model: Any = None) -> np.ndarray:
        model = self.models[0] if model is None else model
        own, out = self._mean(model(self.tokens)), []
        for part in self.some:

            def put(value: torch.Tensor, hook: Any, part: Part = part) -> torch.Tensor:
                value[0, :, part.head] = given[part.layer][:, part.head]
                return value

            logits = model.run_with_hooks(self.tokens, fwd_hooks=[(self.parts.point(part.layer), put)])
            out.append(self._mean(logits) - own)
        return np.array(out)

    def itlens(self, given: torch.Tensor) -> np.ndarray:
        receiver = Receiver(self.models[0], [self.one], metric_of("logprob"), self.batch)
        patches = ActivationPatches(receiver, self.parts, [np.arange(len(self.one.read))], lambda number: given)
        return patches([0], [[part] for part in self.parts.listed()], lambda more: None)[0] - receiver.own(0)

    def estimate(self) -> np.ndarray:
        places = np.arange(len(self.one.read))
        return estimated_effects(
            self.models[0], self.one, metric_of("logprob"), self.parts, places, self.donor()
        )[0]  # fmt: skip

    def _mean(self, logits: torch.Tensor) -> float:
        one: Forced = self.one
        return float(token_logprobs(logits[:, list(one.positions)], torch.tensor(one.targets)).mean())


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    out = run()
    return time.perf_counter() - start, out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--heads", type=int, default=27)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--tokens", type=int, default=48)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    case = Case(args.layers, args.heads, args.batch, args.tokens)
    given, listed = case.donor(), case.parts.listed()
    ways = {
        "plain": case.plain,
        "one by one": lambda: case.one_by_one(given),
        "own layout": lambda: case.one_by_one(given, case.plain_layout),
        "itlens": lambda: case.itlens(given),
        "estimate": case.estimate,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Any] = {}
    for _ in range(args.rounds):
        for name, run in ways.items():
            lapse, found[name] = timed(run)
            seconds[name].append(lapse * (len(listed) / (len(case.some) + 1) if name in LOOPS else 1))
    report(seconds, found, case, listed)


def report(seconds: dict[str, list[float]], found: dict[str, Any], case: Case, listed: list[Part]) -> None:
    chosen = [listed.index(part) for part in case.some]
    apart = np.abs(found["itlens"][chosen] - found["one by one"]).max()
    print(f"{len(listed)} heads, {len(case.one.read)} tokens, {len(case.one.targets)} of them response")
    ratios = {
        way: statistics.median(loop / ours for loop, ours in zip(seconds[way], seconds["itlens"], strict=True))
        for way in LOOPS
    }
    passes = [ours / plain for ours, plain in zip(seconds["estimate"], seconds["plain"], strict=True)]
    for name, each in seconds.items():
        print(f"{name:<12}{statistics.median(each):>9.2f} s   ({' '.join(f'{value:.2f}' for value in each)})")
    for way, ratio in ratios.items():
        print(f"itlens is {ratio:.1f} times as fast as {way} ({len(case.some)} heads timed)")
    print(f"all estimates cost {statistics.median(passes):.1f} plain passes")
    largest = np.abs(found["itlens"]).max()
    print(f"largest difference of the two exact ways: {apart:.1e} nats, of effects up to {largest:.1e}")


if __name__ == "__main__":
    main()
