"""The report: one HTML page that shows what was compared, what came out, and how sure that is (`report`).

The sections follow a reader's questions: what is the answer, for which prompts, along the response, would it hold
under other choices, what does it look like on single prompts, what do the words mean, what was run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from itlens.views import page, text
from itlens.views.report_content import ReportContent, as_content
from itlens.views.report_parts import examples, hero, notes, results, robustness, run, section, settings, summary
from itlens.views.report_terms import terms


@dataclass(frozen=True)
class Report:
    """A report. Jupyter shows its summary (the whole page is some 6 MB); `.html` is the page for a file."""

    content: ReportContent

    @cached_property
    def html(self) -> str:
        """The complete page: no network, light and dark, for screen and paper."""
        content, (levels, threshold, p) = self.content, settings(self.content)
        body = "".join(
            (
                '<div class="bar"><b>itlens</b> report<button type="button" class="theme">Dark</button></div><main>',
                hero(content),
                notes(content),
                results(content),
                robustness(content, threshold, p),
                examples(content, levels, threshold, p),
                section("methods"),
                terms(levels, threshold, p),
                run(content),
                f"</main><footer>{_footer(content)}</footer>",
            )
        )
        scripts = [page.plotly(), page.circuitsvis(), page.asset("tokens.js"), page.asset("report.js")]
        return page.page(content.title, body, styles=("page.css", "tokens.css"), scripts=scripts)

    def _repr_html_(self) -> str:
        return summary(self.content)

    def __str__(self) -> str:
        return self.html


def report(content: ReportContent | Mapping[str, Any]) -> Report:
    """The report of a comparison, from a ReportContent or a mapping with its fields.

    Nothing is computed or written here. Raises ResultError for unknown or missing fields.
    """
    return Report(as_content(content))


def _footer(content: ReportContent) -> str:
    when = f" on {text.html(content.created)}" if content.created else ""
    return f"Made by itlens{when}. This page works offline and asks no network for anything."
