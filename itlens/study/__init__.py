"""Studies: the only place where models, prompts, probes and files meet. Names load on first use.

`compare` runs prompts through a base and a tuned model and writes a run folder; `open_comparison` reads one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.lazy import lazy_names

_HOME = {
    "compare": "itlens.study.running",
    "Comparison": "itlens.study.comparison",
    "open_comparison": "itlens.study.comparison",
}

__all__ = ["Comparison", "compare", "open_comparison"]


__getattr__, __dir__ = lazy_names(__name__, _HOME)

if TYPE_CHECKING:
    from itlens.study.comparison import Comparison, open_comparison
    from itlens.study.running import compare
