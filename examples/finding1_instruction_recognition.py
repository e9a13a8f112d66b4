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
from itlens.store import write_text

SCORES = ["group", "n", "base_mean", "tuned_mean", "difference", "ci_low", "ci_high", "effect_size"]
TESTS = ["t_paired", "p_paired", "p_holm", "p_wilcoxon", "t_welch", "p_welch", "note"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Does tuning make the model lean more on the instruction?")
    parser.add_argument("--base", help="pre-trained model: folder, .gguf file or hub id (default: the embedded pair)")
    parser.add_argument("--tuned", help="its tuned self")
    parser.add_argument("--prompts", help="builtin, demo, or a .jsonl or .tsv file")
    parser.add_argument("--out", type=Path, default=Path("runs/finding1"), help="folder for results and figures")
    parser.add_argument("--limit", type=int, help="only the first so many prompts")
    parser.add_argument(
        "--max-new-tokens", type=int, default=200, help="of a response; at most 32 for the embedded pair"
    )
    asked = parser.parse_args()
    if (asked.base is None) != (asked.tuned is None):
        parser.error("--base and --tuned belong together: give both, or neither for the embedded pair")
    if asked.base is None:
        asked.base, asked.tuned, asked.prompts = demo.base_path(), demo.tuned_path(), asked.prompts or "demo"
        asked.max_new_tokens = min(asked.max_new_tokens, 32)  # its answers are words and short phrases
    return asked


def draw(found: itlens.Comparison, folder: Path) -> None:
    diff, prompt = found.diff, next(prompt for prompt in found.prompts if prompt.id in found.base)
    shown = {"scores": diff.prompts, "groups": diff.groups, "profile": diff.profile, "sensitivity": diff.sensitivity}
    for name, result in shown.items():
        write_text(folder / f"{name}.html", getattr(views, name)(result).to_html(include_plotlyjs=True))
    write_text(folder / "tokens.html", views.token_pair(found.base[prompt.id], found.tuned[prompt.id], prompt).html)


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False, float_format=lambda x: f'{x:.3g}', na_rep='')}")


def main() -> int:
    asked = arguments()
    options = {"out": asked.out, "limit": asked.limit, "max_new_tokens": asked.max_new_tokens}
    try:
        found = itlens.compare(asked.base, asked.tuned, asked.prompts or "builtin", probes="attribution", **options)
        draw(found, asked.out / "figures")
    except itlens.ItlensError as error:
        print(f"finding 1: {error}", file=sys.stderr)
        return 2
    print(found.verdict)
    show("Importance density of the instruction, base against tuned", found.diff.groups[SCORES])
    show("Tests (paired; Holm over groups; the paper's unpaired Welch)", found.diff.groups[["group", *TESTS]])
    show("At equal response length", found.diff.equal_length[[*SCORES, "p_paired", "note"]])
    show("With response lengths as controls (intercept: tuned against base)", found.diff.regression)
    grid = found.diff.sensitivity[["difference", "p_paired"]].to_dataframe().unstack("power")
    show("Sensitivity to the cut-off b (down) and the power p (across)", grid.reset_index(names="b"))
    if found.diff.ratings is not None:
        show("Followed against unfollowed instructions", found.diff.ratings)
    print("\n" + "".join(f"Note: {note}\n" for note in found.notes) + f"Figures and report: {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
