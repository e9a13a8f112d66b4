"""How large is the page of a pair of SmolLM2-135M's shape, and how soon is it there? Made of synthetic results.

30 layers of 9 heads, words with Zipf's frequencies out of 26,000, 100 prompts of 60 tokens with answers of 60, nine
findings. Each chapter has a map of all heads with texts, lines over layers, a table of 270 rows and cards, which is
about what a real chapter has. The panels of heads list 333 pairs of either model (what a page of 270 heads has room
for), those of layers 100 concepts of three kinds with 13 words; every prompt has coloured tokens, four have attention
patterns of twelve heads.

Printed: the size of the page (wanted: at most 8 MB), the first paint, and for every chapter the time from the click to
all that is near the window drawn (wanted: below 1 s each), in headless Chromium as the tests start it.

    python benchmarks/page_speed.py [--out page.html]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from itlens import views
from itlens.findings.activation.view_patterns import changed_patterns
from itlens.findings.activation.view_places import pattern_places
from itlens.prompts import Prompt
from itlens.report import theme
from itlens.report.blocks import Card, Figure, Panel, Table, guessed_columns
from itlens.report.explorer import Chapter, Explorer
from itlens.report.explorer_places import Place, PlaceNumber, PlaceWords
from itlens.report.head_grid import cells_of, head_map, layer_lines
from itlens.report.page_data import Page, Row, Section
from itlens.report.prompts import PromptAnswer, PromptEntry, PromptNumber, PromptsChapter
from itlens.report.render import render_page

LAYERS, HEADS, WORDS, PROMPTS, TOKENS = 30, 9, 26_000, 100, 60
PAIRS, CONCEPTS, OF_CONCEPT, KINDS = 333, 100, 13, ("value", "key", "gate")
NAMES = ("score", "pairs", "concepts", "activations", "shift", "patching", "weights", "depth", "faithful")
_PANEL = "document.querySelector('dialog.explorer .content').childElementCount > 0 && "
_PANEL += "document.getElementById('explorer-title').textContent"
THERE = {  # states of the page, and what is true once they are there
    "/head/15/4": f"{_PANEL} === 'Layer 15, head 4'",
    "/layer/15": f"{_PANEL} === 'Layer 15'",
    "/word/w1": f"{_PANEL}.includes('w1')",
    "/prompt/p0": "document.querySelector('.chosen .itlens-tokens')",
}
RNG = np.random.default_rng(0)
LEXICON = np.array([f"w{number:x}" for number in RNG.permutation(WORDS)], dtype=object)
_ODDS = np.cumsum(np.arange(1, WORDS + 1) ** -1.0)


def words(count: int) -> list[str]:
    return LEXICON[np.searchsorted(_ODDS, RNG.uniform(0, _ODDS[-1], count))].tolist()


def section(name: str) -> Section:
    values = RNG.standard_normal((LAYERS, HEADS))
    hover = [[f"L{i}H{j}<br>change {values[i, j]:.3f}<br>n = 100" for j in range(HEADS)] for i in range(LAYERS)]
    heads = theme.figure(f"Heads of {name}", height=700)
    heads.set_subplots(1, 1)
    heads.add_trace(
        head_map(heads, values, hover, "change", signed=True, meta=cells_of(range(LAYERS), range(HEADS))), row=1, col=1
    )
    lines = theme.figure(f"Layers of {name}", height=700)
    for color in (theme.BASE, theme.TUNED):
        mean = RNG.standard_normal(LAYERS)
        texts = [f"layer {layer}: {x:.3f}" for layer, x in enumerate(mean)]
        lines.add_traces(layer_lines(np.arange(LAYERS), mean, mean - 0.2, mean + 0.2, "mean", color, texts))
    points = theme.figure(f"Prompts of {name}", height=420)
    points.add_trace(go.Scatter(x=RNG.random(PROMPTS), y=RNG.random(PROMPTS), mode="markers", text=words(PROMPTS)))
    cells = pd.MultiIndex.from_product([range(LAYERS), range(HEADS)], names=["layer", "head"]).to_frame(index=False)
    table = cells.assign(**{each: RNG.random(len(cells)) for each in ("base", "tuned", "difference", "p")})
    cards = [Card(label, f"{RNG.random():.3f}", "[0.1, 0.9], n = 100") for label in ("base", "tuned", "difference")]
    blocks = [*cards, Figure(heads), Figure(lines), Figure(points, wide=True)]
    listed = Table(table, guessed_columns(table), "Every head", sortable=True, folded=True)
    return Section(name, f"Does tuning change {name}?", f"Tuning changed {name}.", blocks=[*blocks, listed])


def places() -> list[Chapter]:
    def pairs() -> PlaceWords:
        listed = list(zip(words(PAIRS), words(PAIRS), strict=True))
        numbers = {"related": RNG.uniform(0.2, 0.9, PAIRS).tolist(), "dims": RNG.integers(1, 6, PAIRS).tolist()}
        return PlaceWords(listed, numbers, (RNG.random(PAIRS) < 0.5).tolist(), 5000)

    def concept() -> PlaceWords:
        cosines = np.sort(RNG.uniform(0.1, 0.5, OF_CONCEPT))[::-1].tolist()
        return PlaceWords(words(OF_CONCEPT), {"|cosine|": cosines}, [False] * OF_CONCEPT, 50)

    def lines(count: int) -> list[PlaceNumber]:
        return [PlaceNumber(f"number {n}", *RNG.standard_normal(5).tolist(), p=0.01) for n in range(count)]

    cells = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    return [
        Chapter("pairs", "Pairs", [Place(*cell, "Word pairs", "", lines(5), pairs(), pairs()) for cell in cells]),
        Chapter(
            "concepts",
            "Concepts",
            [
                Place(layer, what=f"{kind} concepts", part=str(number), base=concept(), tuned=concept())
                for kind in KINDS
                for layer in range(LAYERS)
                for number in range(CONCEPTS)
            ],
        ),
        Chapter(
            "activations", "Activations",
            [*(Place(*cell, "Statistics", numbers=lines(12)) for cell in cells), *pattern_places(PATTERNS)],
        ),
        *(Chapter(name, name, [Place(*cell, name, numbers=lines(4)) for cell in cells]) for name in NAMES[4:]),
    ]  # fmt: skip


def _patterns() -> xr.Dataset:
    size, count = 100, 12
    values = np.tril(RNG.random((4, 2, count, size, size)) ** 6).astype(np.float32)
    values /= values.sum(-1, keepdims=True) + 1e-9
    on_prompts = {"group": ["g"] * 4, "length": [size] * 4, "whole": [size] * 4}
    return xr.Dataset(
        {"pattern": (("prompt", "model", "place", "query", "key"), values.round(4))},
        coords={
            "prompt": np.array([f"p{number}" for number in range(4)], dtype=object),
            **{name: ("prompt", np.array(each)) for name, each in on_prompts.items()},
            "model": ["base", "tuned"],
            "layer": ("place", RNG.integers(0, LAYERS, count)),
            "head": ("place", RNG.integers(0, HEADS, count)),
            "token": (("prompt", "query"), np.array([words(size) for _ in range(4)], dtype=object)),
        },
        attrs={"base_model": "base", "tuned_model": "tuned"},
    )


PATTERNS = _patterns()


def attribution(source: Sequence[str], side: str) -> xr.Dataset:
    target = [f" {word}" for word in words(TOKENS)]
    coords: dict[str, object] = {}
    for axis, tokens in (("source", source), ("target", target)):
        stops = np.cumsum([len(token) for token in tokens])
        coords |= {
            f"{axis}_token": (axis, np.array(tokens, dtype=object)),
            f"{axis}_id": (axis, np.arange(len(tokens))),
        }
        coords |= {f"{axis}_start": (axis, np.r_[0, stops[:-1]]), f"{axis}_stop": (axis, stops)}
    score = (RNG.standard_normal((len(source), len(target))) ** 3 / 100).astype(np.float32)
    text = {"prompt_text": "".join(source), "response_text": "".join(target)}
    attrs = {"probe": "attribution", "model": side, "objective_name": "prob", "prompt_id": "p", **text}
    coords["objective"] = ("target", RNG.random(len(target)))
    return xr.Dataset({"score": (("source", "target"), score)}, coords, attrs)


def prompts() -> PromptsChapter:
    sources = {f"p{number}": [f" {word}" for word in words(TOKENS)] for number in range(PROMPTS)}

    def panels(id: str) -> list[Panel]:
        source = sources[id]
        prompt = Prompt("".join(source), id=id, instruction=[(0, len("".join(source[:10])))])
        shown: list[Panel] = [views.token_pair(attribution(source, "base"), attribution(source, "tuned"), prompt)]
        return [*shown, changed_patterns(PATTERNS, id)] if id in PATTERNS["prompt"].values else shown

    entries = [
        PromptEntry(
            id, f"group {number % 10}", [("".join(source), ["instruction"])],
            {side: PromptAnswer(" ".join(words(TOKENS)), "ended by itself") for side in ("base", "tuned")},
        )
        for number, (id, source) in enumerate(sources.items())
    ]  # fmt: skip
    numbers = [PromptNumber(name, name, {id: tuple(RNG.random(2).tolist()) for id in sources}) for name in NAMES]
    return PromptsChapter(entries, numbers, "base", "tuned", panels=panels, first=["p0", "p1", "p2", "p3"])


def measure(path: Path) -> None:
    """Print the first paint, and how long each chapter takes; three times each, the median."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,900"):
        options.add_argument(flag)
    chapter = """
        const [name, done] = arguments, start = performance.now();
        const frame = () => new Promise(requestAnimationFrame);
        addEventListener("hashchange", async () => {
          await frame();
          while (!(THERE)) await frame();
          await itlens.ready();
          await frame();
          done(performance.now() - start);
        }, { once: true });
        location.hash = name;
    """
    paint = "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
    took: dict[str, list[float]] = {}
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        browser.set_script_timeout(60)
        for _ in range(3):
            browser.get("about:blank")
            browser.get(path.resolve().as_uri())
            took.setdefault("first paint", []).append(browser.execute_script(paint))
            time.sleep(1)
            names = browser.execute_script("return [...document.querySelectorAll('main > .chapter')].map((c) => c.id)")
            opened = {name: f"itlens.chapter() === '{name}'" for name in [*names[1:], names[0]]}
            for name, there in (opened | THERE).items():
                took.setdefault(name, []).append(browser.execute_async_script(chapter.replace("THERE", there), name))
    for name, times in took.items():
        print(f"{name:<14}{np.median(times):7.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="where the page is kept")
    out = parser.parse_args().out
    rows = [Row(name, f"Does tuning change {name}?", name, direction="changed", sentence="It did.") for name in NAMES]
    content = Page(
        "What did instruction tuning change?", answer="Tuning changed nine things.", rows=rows, base="base",
        tuned="tuned", sections=[section(name) for name in NAMES], prompts=prompts(),
        tools=[Explorer("Heads and layers", places(), "base", "tuned")],
    )  # fmt: skip
    started = time.process_time()
    html = render_page(content)
    print(f"written in {time.process_time() - started:.1f} s, {len(html.encode()) / 1e6:.2f} MB")
    with tempfile.TemporaryDirectory() as folder:
        path = out or Path(folder) / "page.html"
        path.write_text(html, encoding="utf-8")
        measure(path)


if __name__ == "__main__":
    main()
