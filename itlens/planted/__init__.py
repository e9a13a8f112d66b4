"""Planted changes, and which probes find them: `itlens.selftest`. Names load on first use.

The package is not called selftest, since `itlens.selftest` is the function. `read_selftest` reads what it wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.lazy import lazy_names

_HOME = {
    "selftest": "itlens.planted.planting",
    "read_selftest": "itlens.planted.result",
    "write_selftest": "itlens.planted.result",
}

__all__ = ["read_selftest", "selftest", "write_selftest"]


__getattr__, __dir__ = lazy_names(__name__, _HOME)

if TYPE_CHECKING:
    from itlens.planted.planting import selftest
    from itlens.planted.result import read_selftest, write_selftest
