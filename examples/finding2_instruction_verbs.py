"""Finding 2 of Wu et al. (NAACL 2024): do attention heads relate more words to instruction verbs after tuning?

A head's query and key weights say which words it brings together. Of the heads where tuning changed how many pairs hold
a verb, in what share did the number rise: for instruction verbs, and for others? Prints the paper's table 3 for any
pair, and permutation nulls next to it; --out gets results, a report and figures. Without arguments: the embedded pair.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
import xarray as xr

import itlens
from itlens import demo, views
from itlens.files import write_text

SHARES = ["heads", "changed_heads", "instruction_share", "instruction_std", "general_share", "general_std"]
TESTS = ["difference", "ci_low", "ci_high", "effect_size", "t_welch", "p_welch"]
NULLS = ["null_low", "null_high", "p_sets", "p_swap", "p_null"]
MOVED = ["layer", "head", "kept", "gained", "lost", "overlap", "instruction_change", "instruction_p_bh"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Do attention heads relate more words to instruction verbs?")
    parser.add_argument("--base", help="pre-trained model: folder, .gguf file or hub id (default: the embedded pair)")
    parser.add_argument("--tuned", help="its tuned version")
    parser.add_argument("--adapter", help="a PEFT adapter that makes the tuned model; --tuned may then be left out")
    parser.add_argument("--vocabulary", default="builtin", help="builtin, or a text or TSV file, most frequent first")
    parser.add_argument("--vectors", default="builtin", help="builtin, or a file of word vectors (.txt, .vec, .npz)")
    parser.add_argument("--top-k", type=int, default=100, help="words per head dimension, as queries and as keys")
    parser.add_argument("--lemmas", action="store_true", help="let inflected forms count with their verb")
    parser.add_argument("--out", type=Path, default=Path("runs/finding2"), help="folder for results and figures")
    args = parser.parse_args()
    if (args.base is None) != (args.tuned is None and args.adapter is None):
        parser.error("--base goes with --tuned or --adapter: give both, or neither for the embedded pair")
    if args.base is None:
        args.base, args.tuned = demo.base_path(), demo.tuned_path()
    return args


def draw(comparison: itlens.Comparison, words: xr.Dataset, folder: Path) -> None:
    for name, figure in {"heads": views.heads(words, changes=comparison.changes), "verbs": views.verbs(words)}.items():
        write_text(folder / f"{name}.html", figure.to_html(include_plotlyjs=True))
    for head in comparison.moved[["layer", "head"]].head(1).to_dict("records"):
        write_text(folder / "most_changed_head.html", views.word_pairs(*comparison.pairs.values(), **head).html)


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False, float_format=lambda x: f'{x:.3g}', na_rep='')}")


def main() -> int:
    args = arguments()
    options = {name: getattr(args, name) for name in ("adapter", "vocabulary", "vectors", "top_k", "out")}
    try:
        comparison = itlens.compare(args.base, args.tuned, probes="attention", **options)
        words = itlens.diff.word_pairs(comparison.pairs["base"], comparison.pairs["tuned"], lemmas=args.lemmas)
        draw(comparison, words, args.out / "figures")
    except itlens.ItlensError as error:
        print(f"finding 2: {error}", file=sys.stderr)
        return 2
    print(itlens.diff.pairs_verdict(words))
    groups = words[SHARES + TESTS + NULLS].to_dataframe().reset_index()
    show("Share of the changed heads where a verb's count rose, over verbs", groups[["group", *SHARES]])
    show("Instruction minus general verbs; Welch as in the paper, two-sided", groups[["group", *TESTS]])
    show("Nulls: random verb sets, base and tuned swapped in random heads", groups[["group", *NULLS]])
    verbs = itlens.diff.verb_changes(words).query("group == 'all' and kind == 'instruction'")
    show("Instruction verbs: heads in which the count rose and fell", verbs.drop(columns=["group", "kind"]).dropna())
    show("Heads that changed most", itlens.diff.moved_heads(words)[MOVED])
    print("\n" + "".join(f"Note: {note}\n" for note in comparison.notes) + f"Figures and report: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
