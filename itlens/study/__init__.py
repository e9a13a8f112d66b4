"""Studies: the only place where models, prompts, probes and files meet. Names load on first use.

`compare` runs prompts through a base and a tuned model and writes a run folder; `open_comparison` reads one.
`compare_templates` does so without and with the chat template, `compare_series` with several tuned models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.lazy import lazy_names

_HOME = {
    "compare": "itlens.study.running",
    "Comparison": "itlens.study.comparison",
    "open_comparison": "itlens.study.comparison",
    "compare_series": "itlens.study.series",
    "compare_templates": "itlens.study.templates",
    "SeriesComparison": "itlens.study.series_comparison",
    "TemplateComparison": "itlens.study.template_comparison",
    "open_series": "itlens.study.series_comparison",
    "open_templates": "itlens.study.template_comparison",
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
    from itlens.study.running import compare
    from itlens.study.series import compare_series
    from itlens.study.series_comparison import SeriesComparison, open_series
    from itlens.study.template_comparison import TemplateComparison, open_templates
    from itlens.study.templates import compare_templates
