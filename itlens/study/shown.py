"""A comparison as an object that a notebook shows: the summary (`report`), or the whole page inline (`explore`).

The page is shown in an iframe that holds all of it (`srcdoc`): no server, no extension, no network. The frame is
sandboxed without `allow-same-origin`, so the page is of an origin of its own: it cannot reach the notebook around it,
its cookies or its kernel. The page's own policy holds inside as well: no form is sent, nothing is fetched. The page is
not put into the notebook's document for two more reasons: its styles and ids would meet the notebook's, and JupyterLab
and VS Code (one document for all outputs) and Colab (a frame for each output) would each need another way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from markupsafe import Markup, escape

from itlens.errors import ResultError
from itlens.report.environment import render
from itlens.report.page_data import Page
from itlens.report.render import comparison_in_notebook, render_page
from itlens.study.comparison import Comparison, open_comparison

if TYPE_CHECKING:
    from itlens.study.series import SeriesComparison
    from itlens.study.templates import TemplateComparison

LEAST, MOST = 200, 4000  # pixels of a frame
Compared: TypeAlias = "Comparison | TemplateComparison | SeriesComparison"


@dataclass(frozen=True)
class Report:
    """A report. Jupyter shows its summary; `.html` is the page for a file, `itlens.explore` shows that inline."""

    page: Page

    @cached_property
    def html(self) -> str:
        """The complete page: no network, light and dark, for screen and paper."""
        return render_page(self.page)

    def _repr_html_(self) -> str:
        return comparison_in_notebook(self.page)

    def __repr__(self) -> str:
        return f"Report({self.page.title!r})"

    def __str__(self) -> str:
        return self.html


@dataclass(frozen=True, repr=False)
class PageFrame:
    """A whole page that Jupyter, JupyterLab, VS Code and Colab show inline.

    title: of the page. html: the page, complete. height: of the frame, in pixels. path: where the same page lies as a
    file; "" where it does not. Raises ResultError for a height that is no whole number from 200 to 4000.
    """

    title: str
    html: str = field(repr=False)
    height: int = 720
    path: str = ""

    def __post_init__(self) -> None:
        whole = isinstance(self.height, int) and not isinstance(self.height, bool)
        if not whole or not LEAST <= self.height <= MOST:
            raise ResultError(
                f"explore got height={self.height!r}; expected a whole number of pixels from {LEAST} to {MOST}."
            )

    def _repr_html_(self) -> str:
        # escaped here: the environment would write signs for the line ends of the page
        return str(render("frame.html", frame=self, srcdoc=Markup(escape(self.html))))

    def __repr__(self) -> str:
        size = len(self.html.encode()) / 1e6
        there = f"; the same page as a file: {self.path}" if self.path else ""
        return f"{self.title} ({size:.1f} MB, shown inline by a notebook{there})"

    def __str__(self) -> str:
        return self.html


def report(comparison: Comparison | str | Path) -> Report:
    """Return the report of a comparison, or of the run folder that it is in. Nothing is written here.

    Raises StoreError for a folder without a study, ResultError for anything else.
    """
    if isinstance(comparison, (str, Path)):
        comparison = open_comparison(comparison)
    if not isinstance(comparison, Comparison):
        raise ResultError(
            f"views.report got a {type(comparison).__name__}; expected what itlens.compare returned, or a run folder."
        )
    return Report(comparison.page)


def explore(comparison: Compared | str | Path, *, height: int = 720) -> PageFrame:
    """Show the whole page of a comparison inline in a notebook: chapters, panels of heads and layers, search, prompts.

    comparison: what `compare`, `compare_templates` or `compare_series` returned, or the folder that it is in. height:
    of the frame in pixels, from 200 to 4000. The result is an iframe that holds the page (some megabytes, which a saved
    notebook holds as well): Jupyter, JupyterLab, VS Code and Colab show it without a server, an extension or a network.
    `str()` of it is the page. Nothing is written.

    Raises StoreError for a folder without a study, ResultError for another object and for another height.
    """
    PageFrame("", "", height)  # a wrong height is told before minutes of reading
    found = _opened(comparison) if isinstance(comparison, (str, Path)) else comparison
    page = getattr(found, "page", None)
    if not isinstance(page, Page):
        raise ResultError(
            f"explore got a {type(comparison).__name__}; expected what itlens.compare returned, or a run folder."
        )
    path = str(found.report_path) if found.report_path.is_file() else ""
    return PageFrame(page.title, render_page(page), height, path)


def _opened(path: str | Path) -> Compared:
    from itlens.study.series import open_series
    from itlens.study.several import kind_of
    from itlens.study.templates import open_templates

    kind = kind_of(path)
    if kind == "template":
        return open_templates(path)
    return open_series(path) if kind == "series" else open_comparison(path)
