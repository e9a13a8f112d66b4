"""What the documentation site gets from the installed packages, as a hook of mkdocs: nothing is asked from the network.

1. A page for each notebook of examples/, with its outputs. (The extensions that do this bring a dozen packages along; a
notebook is JSON, and its outputs are text, HTML and plotly's figures.) 2. plotly.js, copied from the plotly package, on
these pages only. 3. The report of the embedded pair, where runs/demo holds it (gallery). 4. The shim that search needs
from file://, which the theme would fetch from a network (docs/assets/iframe-worker.js). A page that still loads
anything from a network stops the build.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "examples"
PLOTLY = "assets/plotly.min.js"
FIGURE = "application/vnd.plotly.v1+json"
_SHOWN = ("text/html", "text/plain")


_SHIM = "https://unpkg.com/iframe-worker/shim"
_REMOTE = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\bsrc=[\"']?(?:https?:)?//|<link\b[^>]*\brel=[\"']?stylesheet[^>]*//"
)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Let the page load nothing from a network."""
    return _offline(output, page.file.src_uri, get_relative_url("assets/iframe-worker.js", page.file.url))


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """The same for the page that says that there is no page."""
    if not template_name.endswith(".html"):
        return output_content
    return _offline(output_content, template_name, "/assets/iframe-worker.js")


def _offline(output: str, name: str, shim: str) -> str:
    output = output.replace(_SHIM, shim)
    if found := _REMOTE.search(output):
        raise PluginError(f"{name} loads something from a network: {output[found.start() :][:160]}")
    return output


def on_files(files: Files, config: Any) -> Files:
    """Add the generated files to the site."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        page = f"notebooks/{path.stem}.md"
        files.append(File.generated(config, page, content=notebook_page(path)))
    from plotly.offline import get_plotlyjs

    files.append(File.generated(config, PLOTLY, content=get_plotlyjs()))
    report = ROOT / "runs" / "demo" / "report.html"
    if report.is_file():
        files.append(File.generated(config, "gallery/demo.html", abs_src_path=str(report)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Link the report where it is at hand: a site that is built without `make demo` has none."""
    there = files.get_file_from_path("gallery/demo.html") is not None
    link = "[Open the report of the embedded pair](gallery/demo.html) (one page, no network)."
    return markdown.replace("<!-- report -->", link if there else "")


def notebook_page(path: Path) -> str:
    """Return a notebook as Markdown: text as it is, code as blocks, outputs below their cells."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    parts: list[str] = []
    figures = 0
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            shown = _output(output, figures)
            figures += FIGURE in output.get("data", {})
            parts += [f'<div class="output">{shown}</div>'] if shown else []
    if figures:
        parts.append(f'<script src="../{PLOTLY}"></script>\n<script>{_DRAW}</script>')
    name = path.relative_to(ROOT).as_posix()
    parts.insert(1, f"*This page is the notebook `{name}` with its outputs.*")
    return "\n\n".join(parts) + "\n"


_DRAW = (
    "for (const box of document.querySelectorAll('.plot')) {"
    " const figure = JSON.parse(box.querySelector('script').textContent);"
    " const dark = document.body.dataset.mdColorScheme === 'slate';"
    " figure.layout.width = undefined;"
    " if (dark) Object.assign(figure.layout, {paper_bgcolor: '#f7f7f7'});"
    " Plotly.newPlot(box, figure.data, figure.layout, {responsive: true, displaylogo: false}); }"
)


def _output(output: Mapping[str, Any], number: int) -> str:
    """Return one output as HTML without blank lines, which would end the block in Markdown."""
    if output["output_type"] == "stream":
        return _pre("".join(output["text"]))
    data = output.get("data", {})
    if FIGURE in data:
        figure = json.dumps({key: data[FIGURE][key] for key in ("data", "layout")}).replace("</", "<\\/")
        height = data[FIGURE]["layout"].get("height", 450)
        return (
            f'<div class="plot" id="plot-{number}" style="height:{height}px">'
            f'<script type="application/json">{figure}</script></div>'
        )
    for kind in _SHOWN:
        if kind in data:
            text = "".join(data[kind])
            return re.sub(r"\n\s*\n", "\n", text) if kind == "text/html" else _pre(text)
    return ""


def _pre(text: str) -> str:
    return "<pre><code>" + html.escape(text.rstrip()).replace("\n", "&#10;") + "</code></pre>"
