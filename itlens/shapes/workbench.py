"""What a benchmark measures with: processor time in turns, the peak of memory, the machine's matrix products.

Processor time (of all threads) is what other programs disturb least; ratios are taken within one run, its ways measured
in turns, and medians over rounds given. Times by the clock are never compared. The PEAK of the machine is the rate of
float32 products of two square matrices. The peak of memory is that of Linux (VmHWM), counted above what the process
held before; elsewhere there is none.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from itlens.models import HookedModel, load_model
from itlens.shapes.checkpoint import write_pair
from itlens.shapes.model_shapes import LLAMA_1B, LLAMA_7B, SMOLLM2_135M, ModelShape
from itlens.weights.stored import StoredWeights, open_weights

_SQUARE = 1536  # rows of the matrices whose product is the machine's peak
_HALF_LAYERS, _HALF_WORDS = 6, 26_000


class Measured(NamedTuple):
    """Processor seconds, bytes above what was held before (None where they cannot be told), and what came back."""

    seconds: float
    memory: int | None
    value: Any


class Workbench:
    """Sizes, models and clocks of one run of benchmarks; a context that removes its files.

    full: the whole shapes (135M of all layers, 7B), else smaller ones that take a few minutes together. rounds: how
    often ways that are compared take turns. threads: of torch. rate: the machine's peak, in operations a second of
    processor time of one thread.
    """

    def __init__(self, *, full: bool = False, rounds: int = 2, threads: int = 1) -> None:
        self.full, self.rounds, self.threads = full, rounds, threads
        self.words = _HALF_WORDS
        self.small: ModelShape = SMOLLM2_135M
        self.small_layers = SMOLLM2_135M.layers if full else _HALF_LAYERS
        self.large: ModelShape = LLAMA_7B if full else LLAMA_1B
        self._files = ExitStack()
        self._pairs: dict[tuple[str, int], tuple[Path, Path]] = {}
        self.rate = 0.0

    def __enter__(self) -> Workbench:
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        self.rate = self._measured_rate()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()
        torch.set_num_threads(self._threads_before)

    def seconds(self, run: Callable[[], object]) -> float:
        """Return the processor time of all threads that a call takes."""
        start = time.process_time()
        run()
        return time.process_time() - start

    def in_turns(self, ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        """Return the median processor time of each way; they take turns, `rounds` times."""
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(self.rounds):
            for name, run in ways.items():
                taken[name].append(self.seconds(run))
        return {name: statistics.median(seconds) for name, seconds in taken.items()}

    def operations(self, run: Callable[[], object]) -> tuple[float, dict[str, float]]:
        """Return the processor time of a call, and that of each of torch's operations in it by name ("mm", "topk")."""
        with _OperationTimes() as times:
            seconds = self.seconds(run)
        return seconds, dict(times.spent)

    def measured(self, run: Callable[[], Any]) -> Measured:
        """Return processor time, memory and value of a call."""
        before = _reset_peak()
        start = time.process_time()
        value = run()
        seconds = time.process_time() - start
        return Measured(seconds, None if before is None else max(0, _status("VmHWM:") - before), value)

    def pair(self, shape: ModelShape, layers: int) -> tuple[StoredWeights, StoredWeights]:
        """Return the weights of a base and a tuned checkpoint with random values, written for this run, in bfloat16."""
        if (shape.name, layers) not in self._pairs:
            folder = self._files.enter_context(tempfile.TemporaryDirectory(prefix="itlens-bench-"))
            self._pairs[shape.name, layers] = write_pair(folder, shape, layers)
        base, tuned = (open_weights(path, device="cpu") for path in self._pairs[shape.name, layers])
        return base, tuned

    def model(self, shape: ModelShape, layers: int, **options: Any) -> HookedModel:
        """Return a loaded model of random values. options: of `load_model`."""
        settings: dict[str, Any] = {"tokenizer": shape.tokenizer(), "check": False, "device": "cpu"} | options
        return load_model(shape.hf_model(layers), **settings)

    def machine(self) -> dict[str, Any]:
        """Return what figures depend on: processor, threads, memory, versions, and the peak in GFLOP/s."""
        return {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": self.threads,
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "matrix_products_gflops": round(self.rate / 1e9, 1),
            "system": platform.system(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        }

    def _measured_rate(self) -> float:
        matrix = torch.randn(_SQUARE, _SQUARE)
        matrix @ matrix
        seconds = statistics.median(self.seconds(lambda: matrix @ matrix) for _ in range(5))
        return 2 * _SQUARE**3 / max(seconds, 1e-9)


class _OperationTimes(TorchDispatchMode):
    """Adds up the processor time of every operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.spent: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.process_time()
        found = func(*args, **(kwargs or {}))
        self.spent[func.overloadpacket.__name__] += time.process_time() - start
        return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _status(field: str) -> int:
    """Return a field of this process' status in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def _reset_peak() -> int | None:
    """Set the peak of memory back to what is held now, and return that; None where the system keeps none."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _status("VmRSS:")
    except OSError:
        return None
