"""Finding 3 of Wu et al. (NAACL 2024): how far did tuning turn what feed-forward layers know, and toward user tasks?

Angles beside random subspaces and noise; the paper's table 5 and figure 3 by word lists, tested; concepts in words.
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
    return asked


def compare(asked: argparse.Namespace) -> tuple[xr.Dataset, pd.DataFrame, pd.DataFrame]:
    names = (asked.base, asked.tuned) if asked.base else (demo.base_path(), demo.tuned_path())
    pair, words = itlens.load_pair(*names, adapter=asked.adapter), itlens.Vocabulary.load(asked.vocabulary)
    options = {name: getattr(asked, name) for name in ("side", "components", "resamples")}
    both = {which: itlens.mlp_concepts(getattr(pair, which), words, **options) for which in ("base", "tuned")}
    count = min(50, both["base"].sizes["component"])
    labels = {f"{which}_labels": itlens.annotate_concepts(ds, components=count) for which, ds in both.items()}
    turned, changes = itlens.diff.concepts(**both), itlens.diff.concept_changes(**both, words=6)
    shares = itlens.diff.concept_shares(**labels)
    for name, found in {**both, **labels, "turned": turned, "changes": changes, "shares": shares}.items():
        itlens.save(found, asked.out / f"{name}.{'nc' if isinstance(found, xr.Dataset) else 'parquet'}")
    return turned, changes, shares


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False, float_format=lambda x: f'{x:.3g}', na_rep='')}")


def main() -> int:
    try:
        turned, changes, shares = compare(asked := arguments())
    except itlens.ItlensError as error:
        print(f"finding 3: {error}", file=sys.stderr)
        return 2
    print(itlens.diff.concepts_verdict(turned, shares))
    for k in turned["k"].values:
        for title, names in TABLES.items():
            show(f"First {k} concepts. {title}", turned.sel(k=k)[names].to_dataframe().reset_index()[["layer", *names]])
    show("Table 5. Shares of tasks", shares.query("group == 'all' and kind != 'level'").loc[:, "category":"p_holm"])
    show("Figure 3. Shares of levels", shares.query("kind == 'level'").drop(columns="kind").loc[:, :"p_holm"])
    show("Concepts by their words", pd.crosstab(changes["layer"], changes["status"], dropna=False).reset_index())
    for status in ("gained", "lost"):
        show(f"Strongest concepts {status}", changes[changes["status"] == status].nlargest(10, "explained")[WORDS])
    print(f"\nResults: {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
