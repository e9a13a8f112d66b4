"""Make the pages of docs/gallery/ from what the package ships: python scripts/make_gallery.py [NAME ...]

1. pair: the embedded base and tuned model, every finding, on the tuned model's responses. 2. template: the same two
models with and without the chat template. 3. between: models on the way from base to tuned, and beyond. 4. smollm2: a
real model and the adapter that `scripts.gallery_pair` trains into runs/smollm2/ first; without them it is left out.
Few prompts, so that each takes minutes. A page of several comparisons links to the report of each; those are not in the
gallery, so that their names stay and the links go. Studies are made in runs/gallery/, and a second call computes
nothing again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import itlens

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "gallery"
RUNS = Path("runs") / "gallery"
LARGEST = {"smollm2": 5_000_000}  # bytes; any other page 2 MB
SMOLLM2 = Path("runs") / "smollm2"
BASE, TUNED = itlens.demo.base_path(), itlens.demo.tuned_path()
NOW = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def small_page() -> dict[str, Any]:
    """Return options that keep a page small: fewer words and concepts than usual."""
    return {
        "vocabulary": itlens.Vocabulary.load("builtin", size=3000),
        "top_k": 12,
        "concept_vectors": "value",
        "components": 20,
        "concept_words": 12,
        "rendered_at": NOW,
    }


def pair() -> Path:
    """Compare the embedded pair by every finding."""
    comparison = itlens.compare(
        BASE,
        TUNED,
        "demo",
        out=RUNS / "pair",
        labels=("demo base", "demo tuned"),
        limit=20,
        max_new_tokens=16,
        responses="tuned",
        **small_page(),
    )
    return comparison.report_path


def template() -> Path:
    """Separate the weights from the chat template, by the instruction score."""
    effects = itlens.compare_templates(
        BASE,
        TUNED,
        "demo",
        out=RUNS / "template",
        labels=("demo base", "demo tuned"),
        probes="attribution",
        limit=20,
        max_new_tokens=16,
        rendered_at=NOW,
    )
    return effects.report_path


def between() -> Path:
    """Go from base to tuned in steps, and a quarter beyond; all models read the base's responses."""
    series = itlens.compare_series(
        [BASE, TUNED],
        "demo",
        out=RUNS / "between",
        interpolate=[0, 0.25, 0.5, 0.75, 1, 1.25],
        probes="attribution",
        responses="base",
        limit=20,
        max_new_tokens=16,
    )
    return series.report_path


def smollm2() -> Path:
    """Compare SmolLM2-135M-Instruct with itself tuned on the demo's instructions, both in its chat template."""
    comparison = itlens.compare(
        SMOLLM2 / "SmolLM2-135M-Instruct",
        adapter=SMOLLM2 / "adapter",
        prompts="demo",
        probes=[name for name in itlens.findings() if name != "patching"],  # 270 heads take longer than all the rest
        out=RUNS / "smollm2",
        labels=("SmolLM2-135M-Instruct", "the same, tuned on the demo"),
        format="chat",
        limit=12,
        max_new_tokens=16,
        responses="tuned",
        **small_page(),
    )
    return comparison.report_path


PAGES: dict[str, Callable[[], Path]] = {"pair": pair, "template": template, "between": between, "smollm2": smollm2}


def without_links_to_other_reports(page: str) -> str:
    """Return the page with the names of reports that are not in the gallery instead of links to them."""
    return re.sub(r'<a\b[^>]*\bhref="[^"#:]+/report\.html"[^>]*>(.*?)</a>', r"\1", page, flags=re.DOTALL)


def main() -> None:
    """Make all pages, or those named."""
    OUT.mkdir(exist_ok=True)
    names = sys.argv[1:] or [name for name in PAGES if name != "smollm2" or (SMOLLM2 / "adapter").exists()]
    for name in names:
        page = without_links_to_other_reports(PAGES[name]().read_text(encoding="utf-8"))
        (OUT / f"{name}.html").write_text(page, encoding="utf-8")
    sizes = {path.name: path.stat().st_size for path in sorted(OUT.glob("*.html"))}
    print(sizes, sum(sizes.values()), "bytes, itlens", itlens.__version__)
    if large := [name for name, size in sizes.items() if size > LARGEST.get(Path(name).stem, 2_000_000)]:
        raise SystemExit(f"Too large for the gallery: {', '.join(large)}; take fewer words, concepts or prompts.")


if __name__ == "__main__":
    main()
