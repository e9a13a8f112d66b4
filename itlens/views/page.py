"""One HTML page that needs nothing but itself: styles, scripts and bundles inside, and a policy that forbids the rest.

The Content-Security-Policy names the digest of each script of the page, so no other script runs, inline handlers
included, and nothing may be fetched from anywhere. The bundles come from the installed packages: plotly's whole
plotly.min.js (plotly ships no smaller one) and circuitsvis' iife.js, which is found without importing circuitsvis
(the package imports torch).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from itlens.errors import ResultError
from itlens.views import text

_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "base-uri 'none'; form-action 'none'"
)
_ICON = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect x='2' y='7' width='5' height='7' rx='1' fill='%23d55e00'/%3E%3Crect x='9' y='2' width='5' height='12' rx='1' fill='%232479c2'/%3E%3C/svg%3E"  # noqa: E501


def page(title: str, body: str, *, styles: Sequence[str], scripts: Sequence[str]) -> str:
    """A complete document. `title` is text; `body` is HTML; `styles` name assets; `scripts` are sources, in order."""
    sources = [inline(source) for source in scripts]
    policy = _POLICY.format(scripts=" ".join(f"'sha256-{_digest(source)}'" for source in sources))
    style = "\n".join(asset(name) for name in styles)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="{_ICON}">\n<title>{text.html(title)}</title>\n<style>\n{style}\n</style>\n</head>\n'
        f"<body>\n{body}\n" + "".join(f"<script>{source}</script>\n" for source in sources) + "</body>\n</html>\n"
    )


def inline(source: str) -> str:
    """JavaScript that can stand in a `<script>` element: no end tag, no comment opener, no map to fetch, no CR."""
    lines = [line for line in source.replace("\r\n", "\n").split("\n") if not line.startswith("//# sourceMappingURL=")]
    return "\n".join(lines).replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _digest(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


@cache
def asset(name: str) -> str:
    """A style or script of this package."""
    return (files("itlens.views") / "assets" / name).read_text(encoding="utf-8")


@cache
def plotly() -> str:
    """plotly.js, whole (4.8 MB), from the installed plotly."""
    return _from_package("plotly", "package_data/plotly.min.js")


@cache
def circuitsvis() -> str:
    """The circuitsvis bundle (1.3 MB), from the installed circuitsvis; defines the global CircuitsVis."""
    return _from_package("circuitsvis", "dist/cdn/iife.js")


def _from_package(package: str, path: str) -> str:
    spec = find_spec(package)
    where = Path(spec.origin).parent / path if spec and spec.origin else None
    if where is None or not where.is_file():
        raise ResultError(f"{package} has no {path}, and pages need it: reinstall {package}.")
    return where.read_text(encoding="utf-8")
