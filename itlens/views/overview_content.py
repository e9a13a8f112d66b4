"""What the page of several comparisons shows: the plain objects that a study hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import pandas as pd
import plotly.graph_objects as go

from itlens.errors import ResultError
from itlens.views.report_tables import Column


@dataclass(frozen=True)
class OverviewSection:
    """A part of the page: heading, text, and a figure or a table or both.

    columns: of the table; without them all of its columns are shown, by their names and types.
    """

    heading: str
    text: str = ""
    figure: go.Figure | None = None
    table: pd.DataFrame | None = None
    columns: Sequence[Column] | None = None


@dataclass(frozen=True)
class OverviewContent:
    """A page for several comparisons: a series of models, or two models with and without a template.

    title: the heading. verdict: the answer, or several, a paragraph each. sections: in order. links: to the reports,
    (label, path relative to the page). facts: what was compared. notes: warnings, shown at the top. parameters: of the
    runs. versions: of the packages. created: when, as it is to be printed. All text is plain text.
    """

    title: str
    verdict: str | Sequence[str]
    sections: Sequence[OverviewSection] = ()
    links: Sequence[tuple[str, str]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""

    @property
    def answers(self) -> tuple[str, ...]:
        """The paragraphs of the verdict."""
        return (self.verdict,) if isinstance(self.verdict, str) else tuple(self.verdict)


def checked_overview(content: Any) -> OverviewContent:
    """`content` itself. Raises ResultError where it, or a part of it, is something else, or a link leads away."""
    if not isinstance(content, OverviewContent):
        raise ResultError(f"views.overview got a {type(content).__name__}: pass a views.OverviewContent.")
    for one in content.sections:
        _refuse(one, OverviewSection, "among sections", "views.OverviewSection")
        if one.figure is not None:
            _refuse(one.figure, go.Figure, f"as figure of {one.heading!r}", "plotly Figure")
        if one.table is not None:
            _refuse(one.table, pd.DataFrame, f"as table of {one.heading!r}", "pandas DataFrame")
    for link in content.links:
        if not isinstance(link, tuple) or len(link) != 2:
            raise ResultError(f"views.overview got {link!r} among links: pass (label, path) for each report.")
        address(*link)
    return content


def address(label: str, path: str) -> str:
    """The path of a link as a page needs it. Raises ResultError for one that is not relative to the page."""
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ":" in parts[0]:
        raise ResultError(f"The link {label!r} leads to {path!r}: give a path relative to the page's folder.")
    return quote("/".join(parts))


def _refuse(value: Any, kind: type, where: str, wanted: str) -> None:
    if not isinstance(value, kind):
        raise ResultError(f"views.overview got a {type(value).__name__} {where}: pass a {wanted}.")
