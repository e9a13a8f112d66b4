"""Facts on a model in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from itlens.files import visible


def print_facts(facts: Mapping[str, Any], console: Console | None = None) -> None:
    """Names and values, one per line; long values are not broken, so that they can be copied and searched."""
    console = console or Console()
    width = max(map(len, facts), default=0) + 2
    for name, value in facts.items():
        shown = f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if _counts(name, value) else str(value)
        line = Text(name.replace("_", " ").ljust(width), style="bold")
        console.print(line.append(visible(shown) or "none", style="not bold"), soft_wrap=True)


def _counts(name: str, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
