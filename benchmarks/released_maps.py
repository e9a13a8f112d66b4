"""The tables of finding 1 from the authors' released maps, next to the reference values.

    python benchmarks/released_maps.py --data DIR

DIR holds FinalDataset.tsv (prompts and instruction spans), AnnotatedDataset.tsv (ratings), and the folders vicuna_7b
and llama_7b of released .pkl maps. The references give population standard deviations (n), itlens' tables those of a
sample (n - 1); the strict reading of white space (a token of nothing else belongs to no span) is what reproduces them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import itlens
from itlens.results.released import with_prompt

_TOLERANCE = 0.012


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    started = time.perf_counter()
    ratings = {p.id: p.rating for p in itlens.load_prompts(folder / "AnnotatedDataset.tsv")}
    prompts = [p.replace(rating=ratings.get(p.id)) for p in itlens.load_prompts(folder / "FinalDataset.tsv")]
    sides = [
        {p.id: with_prompt(itlens.load(folder / model / f"{p.id}.pkl"), p) for p in prompts}
        for model in ("llama_7b", "vicuna_7b")
    ]
    diff = itlens.diff.attributions(*sides, prompts)
    took = time.perf_counter() - started
    rated, row = diff.ratings.iloc[0], diff.groups.iloc[0]
    values = [
        ("followed: mean", 1.462, rated["followed_mean"]),
        ("followed: std", 0.543, rated["followed_std"] * _population(rated["followed_n"])),
        ("unfollowed: mean", 0.926, rated["unfollowed_mean"]),
        ("unfollowed: std", 0.535, rated["unfollowed_std"] * _population(rated["unfollowed_n"])),
        ("followed > unfollowed: Welch t", 3.71, rated["t_welch"]),
        ("followed > unfollowed: p", 4e-4, rated["p_welch"]),
        ("tuned: mean", 1.346, row["tuned_mean"]),
        ("tuned: std", 0.595, row["tuned_std"] * _population(row["n"])),
        ("pre-trained: mean", 1.174, row["base_mean"]),
        ("pre-trained: std", 0.575, row["base_std"] * _population(row["n"])),
        ("tuned > pre-trained: Welch p", 0.033, row["p_welch"]),
        ("tuned - pre-trained: paired t", 2.88, row["t_paired"]),
    ]
    print(f"{'':34s}{'reference':>12s}{'itlens':>12s}")
    for name, reference, value in values:
        print(f"{name:34s}{reference:12.4g}{value:12.4g}")
    print(f"\nn = {int(rated['followed_n'])} followed, {int(rated['unfollowed_n'])} unfollowed, {int(row['n'])} pairs")
    print(f"{took:.1f} s\n\n{diff}\n\n{diff.equal_length.drop(columns='note').head(1).T}\n\n{diff.regression}")
    print(f"\n{diff.sensitivity.p_paired.to_pandas().round(4)}")
    return int(any(abs(v - r) > _TOLERANCE for name, r, v in values if name.endswith(("mean", "std"))))


def _population(n: int) -> float:
    return float(np.sqrt((n - 1) / n))


if __name__ == "__main__":
    raise SystemExit(main())
