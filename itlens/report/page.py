"""One HTML page that needs nothing but itself: styles, scripts and bundles inside, and a policy that forbids the rest.

The Content-Security-Policy names the digest of each script of the page, so no other script runs, inline handlers
included, and nothing may be fetched from anywhere. Bundles are packed (gzip, base 85) and run when something first asks
for them (`itlens.bundle` of assets/core.js); the policy names their digests, too. plotly.js is its cartesian part,
vendored by scripts/vendor_plotly.py; a figure of another kind takes the whole bundle of the installed plotly.
circuitsvis' iife.js is found without importing circuitsvis (the package imports torch).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from markupsafe import Markup

from itlens.errors import ResultError
from itlens.report.environment import render

_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "base-uri 'none'; form-action 'none'"
)
_SAFE = bytes.maketrans(b"<&>", b".:,")
_ICON = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect x='2' y='7' width='5' height='7' rx='1' fill='%23d55e00'/%3E%3Crect x='9' y='2' width='5' height='12' rx='1' fill='%232479c2'/%3E%3C/svg%3E"  # noqa: E501


def page(title: str, body: str, *, styles: Sequence[str], scripts: Sequence[str], bundles: Sequence[str] = ()) -> str:
    """Return a complete document.

    title: text. body: HTML. styles: names of assets. scripts: sources, in order. bundles: names of those that the page
    runs when they are needed.
    """
    sources = [inline(source) for source in scripts]
    late = {name: inline(script(name)) for name in bundles}
    digests = [f"'sha256-{_digest(source)}'" for source in (*sources, *late.values())]
    policy = _POLICY.format(scripts=" ".join(digests) or "'none'")
    document = render(
        "document.html",
        title=title,
        body=Markup(body),
        policy=Markup(policy),
        icon=Markup(_ICON),
        style=Markup("\n".join(asset(name) for name in styles)),
        scripts=[Markup(source) for source in sources],
        bundles={name: Markup(packed_bundle(name)) for name in late},
    )
    return str(document)


@cache
def packed_bundle(name: str) -> str:
    """Return a bundle by its name, packed."""
    return packed(inline(script(name)))


def packed(source: str) -> str:
    """Return text as gzip in letters; the same text gives the same bytes."""
    return letters(gzip.compress(source.encode(), 9, mtime=0))


def letters(content: bytes) -> str:
    """Return bytes as text that may stand in any element: base 85, five letters for four bytes (base64 takes 5.33).

    The letters are those of `base64.b85encode`, but for the three that mean something in HTML.
    """
    return base64.b85encode(content).translate(_SAFE).decode()


def script(name: str) -> str:
    """Return the source of a script by its name: a bundle ("plotly", "circuitsvis"), or an asset."""
    return BUNDLES[name]() if name in BUNDLES else asset(name)


def inline(source: str) -> str:
    """JavaScript that can stand in a `<script>` element: no end tag, no comment opener, no map to fetch, no CR."""
    lines = [line for line in source.replace("\r\n", "\n").split("\n") if not line.startswith("//# sourceMappingURL=")]
    return "\n".join(lines).replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _digest(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


@cache
def asset(name: str) -> str:
    """A style or script of this package."""
    return (files("itlens.report") / "assets" / name).read_text(encoding="utf-8")


@cache
def plotly_bundle() -> str:
    """plotly.js' cartesian bundle (1.5 MB), which is vendored; it defines the global Plotly."""
    return asset("plotly-cartesian.min.js")


@cache
def plotly_whole() -> str:
    """plotly.js, whole (4.8 MB), from the installed plotly: for figures of a kind that the cartesian bundle lacks."""
    return _from_package("plotly", "package_data/plotly.min.js")


@cache
def circuitsvis() -> str:
    """The circuitsvis bundle (1.3 MB), from the installed circuitsvis; defines the global CircuitsVis."""
    return _from_package("circuitsvis", "dist/cdn/iife.js")


BUNDLES = {"plotly": plotly_bundle, "plotly-whole": plotly_whole, "circuitsvis": circuitsvis}


def _from_package(package: str, path: str) -> str:
    spec = find_spec(package)
    where = Path(spec.origin).parent / path if spec and spec.origin else None
    if where is None or not where.is_file():
        raise ResultError(f"{package} has no {path}, and pages need it: reinstall {package}.")
    return where.read_text(encoding="utf-8")
