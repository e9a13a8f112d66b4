"""Finding 1 of Wu et al. (NAACL 2024): does tuning make a model lean more on the instruction of its prompt?

Both models answer every prompt; input x gradient says which prompt tokens drive the response; the importance density of
the instruction is the score, compared prompt by prompt. Prints the tables; --out gets the results, a report and figures
that need no network. Without arguments: the embedded pair on its own prompts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

import itlens
from itlens import demo, views
from itlens.files import write_text

SCORES = ["group", "n", "base_mean", "tuned_mean", "difference", "ci_low", "ci_high", "effect_size"]
TESTS = ["t_paired", "p_paired", "p_holm", "p_wilcoxon", "t_welch", "p_welch", "note"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Does tuning make the model lean more on the instruction?")
    parser.add_argument("--base", help="pre-trained model: folder, .gguf file or hub id (default: the embedded pair)")
    parser.add_argument("--tuned", help="its tuned version")
    parser.add_argument("--prompts", help="builtin, demo, or a .jsonl or .tsv file")
    parser.add_argument("--out", type=Path, default=Path("runs/finding1"), help="folder for results and figures")
    parser.add_argument("--limit", type=int, help="number of prompts, from the first")
    parser.add_argument(
        "--max-new-tokens", type=int, default=200, help="of a response; at most 32 for the embedded pair"
    )
    args = parser.parse_args()
    if (args.base is None) != (args.tuned is None):
        parser.error("--base and --tuned belong together: give both, or neither for the embedded pair")
    if args.base is None:
        args.base, args.tuned, args.prompts = demo.base_path(), demo.tuned_path(), args.prompts or "demo"
        args.max_new_tokens = min(args.max_new_tokens, 32)  # its answers are words and short phrases
    return args


def draw(comparison: itlens.Comparison, folder: Path) -> None:
    diff, base, tuned = comparison.diff, comparison.base, comparison.tuned
    prompt = next(prompt for prompt in comparison.prompts if prompt.id in base)
    shown = {"scores": diff.prompts, "groups": diff.groups, "profile": diff.profile, "sensitivity": diff.sensitivity}
    for name, result in shown.items():
        write_text(folder / f"{name}.html", getattr(views, name)(result).to_html(include_plotlyjs=True))
    write_text(folder / "tokens.html", views.token_pair(base[prompt.id], tuned[prompt.id], prompt).html)


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False, float_format=lambda x: f'{x:.3g}', na_rep='')}")


def main() -> int:
    args = arguments()
    options = {"out": args.out, "limit": args.limit, "max_new_tokens": args.max_new_tokens}
    try:
        comparison = itlens.compare(args.base, args.tuned, args.prompts or "builtin", probes="attribution", **options)
        draw(comparison, args.out / "figures")
    except itlens.ItlensError as error:
        print(f"finding 1: {error}", file=sys.stderr)
        return 2
    print(comparison.verdict)
    show("Instruction score, base against tuned", comparison.diff.groups[SCORES])
    show("Tests (paired; Holm over groups; the paper's unpaired Welch)", comparison.diff.groups[["group", *TESTS]])
    show("At equal response length", comparison.diff.equal_length[[*SCORES, "p_paired", "note"]])
    show("With response lengths as controls (intercept: tuned against base)", comparison.diff.regression)
    grid = comparison.diff.sensitivity[["difference", "p_paired"]].to_dataframe().unstack("power")
    show("Sensitivity to the cut-off b (down) and the power p (across)", grid.reset_index(names="b"))
    if comparison.diff.ratings is not None:
        show("Followed against unfollowed instructions", comparison.diff.ratings)
    print("\n" + "".join(f"Note: {note}\n" for note in comparison.notes) + f"Figures and report: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
