"""How much do `itlens.activations` (of both models, with their diff) and `itlens.activation_shift` cost?

Time in plain forward passes, peak memory in models.

Two random Llamas of 135M parameters (SmolLM2's shape, float32), the second with noise added, and given responses.

Time: both models in memory; plain forward passes (`model(tokens)`, logits of all positions, both models) and the probes
take turns; the ratio is probe / plain, that is plain passes per model and prompt. "no lens" leaves the lens out; the
others read it at its default places.
Memory: a fresh process for each probe and number of prompts reads a pair of folders, one model in memory at a time; its
peak of resident memory (Linux: VmHWM) above what it held with everything imported, in units of one model's weights.

    python benchmarks/activation_speed.py [--prompts 10 40] [--prompt 48] [--response 48] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch

import itlens

PROBES = ("activations", "shift")


def words(count: int, seed: int) -> str:
    """A number of tokens of the word-level tokenizer, as a text."""
    generator = torch.Generator().manual_seed(seed)
    return " ".join(f"w{number}" for number in torch.randint(2, 49_000, (count,), generator=generator).tolist())


def prompts(count: int, args: argparse.Namespace) -> list[itlens.Prompt]:
    """Prompts with their responses."""
    return [
        itlens.Prompt(words(args.prompt, 2 * n), id=f"p{n}", response=" " + words(args.response, 2 * n + 1))
        for n in range(count)
    ]


def networks() -> list[Any]:
    """A base and a tuned Hugging Face model."""
    from attribution_speed import shape_135m
    from transformers import LlamaForCausalLM

    config = shape_135m(30)
    config.tie_word_embeddings = False
    made = []
    for number in range(2):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(number * 0.004 * torch.randn(parameter.shape))
        made.append(model)
    return made


def summarised(pair: Any, read: list[Any], **options: Any) -> Any:
    """Summaries of a base and a tuned model, and their difference. No name here holds a model while the other loads."""
    sides = ("base", "tuned")
    return itlens.diff.activations(
        *[itlens.activations(getattr(pair, side), read, progress=False, **options) for side in sides]
    )


def measure_time(args: argparse.Namespace) -> None:
    """Rounds in turns; medians and ratios."""
    from attribution_speed import word_tokenizer

    from itlens.hooked.tokens import forced

    models = [itlens.load_model(model, tokenizer=word_tokenizer(), check=False) for model in networks()]
    pair = itlens.load_pair(*models, keep_both=True)
    for count in args.prompts:
        read = forced(models[0], prompts(count, args))

        def plain(read: list[Any] = read) -> None:
            for model in models:
                for one in read:
                    with torch.no_grad():
                        model(torch.tensor([one.read]))

        def shift(read: list[Any] = read) -> None:
            itlens.activation_shift(pair, read, progress=False)

        def shift_only(read: list[Any] = read) -> None:
            itlens.activation_shift(pair, read, hooks=("resid", "head", "mlp", "pattern"), progress=False)

        def summaries(read: list[Any] = read) -> None:
            summarised(pair, read)

        def summaries_only(read: list[Any] = read) -> None:
            summarised(pair, read, hooks=("attention", "mlp", "norms"))

        ways = {
            "plain": plain,
            "activations, no lens": summaries_only,
            "activations": summaries,
            "shift, no lens": shift_only,
            "shift": shift,
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, run in ways.items():
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(seconds) for name, seconds in times.items()}
        for name, seconds in medians.items():
            print(f"{count:>3} prompts  {name:<22}{seconds:>8.2f} s  {seconds / medians['plain']:.2f} plain passes")


def save(folder: Path) -> None:
    """The pair as folders."""
    from attribution_speed import word_tokenizer

    for name, model in zip(("base", "tuned"), networks(), strict=True):
        model.save_pretrained(folder / name)
        word_tokenizer().save_pretrained(folder / name)


def measure_memory(folder: Path, count: int, args: argparse.Namespace) -> None:
    """In a process of its own."""
    from compare_memory import reset_peak, status, tiny

    small, short = tiny(), itlens.Prompt("w1 w2", response=" w3")
    itlens.activation_shift((small, small), short, responses="given")
    summarised(itlens.load_pair(small, small, keep_both=True), [short])
    before = status("VmRSS")
    reset_peak()
    pair = itlens.load_pair(folder / "base", folder / "tuned")
    weights = sum(parameter.numel() * parameter.element_size() for parameter in pair.base.parameters())
    loading = status("VmHWM") - before
    if args.probe == "shift":
        itlens.activation_shift(pair, prompts(count, args), responses="given", progress=False)
    else:
        summarised(pair, prompts(count, args))
    peak = status("VmHWM") - before
    print(
        f"{args.probe:<12}{count:>3} prompts  weights {weights / 1e6:.0f} MB  loading {loading / weights:.2f}x  "
        f"peak {peak / weights:.2f}x of one model",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, nargs="+", default=[10, 40])
    parser.add_argument("--prompt", type=int, default=48)
    parser.add_argument("--response", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=("time", "memory"), default=None)
    parser.add_argument("--probe", choices=PROBES, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.folder is not None:
        return measure_memory(args.folder, args.prompts[0], args)
    if args.only != "memory":
        measure_time(args)
    if args.only != "time":
        with tempfile.TemporaryDirectory() as scratch:
            save(Path(scratch))
            for probe, count in product(PROBES, args.prompts):
                sizes = ["--prompts", str(count), "--prompt", str(args.prompt), "--response", str(args.response)]
                command = [sys.executable, __file__, *sizes, "--probe", probe, "--folder", scratch]
                subprocess.run(command, check=True)
    return None


if __name__ == "__main__":
    main()
