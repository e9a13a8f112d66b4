"""Finding 3 of Wu et al. (NAACL 2024): did tuning rotate what feed-forward layers write and read, toward user tasks?

Angles, with random subspaces and noise; the paper's table 5 and figure 3 by word lists, tested; concepts in words.
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
WORDS = ["layer", "component", "explained", "match_cosine", "inside", "words_base", "words_tuned"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Did tuning rotate the concepts of feed-forward layers?")
    parser.add_argument("--base", help="pre-trained model: folder, .gguf file or hub id (default: the embedded pair)")
    parser.add_argument("--tuned", help="its tuned version")
    parser.add_argument("--adapter", help="a PEFT adapter that makes the tuned model; --tuned may then be left out")
    parser.add_argument("--vocabulary", default="builtin", help="builtin, or a text or TSV file, most frequent first")
    parser.add_argument("--vectors", "--side", default="value", help="value (what neurons write), key or gate")
    parser.add_argument("--components", type=int, help="concepts per layer (default: 300, or as many as there are)")
    parser.add_argument("--resamples", type=int, default=10, help="draws of the neurons for the noise floor; 0: none")
    parser.add_argument("--out", type=Path, default=Path("runs/finding3"), help="folder for the results")
    args = parser.parse_args()
    if (args.base is None) != (args.tuned is None and args.adapter is None):
        parser.error("--base goes with --tuned or --adapter: give both, or neither for the embedded pair")
    return args


def compare(args: argparse.Namespace) -> tuple[xr.Dataset, pd.DataFrame, pd.DataFrame]:
    names = (args.base, args.tuned) if args.base else (demo.base_path(), demo.tuned_path())
    pair, words = itlens.load_pair(*names, adapter=args.adapter), itlens.Vocabulary.load(args.vocabulary)
    options = {name: getattr(args, name) for name in ("vectors", "components", "resamples")}
    both = {which: itlens.mlp_concepts(getattr(pair, which), words, **options) for which in ("base", "tuned")}
    count = min(50, both["base"].sizes["component"])
    labels = {f"{which}_labels": itlens.annotate_concepts(ds, components=count) for which, ds in both.items()}
    rotation, changes = itlens.diff.concepts(**both), itlens.diff.concept_changes(**both, words=6)
    shares = itlens.diff.concept_shares(**labels)
    for name, result in {**both, **labels, "turned": rotation, "changes": changes, "shares": shares}.items():
        itlens.save(result, args.out / f"{name}.{'nc' if isinstance(result, xr.Dataset) else 'parquet'}")
    return rotation, changes, shares


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False, float_format=lambda x: f'{x:.3g}', na_rep='')}")


def main() -> int:
    try:
        rotation, changes, shares = compare(args := arguments())
    except itlens.ItlensError as error:
        print(f"finding 3: {error}", file=sys.stderr)
        return 2
    print(itlens.diff.concepts_verdict(rotation, shares))
    for k in rotation["k"].values:
        for title, names in TABLES.items():
            show(f"First {k} concepts. {title}", rotation.sel(k=k)[names].to_dataframe()[names].reset_index())
    show("Table 5. Shares of tasks", shares.query("group == 'all' and kind != 'level'").loc[:, "category":"p_holm"])
    show("Figure 3. Shares of levels", shares.query("kind == 'level'").drop(columns="kind").loc[:, :"p_holm"])
    show("Concepts by their words", pd.crosstab(changes["layer"], changes["status"], dropna=False).reset_index())
    for status in ("gained", "lost"):
        show(f"Strongest concepts {status}", changes[changes["status"] == status].nlargest(10, "explained")[WORDS])
    print(f"\nResults: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
