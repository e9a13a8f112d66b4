"""How much memory does a comparison take? Peaks as multiples of one model's weights, while loading and while running.

A random Llama of 135M parameters (SmolLM2's shape, float32, untied: 0.65 GB) is saved twice as a base and a tuned
folder; a fresh process then does what `compare` does for one model: load, and attribute prompts, each response 48
tokens long. Peaks of resident memory (Linux: VmHWM, which is set back between the phases) are counted above what the
process held before, with everything imported. "activations of one batch" are the tensors that the recorded forward pass
keeps for the backward pass (counted while it runs), and the rows that are pulled back together (as
`itlens.models.memory` counts them). The reference is a Hugging Face model loaded in a process of its own.

    python benchmarks/compare_memory.py [--folder DIR]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from itlens.hooked.hooks import FIRST, run_hooked

PROMPT = " ".join(f"w{number}" for number in range(100, 148))
RESPONSE = " " + " ".join(f"w{number}" for number in range(200, 248))


def make(folder: Path) -> None:
    """A 135M checkpoint with a word-level tokenizer."""
    from attribution_speed import shape_135m, word_tokenizer
    from transformers import LlamaForCausalLM

    config = shape_135m(30)
    config.tie_word_embeddings = False
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)


def status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"no {field} in /proc/self/status: this benchmark needs Linux")


def reset_peak() -> None:
    """Set VmHWM back to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def measure_itlens(folder: str, backend: str) -> None:
    """One phase after the other; prints the figures."""
    import transformer_lens  # noqa: F401  counted before, not as the model's memory

    import itlens
    from itlens.models.memory import row_bytes, rows_at_a_time

    itlens.attribute(tiny(), "w1 w2", " w3 w4")
    before = status("VmRSS")
    reset_peak()
    model = itlens.load_model(folder, backend=backend)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    loading, held = status("VmHWM") - before, status("VmRSS") - before
    reset_peak()
    for _ in range(2):
        itlens.attribute(model, PROMPT, RESPONSE)
    running = status("VmHWM") - before
    activations = recorded_bytes(model) + rows_at_a_time(model, 95) * row_bytes(model, 95)
    show(f"itlens {backend}", weights, loading, held)
    rest = (running - activations) / weights
    print(
        f"{'':<18}running {running / weights:.2f}x; less the activations of one batch ({activations / 1e6:.0f} MB, "
        f"{activations / weights:.2f}x): {rest:.2f}x"
    )


def recorded_bytes(model: Any) -> int:
    """What one recorded pass over 95 tokens keeps for the backward pass, parameters and buffers left out."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def record(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return value.detach().requires_grad_(True)

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run_hooked(model, torch.arange(2, 97)[None], [("hook_embed", record)], positions=FIRST)
    return sum(kept.values())


def measure_reference(folder: str) -> None:
    """Hugging Face's own loading."""
    from transformers import AutoModelForCausalLM

    before = status("VmRSS")
    reset_peak()
    model = AutoModelForCausalLM.from_pretrained(folder)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    show("Hugging Face", weights, status("VmHWM") - before, status("VmRSS") - before)


def show(name: str, weights: int, loading: int, held: int) -> None:
    """One line of figures."""
    print(f"{name:<18}weights {weights / 1e6:.0f} MB; loading {loading / weights:.2f}x; held {held / weights:.2f}x")


def tiny() -> object:
    """A model of a few kilobytes, so that libraries set up what they need before the measurement."""
    from attribution_speed import shape_135m, word_tokenizer
    from transformers import LlamaForCausalLM

    import itlens

    config = shape_135m(1)
    config.hidden_size, config.intermediate_size, config.num_attention_heads, config.num_key_value_heads = 8, 8, 1, 1
    config.head_dim, config.vocab_size = 8, 1000
    return itlens.load_model(LlamaForCausalLM(config), tokenizer=word_tokenizer(), check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=None, help="keep the checkpoint here")
    parser.add_argument("--measure", choices=("hooked", "bridge", "reference"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        folder = str(args.folder)
        return measure_reference(folder) if args.measure == "reference" else measure_itlens(folder, args.measure)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch) / "base"
        if not (folder / "config.json").exists():
            make(folder)
        for which in ("reference", "hooked", "bridge"):
            command = [sys.executable, __file__, "--folder", str(folder), "--measure", which]
            subprocess.run(command, check=True)
    return None


if __name__ == "__main__":
    main()
