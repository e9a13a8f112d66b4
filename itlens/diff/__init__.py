"""Diffs: functions of two results that align by label and test the differences. Names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.lazy import lazy_names

_HOME = {
    "attributions": "itlens.diff.attribution_diff",
    "AttributionDiff": "itlens.diff.attribution_diff",
    "verdict": "itlens.diff.conclusion",
}

__all__ = ["AttributionDiff", "attributions", "verdict"]


__getattr__, __dir__ = lazy_names(__name__, _HOME)

if TYPE_CHECKING:
    from itlens.diff.attribution_diff import AttributionDiff, attributions
    from itlens.diff.conclusion import verdict
