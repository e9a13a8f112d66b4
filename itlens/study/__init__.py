"""Studies: the only place where models, prompts, findings and files meet. Names load on first use.

`compare` asks a base and a tuned model the findings' questions and writes a run folder; `open_comparison` reads one.
`compare_templates` does so without and with the chat template, `compare_series` with several tuned models. Read `pair`
first: it is the loop over findings from top to bottom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.lazy import lazy_names

_HOME = {
    "compare": "itlens.study.pair",
    "Comparison": "itlens.study.comparison",
    "open_comparison": "itlens.study.comparison",
    "compare_series": "itlens.study.series",
    "compare_templates": "itlens.study.templates",
    "SeriesComparison": "itlens.study.series",
    "TemplateComparison": "itlens.study.templates",
    "open_series": "itlens.study.series",
    "open_templates": "itlens.study.templates",
}

__all__ = [
    "Comparison",
    "SeriesComparison",
    "TemplateComparison",
    "compare",
    "compare_series",
    "compare_templates",
    "open_comparison",
    "open_series",
    "open_templates",
]


__getattr__, __dir__ = lazy_names(__name__, _HOME)

if TYPE_CHECKING:
    from itlens.study.comparison import Comparison, open_comparison
    from itlens.study.pair import compare
    from itlens.study.series import SeriesComparison, compare_series, open_series
    from itlens.study.templates import TemplateComparison, compare_templates, open_templates
