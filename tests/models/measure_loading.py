"""How much memory loading takes, and what the memory layout saves: a script, not a test.

`python -m tests.models.measure_loading` makes a random Llama of 135M parameters (0.5 GB in float32, untied 0.65 GB),
loads it in fresh processes and prints the peak of resident memory above that of the imported libraries, as a multiple
of the weights; then one forward pass of 96 tokens in the ordinary layout, in ours, and in Hugging Face, in turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from itlens.models import load_model
from tests.tiny import tiny_folder

SHAPE: dict[str, Any] = {
    "hidden_size": 576,
    "head_dim": 64,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
    "scale": 0.04,
}


def memory(word: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS now, VmHWM at its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(word)) * 1024


def load_alone(folder: Path, small: Path, backend: Any, dtype: str) -> None:
    """In a process of its own: peak memory of one load above the libraries', as a multiple of the weights."""
    load_model(small, backend=backend, dtype=dtype)  # so that every library is imported
    before = memory("VmRSS")
    model = load_model(folder, backend=backend, dtype=dtype)
    tensors = {p.data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}
    size = model.itlens_source.parameters * next(model.parameters()).element_size()
    peak, after = memory("VmHWM") - before, memory("VmRSS") - before
    ratio = f"peak {peak / size:.2f}x, afterwards {after / size:.2f}x"
    print(f"{backend:7} {dtype:9} weights {size / 2**20:.0f} MiB: {ratio} ({len(tensors)} tensors)")


def times(folder: Path) -> None:
    """Processor seconds (one thread; other programs do not count) of a forward pass over 96 tokens, in turns."""
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    ours, ordinary = load_model(folder), load_model(folder)
    for parameter in ordinary.parameters():
        parameter.data = parameter.data.contiguous()
    reference = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    tokens = torch.randint(3, 300, (1, 96))
    runs = {"ordinary layout": ordinary, "our layout": ours, "Hugging Face": reference}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for _ in range(6):
            for name, model in runs.items():
                started = time.process_time()
                model(tokens)
                taken[name].append(time.process_time() - started)
    for name, seconds in taken.items():
        print(f"{name:16} {1000 * median(seconds):.0f} ms (fastest {1000 * min(seconds):.0f} ms)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alone", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        folder, small, backend, dtype = arguments.alone
        load_alone(Path(folder), Path(small), backend, dtype)
        return
    with tempfile.TemporaryDirectory() as temporary:
        small = tiny_folder(Path(temporary) / "small", "llama")
        folders = {
            name: tiny_folder(Path(temporary) / name, "llama", tie_word_embeddings=name == "tied", **SHAPE)
            for name in ("tied", "untied")
        }
        cases = (("untied", "hooked", "float32"), ("tied", "hooked", "float32"), ("tied", "hooked", "bfloat16"))
        for name, backend, dtype in (*cases, ("tied", "bridge", "float32")):
            command = [sys.executable, "-m", "tests.models.measure_loading", "--alone"]
            print(name, end=" ", flush=True)
            subprocess.run([*command, str(folders[name]), str(small), backend, dtype], check=True)
        times(folders["tied"])


if __name__ == "__main__":
    main()
