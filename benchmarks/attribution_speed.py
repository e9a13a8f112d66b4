"""How fast is attribution? Ratios against the released code's way, inseq and captum, all measured in one run.

A random Llama of 135M parameters (SmolLM2's shape) in float32, a prompt and a given response of fixed length, input x
gradient of the probability. The ways take turns, several rounds; the table gives medians, ratios of medians, and how
far each way's scores are from the reference's (largest difference as a share of the largest score).

  released    one forward and backward pass per response token on the Hugging Face model, parameters with gradients
  itlens      `itlens.attribute` on HookedTransformer and on TransformerBridge
  inseq       inseq 0.7.1, input_x_gradient of the probability
  captum      captum 0.9, LLMGradientAttribution of LayerGradientXActivation (its log-probability, times p here)

The peers of peers.txt are installed into .peers/, behind itlens' own packages, when they are missing there.

    python benchmarks/attribution_speed.py --prompt 48 --response 48 --rounds 3 --threads 2
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import itlens
from itlens.findings.attribution.benchmarks import released_way

VOCABULARY = 49_152


def shape_135m(layers: int) -> LlamaConfig:
    """SmolLM2-135M's shape."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        initializer_range=0.04,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )


def word_tokenizer() -> Any:
    """A word is a token: "w17" is token 17."""
    words = {"<pad>": 0, "</s>": 1, **{f"w{number}": number for number in range(2, VOCABULARY)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", pad_token="<pad>")


def add_peers() -> None:
    """Put inseq and captum on the path, behind everything else; install them first where they are missing."""
    folder, wanted = Path(__file__).parents[1] / ".peers", Path(__file__).with_name("peers.txt")
    if not (folder / "inseq").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*pip, "--requirement", str(wanted)], check=True)
    sys.path.append(str(folder))


def with_inseq(hf: Any, tokenizer: Any) -> Callable[[list[int], list[int]], np.ndarray]:
    """inseq with a forced response."""
    import inseq

    model = inseq.load_model(hf, "input_x_gradient", tokenizer=tokenizer)

    def run(prompt: list[int], response: list[int]) -> np.ndarray:
        text, more = (" ".join(f"w{token}" for token in part) for part in (prompt, response))
        out = model.attribute(
            text, f"{text} {more}", attributed_fn="probability", show_progress=False, pretty_progress=False
        )
        found = out.sequence_attributions[0].target_attributions
        found = found.sum(-1) if found.ndim == 3 else found
        return found[: len(prompt)].detach().numpy()

    return run


def with_captum(hf: Any, tokenizer: Any) -> Callable[[list[int], list[int]], np.ndarray]:
    """captum's gradient attribution of a language model."""
    from captum.attr import LayerGradientXActivation, LLMGradientAttribution, TextTokenInput

    method = LLMGradientAttribution(LayerGradientXActivation(hf, hf.get_input_embeddings()), tokenizer)

    def run(prompt: list[int], response: list[int]) -> np.ndarray:
        text, more = (" ".join(f"w{token}" for token in part) for part in (prompt, response))
        found = method.attribute(TextTokenInput(text, tokenizer), target=more).token_attr
        with torch.no_grad():
            rows = torch.log_softmax(hf(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1], -1)
        chance = rows.gather(1, torch.tensor(response)[:, None]).exp()
        return (found * chance).T.detach().numpy()

    return run


def with_itlens(model: Any) -> Callable[[list[int], list[int]], np.ndarray]:
    """`itlens.attribute` with a given response."""

    def run(prompt: list[int], response: list[int]) -> np.ndarray:
        text, more = (" ".join(f"w{token}" for token in part) for part in (prompt, response))
        return itlens.attribute(model, text, f" {more}").score.values

    return run


def ways(hf: Any, peers: bool) -> dict[str, Callable[[list[int], list[int]], np.ndarray]]:
    """Every way, by name; each has a model of its own with the same weights."""
    tokenizer = word_tokenizer()

    def twin() -> Any:
        return copy.deepcopy(hf)

    found: dict[str, Any] = {"released": lambda prompt, response: released_way(hf, prompt, response)}
    for backend in ("hooked", "bridge"):
        model = itlens.load_model(twin(), tokenizer=tokenizer, backend=backend)
        found[f"itlens {backend}"] = with_itlens(model)
    if peers:
        add_peers()
        found["inseq"] = with_inseq(twin(), tokenizer)
        found["captum"] = with_captum(twin(), tokenizer)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", type=int, default=48)
    parser.add_argument("--response", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--no-peers", action="store_true", help="leave inseq and captum out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    hf = LlamaForCausalLM(shape_135m(args.layers)).eval()
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, VOCABULARY, (args.prompt + args.response,), generator=generator).tolist()
    prompt, response = ids[: args.prompt], ids[args.prompt :]
    all_ways = ways(hf, not args.no_peers)
    times: dict[str, list[float]] = {name: [] for name in all_ways}
    scores = {}
    for turn in range(args.rounds):
        for name, run in all_ways.items():
            start = time.perf_counter()
            scores[name] = run(prompt, response)
            times[name].append(time.perf_counter() - start)
            print(f"round {turn + 1}: {name} {times[name][-1]:.1f} s", flush=True)
    report(times, scores, args)


def report(times: dict[str, list[float]], scores: dict[str, np.ndarray], args: argparse.Namespace) -> None:
    """The table, with ratios against every reference."""
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    references = [name for name in ("released", "inseq", "captum") if name in medians]
    largest = np.abs(scores["released"]).max()
    print(f"\n{args.prompt} prompt + {args.response} response tokens, {args.threads} threads, medians of {args.rounds}")
    print(f"{'way':<16}{'seconds':>9}" + "".join(f"{'vs ' + name:>14}" for name in references) + f"{'difference':>14}")
    for name, median in medians.items():
        ratios = "".join(f"{medians[reference] / median:>13.2f}x" for reference in references)
        away = np.abs(scores[name] - scores["released"]).max() / largest
        print(f"{name:<16}{median:>9.2f}{ratios}{away:>14.1e}")


if __name__ == "__main__":
    main()
