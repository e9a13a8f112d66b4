"""Where a number comes from: the flat attributes that every result carries in `.attrs`.

Only strings, numbers and lists of them, so that netCDF and Parquet keep them as they are.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = {
    "itlens_version": "itlens",
    "torch_version": "torch",
    "transformer_lens_version": "transformer-lens",
    "transformers_version": "transformers",
}


@cache
def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def provenance(probe: str, **parameters: Any) -> dict[str, Any]:
    """The attributes of a result: the probe's name, its parameters (None is written as "") and package versions."""
    flat = {name: "" if value is None else _plain(value) for name, value in parameters.items()}
    return {"probe": probe, **flat, **{name: _installed(package) for name, package in _PACKAGES.items()}}


def short_name(name: str) -> str:
    """The last part of a model's name or path, which is what people call it."""
    return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or name


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)  # netCDF attributes have no booleans
    return value if isinstance(value, (str, int, float)) else str(value)
