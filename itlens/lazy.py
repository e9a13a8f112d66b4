"""Public names that load on first use (PEP 562), so that importing a package does not import what its names need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, home: Mapping[str, str], modules: tuple[str, ...] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package: names and the modules they live in, and submodules of the
    package."""

    def get(name: str) -> Any:
        if name in home:
            module, _, own = home[name].partition(":")
            return getattr(import_module(module), own or name)
        if name in modules:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted([*home, *modules])

    return get, names
