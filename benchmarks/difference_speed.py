"""What do `itlens.activation_difference`, its dial and `itlens.logit_diff` cost, in plain forward passes?

A pair (default: the embedded one), both models in memory, the built-in texts, and prompts with given responses. In
turns: plain forward passes (`model(tokens)` of one model, logits of all positions, a text at a time) and the probe; the
ratio is probe / plain. "tokens through blocks" counts what enters a block, of what one plain pass of one model over
all texts would put in: it does not depend on the load of the machine.

    python benchmarks/difference_speed.py [BASE TUNED] [--texts 200] [--prompts 4] [--rounds 1]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

import itlens
from itlens.tokenization import encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="base and tuned")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    models = args.models or [itlens.demo.base_path(), itlens.demo.tuned_path()]
    pair = itlens.load_pair(*models, check=False, keep_both=True)
    tokenizer = itlens.models.source_of(pair.base).tokenizer
    texts = list(itlens.load_texts(limit=args.texts))
    halves = [text.rsplit(" ", len(text.split()) // 2) for text in itlens.load_texts()[-args.prompts :]]
    prompts = [
        itlens.Prompt(first, id=f"p{n}", response=" " + " ".join(rest)) for n, (first, *rest) in enumerate(halves)
    ]
    joined = [prompt.text + str(prompt.response) for prompt in prompts]
    ad = itlens.activation_difference(pair, texts, progress=False)
    runs: dict[str, tuple[Sequence[str], Callable[[], object]]] = {
        "activation_difference": (texts, lambda: itlens.activation_difference(pair, texts, progress=False)),
        "logit_diff": (texts, lambda: itlens.logit_diff(pair, texts, themes=0, progress=False)),
        "difference_dial": (
            joined, lambda: itlens.difference_dial(pair, ad, prompts, responses="given", progress=False)
        ),
    }  # fmt: skip
    for name, (read, run) in runs.items():
        ids = [encode(tokenizer, text).ids for text in read]
        through = tokens_through_blocks(pair, run) / (sum(map(len, ids)) * int(pair.base.cfg.n_layers))
        ratios = []
        for _ in range(args.rounds):
            plain, probe = seconds(lambda ids=ids: plain_passes(pair.base, ids)), seconds(run)
            ratios.append(probe / plain)
        print(f"{name}: {through:.2f} plain passes a text by tokens through blocks, {statistics.median(ratios):.2f} by "
              f"time ({len(read)} texts of {sum(map(len, ids)) / len(ids):.0f} tokens)", flush=True)  # fmt: skip


def plain_passes(model: Any, ids: Sequence[Sequence[int]]) -> None:
    with torch.no_grad():
        for one in ids:
            model(torch.tensor([list(one)]))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def tokens_through_blocks(pair: Any, run: Callable[[], object]) -> int:
    """Count tokens x blocks of both models while something runs."""
    counted: list[int] = []
    models = (pair.base, pair.tuned)
    for model in models:
        for layer in range(int(model.cfg.n_layers)):
            hook = model.hook_dict[f"blocks.{layer}.hook_mlp_out"]
            hook.add_perma_hook(lambda value, hook: counted.append(value.shape[0] * value.shape[1]))
    try:
        run()
    finally:
        for model in models:
            model.reset_hooks(including_permanent=True)
    return sum(counted)


if __name__ == "__main__":
    main()
