"""Make the notebooks of examples/ from scripts/notebooks/*.py: python scripts/make_notebooks.py [NAME ...]

A source is Python with cells, "# %%" and "# %% [markdown]". Cells run in order in this process, in an empty folder.
Text may hold {{expression:format}}, which is computed from what ran before, so that no number in it is written by hand.
Tests run the same and compare it with what is committed (tests/test_notebooks.py).
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "scripts" / "notebooks"
OUT = ROOT / "examples"
_CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)
FIGURE = "application/vnd.plotly.v1+json"
_MOST = 400_000  # characters of one output


def cells_of(source: str) -> list[tuple[str, str]]:
    """Return (kind, text) for each cell; kind is "markdown" or "code"."""
    parts = _CELL.split(source)[1:]
    cells = []
    for marked, text in zip(parts[::2], parts[1::2], strict=True):
        if marked:
            lines = [line.removeprefix("#").removeprefix(" ") for line in text.strip().splitlines()]
            cells.append(("markdown", "\n".join(lines)))
        else:
            cells.append(("code", text.strip()))
    return cells


def filled(text: str, namespace: dict[str, Any]) -> str:
    """Return the text with its expressions computed."""
    return re.sub(r"\{\{(.+?)\}\}", lambda m: eval("f" + repr("{" + m[1] + "}"), namespace), text)


def run(path: Path) -> Any:
    """Run a source; the notebook with its outputs. What fails is raised."""
    import nbformat

    book = nbformat.v4.new_notebook()
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    module = ModuleType(f"notebook_{path.stem}")  # dataclasses look their module up
    sys.modules[module.__name__] = module
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for number, (kind, text) in enumerate(cells_of(path.read_text(encoding="utf-8"))):
                if kind == "markdown":
                    cell = nbformat.v4.new_markdown_cell(filled(text, vars(module)))
                else:
                    cell = nbformat.v4.new_code_cell(text, outputs=_outputs(text, vars(module)))
                cell["id"] = f"{path.stem}-{number:02d}"
                book.cells.append(cell)
        finally:
            os.chdir(here)
            del sys.modules[module.__name__]
    return book


def _outputs(code: str, namespace: dict[str, Any]) -> list[Any]:
    """Run a cell: what it prints, and the value of its last expression as Jupyter would show it."""
    import nbformat

    body = ast.parse(code)
    last = body.body.pop() if body.body and isinstance(body.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(body, "cell", "exec"), namespace)
        value = None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=printed.getvalue())] if printed.getvalue() else []
    if value is not None:
        data = shown(value)
        size = len(json.dumps(data))
        if size > _MOST:
            raise ValueError(f"The last output of the cell {code[:60]!r} has {size:,} characters; show less.")
        outputs.append(nbformat.v4.new_output("execute_result", data=data, execution_count=None))
    return outputs


def shown(value: object) -> dict[str, Any]:
    """Return what Jupyter stores of a value: a figure as data, anything else as HTML and text."""
    from IPython.core.formatters import DisplayFormatter

    if hasattr(value, "to_plotly_json"):
        return {FIGURE: json.loads(value.to_json())}  # type: ignore[attr-defined]  # plotly's
    data, _ = DisplayFormatter().format(value, include={"text/html", "text/plain"})
    return {kind: data[kind] for kind in ("text/html", "text/plain") if kind in data}


def main() -> None:
    """Make all notebooks, or those named."""
    import nbformat

    names = sys.argv[1:] or sorted(path.stem for path in SOURCES.glob("*.py") if path.stem != "real_pair")
    for name in names:
        nbformat.write(run(SOURCES / f"{name}.py"), OUT / f"{name}.ipynb")
        print(OUT / f"{name}.ipynb", (OUT / f"{name}.ipynb").stat().st_size // 1000, "kB")


if __name__ == "__main__":
    main()
