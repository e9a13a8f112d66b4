"""Finding 3 of Wu et al. (NAACL 2024): did tuning turn what feed-forward layers know, and how far?

A layer's concepts are the principal components of its neurons' value vectors, in words. Prints angles and overlaps per
layer beside random subspaces and a noise floor (neurons drawn anew), and concepts gained and lost, for any pair.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
import xarray as xr

import itlens
from itlens import demo

TABLES = {
    "Overlap (1: the same space)": ["overlap", "random_overlap", "random_high", "floor_base", "floor_tuned"],
    "Mean principal angle in radians": ["mean_angle", "random_mean_angle", "floor_angle_base", "floor_angle_tuned"],
    "Flags; the tuned model's variance in the base's space": ["below_floor", "degenerate", "transfer_base"],
}
WORDS, SHOWN = ["layer", "component", "explained", "match_cosine", "inside", "words"], 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Did tuning turn the concepts of feed-forward layers?")
    parser.add_argument("--base", help="pre-trained model: folder, .gguf file or hub id (default: the embedded pair)")
    parser.add_argument("--tuned", help="its tuned self")
    parser.add_argument("--adapter", help="a PEFT adapter that makes the tuned model; --tuned may then be left out")
    parser.add_argument("--vocabulary", default="builtin", help="builtin, or a text or TSV file, most frequent first")
    parser.add_argument("--side", default="value", help="value (what neurons write), key or gate (what they look for)")
    parser.add_argument("--components", type=int, help="concepts per layer (default: 300, or as many as there are)")
    parser.add_argument("--resamples", type=int, default=10, help="draws of the neurons for the noise floor; 0: none")
    parser.add_argument("--out", type=Path, default=Path("runs/finding3"), help="folder for the results")
    asked = parser.parse_args()
    if (asked.base is None) != (asked.tuned is None and asked.adapter is None):
        parser.error("--base goes with --tuned or --adapter: give both, or neither for the embedded pair")
    if asked.base is None:
        asked.base, asked.tuned = demo.base_path(), demo.tuned_path()
    return asked


def probe(asked: argparse.Namespace) -> dict[str, xr.Dataset]:
    words = itlens.Vocabulary.load(asked.vocabulary)
    pair = itlens.load_pair(asked.base, asked.tuned, adapter=asked.adapter)
    options = {name: getattr(asked, name) for name in ("side", "components", "resamples")}
    return {which: itlens.mlp_concepts(getattr(pair, which), words, **options) for which in ("base", "tuned")}


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False, float_format=lambda x: f'{x:.3g}', na_rep='')}")


def main() -> int:
    asked = arguments()
    try:
        concepts = probe(asked)
        turned = itlens.diff.concepts(**concepts)
        changes = itlens.diff.concept_changes(**concepts, words=8)
        for name, result in {**concepts, "turned": turned, "changes": changes}.items():
            itlens.save(result, asked.out / f"{name}.{'parquet' if name == 'changes' else 'nc'}")
    except itlens.ItlensError as error:
        print(f"finding 3: {error}", file=sys.stderr)
        return 2
    print(itlens.diff.concepts_verdict(turned))
    for k in turned["k"].values:
        for title, names in TABLES.items():
            show(f"First {k} concepts. {title}", turned.sel(k=k)[names].to_dataframe().reset_index()[["layer", *names]])
    show("Concepts by their words", pd.crosstab(changes["layer"], changes["status"], dropna=False).reset_index())
    for status, words in (("gained", "words_tuned"), ("lost", "words_base")):
        first = changes[changes["status"] == status].nlargest(SHOWN, "explained")
        show(f"Strongest concepts {status}", first.assign(words=first[words])[WORDS])
    print(f"\nResults: {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
