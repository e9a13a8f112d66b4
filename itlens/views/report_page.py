"""The report: one HTML page that shows what was compared, what came out, and how sure that is (`report`).

The sections follow a reader's questions. Of attribution: for which prompts, along the response, would it hold under
other choices, what does it look like on single prompts. Of attention: which verbs, which heads, which words. Of
concepts: how far they turned, what they are about, which are new, how they read. Of the running models: where they
differ, which parts carry it, whether attributions can be believed. Then: what do the words mean, what was run. A
report has the sections of what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from itlens.views import page, text
from itlens.views.report_causes import faithful_section, patch_section
from itlens.views.report_concepts import concept_sections
from itlens.views.report_content import ReportContent, as_content
from itlens.views.report_hero import hero
from itlens.views.report_layout import section
from itlens.views.report_parts import attribution, notes, run, summary
from itlens.views.report_running import activation_section
from itlens.views.report_terms import terms
from itlens.views.report_words import attention


@dataclass(frozen=True)
class Report:
    """A report. Jupyter shows its summary (the whole page is some 6 MB); `.html` is the page for a file."""

    content: ReportContent

    @cached_property
    def html(self) -> str:
        """The complete page: no network, light and dark, for screen and paper."""
        content = self.content
        body = "".join(
            (
                '<div class="bar"><b>itlens</b> report<button type="button" class="theme">Dark</button></div><main>',
                hero(content),
                notes(content),
                attribution(content),
                attention(content),
                concept_sections(content),
                activation_section(content),
                patch_section(content),
                faithful_section(content),
                section("methods"),
                terms(content),
                run(content),
                f"</main><footer>{_footer(content)}</footer>",
            )
        )
        scripts = [page.asset("report.js")]
        if content.diff is not None:
            scripts = [page.circuitsvis(), page.asset("tokens.js"), *scripts]
        styles = ("page.css", "tokens.css", "pairs.css", "concepts.css")
        return page.page(content.title, body, styles=styles, scripts=[page.plotly(), *scripts])

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
