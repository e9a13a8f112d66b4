"""Diffs: functions of two results that align by label and test the differences. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "attributions": "itlens.diff.attribution_diff",
    "AttributionDiff": "itlens.diff.attribution_diff",
    "verdict": "itlens.diff.conclusion",
}

__all__ = ["AttributionDiff", "attributions", "verdict"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'itlens.diff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from itlens.diff.attribution_diff import AttributionDiff, attributions
    from itlens.diff.conclusion import verdict
