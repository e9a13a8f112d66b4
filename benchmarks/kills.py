"""Is anything lost, or computed twice, when a study is killed a hundred times?

A study of 200 units (attribution of the embedded pair on 100 prompts, both models) runs in a process that is killed
with SIGKILL at a random moment: while models load, within a unit, while a file is written, or while tables and the
report are made. The same call starts it again, a hundred times, and once more until it ends. After each kill every
result that was there before must still be the same file (inode and time of writing): none lost, none computed again.
In the end every result, response and table must be bit for bit what a run without interruption wrote.

    python benchmarks/kills.py [--kills 100] [--prompts 100] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; forked processes share no threads

import itlens
import itlens.study
from itlens.models import load_model

UNITS = ("attribution/base/*.nc", "attribution/tuned/*.nc")
KEPT = (*UNITS, "responses/*/*.json", "tables/*")
_MOST = 4  # units that a process gets done before the kill, at most


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    load_model(itlens.demo.base_path())  # imports what every forked process needs
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        started = time.perf_counter()
        if os.waitstatus_to_exitcode(os.waitpid(start(whole, args.prompts), 0)[1]):
            return 1
        print(f"without interruption: {len(list(files(whole, UNITS)))} units, {time.perf_counter() - started:.0f} s")
        again, lost, ends = kill_often(killed, args.prompts, args.kills, random.Random(args.seed))
        if os.waitstatus_to_exitcode(os.waitpid(start(killed, args.prompts), 0)[1]):
            return 1
        different = differences(whole, killed)
    print(f"{args.kills} kills: {', '.join(f'{count} {moment}' for moment, count in ends.items())}")
    print(f"units computed again after they were there: {len(again)}; lost: {len(lost)}; other files: {different}")
    return 1 if again or lost or different else 0


def start(out: Path, prompts: int) -> int:
    """Start the study in a forked process; its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with Path(os.devnull).open("w") as quiet:
            os.dup2(quiet.fileno(), 1)
            pair = itlens.demo.base_path(), itlens.demo.tuned_path()
            itlens.compare(*pair, "demo", "attribution", out, limit=prompts, max_new_tokens=4, progress=False)
        code = 0
    finally:
        os._exit(code)


def kill_often(out: Path, prompts: int, kills: int, chance: random.Random) -> tuple[set[str], set[str], dict[str, int]]:
    """Start and kill; units that were computed again, units that were lost, and how many kills came at what moment."""
    again: set[str] = set()
    lost: set[str] = set()
    moments = {"before a unit was done": 0, "between or within units": 0, "at the tables or the report": 0}
    known: dict[str, tuple[int, int]] = {}
    for number in range(kills):
        child, before = start(out, prompts), len(known)
        done = wait_for(out, before + chance.randint(0, _MOST), 2 * prompts, child)
        time.sleep(chance.uniform(0, 0.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = dict(files(out, UNITS))
        again |= {name for name in known if name in found and found[name] != known[name]}
        lost |= set(known) - set(found)
        known = found
        moment = 2 if done >= 2 * prompts else 1 if len(found) > before else 0
        moments[list(moments)[moment]] += 1
        print(f"\r{number + 1} kills, {len(found)} units", end="", file=sys.stderr)
    print(file=sys.stderr)
    return again, lost, moments


def wait_for(out: Path, units: int, most: int, child: int) -> int:
    """Wait until there are so many units, at most all of them, or until the process has ended; how many there are."""
    while (count := sum(1 for _ in files(out, UNITS))) < min(units, most):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return count
        time.sleep(0.01)
    return count


def files(out: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, int]]]:
    """The files of a run folder that match, each with its inode and the time it was written."""
    for pattern in patterns:
        for path in sorted(out.glob(pattern)):
            found = path.stat()
            yield path.relative_to(out).as_posix(), (found.st_ino, found.st_mtime_ns)


def differences(whole: Path, killed: Path) -> list[str]:
    """Names of results, responses and tables that one run has and the other has not, or with other bytes."""
    names = {name for folder in (whole, killed) for name, _ in files(folder, KEPT)}
    return [name for name in sorted(names) if content(whole / name) != content(killed / name)]


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
