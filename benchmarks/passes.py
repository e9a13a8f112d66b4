"""What do the findings that run both models cost, in plain forward passes of the same run?

A pair (default: the embedded one), both models in memory, the built-in texts, and the built-in prompts with the tuned
model's greedy responses, which are generated before anything is counted. Goals: token shift at most 2.3 passes a prompt
beyond generation, divergence (all boundaries) at most (layers + 4) / 2 + 4, activation difference at most 2.3 a text.

"Tokens" counts what enters a block, of what one plain pass of one model over the same texts would put in: it does not
depend on the load of the machine. "Calls" counts the runs of blocks, where many rows of a batch are one. "Time" is the
processor time of the probe / that of plain passes (`model(tokens)`, logits of all positions, a text at a time), in
turns.

    python benchmarks/passes.py [BASE [TUNED]] [--adapter A] [--texts 200] [--prompts 4] [--max-new-tokens 32]
        [--only NAME,NAME] [--rounds 1]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

import itlens
from itlens.hooked.tokens import forced
from itlens.tokenization import encode

Ids = Sequence[Sequence[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="base and tuned")
    parser.add_argument("--adapter", help="of the tuned model")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--only", default="", help="names of probes")
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    models = args.models or [itlens.demo.base_path(), itlens.demo.tuned_path()]
    pair = itlens.load_pair(*models, adapter=args.adapter, check=False, keep_both=True)
    layers = int(pair.base.cfg.n_layers)
    print(f"{layers} layers; load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name, (read, run) in probes(pair, args).items():
        if args.only and name not in args.only.split(","):
            continue
        calls, tokens = counted_blocks(pair, run)
        ratios = []
        for _ in range(args.rounds):
            plain, probe = seconds(lambda read=read: plain_passes(pair.base, read)), seconds(run)
            ratios.append(probe / plain)
        length = sum(map(len, read))
        cost = f"{tokens / (layers * length):.2f}", f"{calls / (layers * len(read)):.2f}"
        print(f"{name}: {cost[0]} plain passes a text by tokens, {cost[1]} by calls, {statistics.median(ratios):.2f} "
              f"by time ({len(read)} texts of {length / len(read):.0f} tokens)", flush=True)  # fmt: skip


def probes(pair: Any, args: argparse.Namespace) -> dict[str, tuple[Ids, Callable[[], object]]]:
    """By name: the ids that a plain pass reads, and the probe."""
    tokenizer = itlens.models.source_of(pair.base).tokenizer
    texts = list(itlens.load_texts(limit=args.texts))
    of_texts = [encode(tokenizer, text).ids for text in texts]
    prompts = itlens.load_prompts("demo")[: args.prompts]
    written = forced(pair.tuned, prompts, max_new_tokens=args.max_new_tokens)
    of_prompts = [one.read for one in written]
    quiet = {"progress": False}
    ad = itlens.activation_difference(pair, texts, **quiet)
    return {
        "token_shift": (of_prompts, lambda: itlens.token_shift(pair, written, **quiet)),
        "divergence": (of_prompts, lambda: itlens.divergence(pair, written, args.max_new_tokens, **quiet)),
        "activation_difference": (of_texts, lambda: itlens.activation_difference(pair, texts, **quiet)),
        "logit_diff": (of_texts, lambda: itlens.logit_diff(pair, texts, themes=0, **quiet)),
        "difference_dial": (of_prompts, lambda: itlens.difference_dial(pair, ad, written, **quiet)),
    }


def plain_passes(model: Any, ids: Ids) -> None:
    with torch.no_grad():
        for one in ids:
            model(torch.tensor([list(one)]))


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def counted_blocks(pair: Any, run: Callable[[], object]) -> tuple[int, int]:
    """Count runs of blocks of both models while something runs, and the tokens that went through them."""
    tokens: list[int] = []
    models = (pair.base, pair.tuned)
    for model in models:
        for layer in range(int(model.cfg.n_layers)):
            hook = model.hook_dict[f"blocks.{layer}.hook_mlp_out"]
            hook.add_perma_hook(lambda value, hook: tokens.append(value.shape[0] * value.shape[1]))
    try:
        run()
    finally:
        for model in models:
            model.reset_hooks(including_permanent=True)
    return len(tokens), sum(tokens)


if __name__ == "__main__":
    main()
