"""How much faster are two workers of a Ray cluster than one?

The same study (attribution of the embedded pair: models of three million parameters, which do not wait for memory) on a
cluster of one worker and on one of two, in turns, on this machine.
What is timed is the steady work: from the first result of a model to its last, without starting, loading and tables.
One thread for each worker. The ratio is (units a second of two) / (units a second of one); other load on the machine
makes it meaningless, so the load is printed too.

    python benchmarks/cluster_speed.py [--prompts 40] [--max-new-tokens 32] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in the workers

import itlens
from itlens.findings.base import SIDES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    ratios = []
    for number in range(args.rounds):
        one, two = (units_per_second(workers, args.prompts, args.max_new_tokens) for workers in (1, 2))
        ratios.append(two / one)
        print(f"round {number + 1}: one worker {one:.2f} units/s, two {two:.2f} units/s, ratio {two / one:.2f}")
    print(f"two workers / one worker: {statistics.median(ratios):.2f} (median of {len(ratios)})")


def units_per_second(workers: int, prompts: int, max_new_tokens: int) -> float:
    """Run the study on a new cluster; units a second while all workers work."""
    import ray

    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = itlens.compare(
                itlens.demo.base_path(),
                itlens.demo.tuned_path(),
                "demo",
                "attribution",
                Path(folder) / "run",
                executor="ray",
                limit=prompts,
                max_new_tokens=max_new_tokens,
                progress=False,
            )
            return statistics.mean(rate(found.out / "attribution" / side, workers) for side in SIDES)
    finally:
        ray.shutdown()


def rate(folder: Path, workers: int) -> float:
    """Units a second between the first results (one of each worker) and the last one."""
    times = sorted(path.stat().st_mtime for path in folder.iterdir())[workers - 1 :]
    return (len(times) - 1) / (times[-1] - times[0])


if __name__ == "__main__":
    main()
