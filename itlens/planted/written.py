"""A selftest's result on disk: JSON that any program reads, and a picture beside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from itlens.errors import StoreError
from itlens.files import read_json, write_json, write_text
from itlens.views.selftest_chart import selftest as chart


def write_selftest(result: xr.Dataset, out: str | Path) -> list[Path]:
    """Write `out` (.json, numbers that are not there as null) and the picture beside it (.html, offline)."""
    path = Path(out)
    content = result.to_dict()
    for name, part in (*content["coords"].items(), *content["data_vars"].items()):
        part["dtype"] = str(result[name].dtype)
    write_json(path, _plain(content))
    picture = path.with_suffix(".html")
    write_text(picture, chart(result).to_html(include_plotlyjs=True, full_html=True))
    return [path, picture]


def read_selftest(path: str | Path) -> xr.Dataset:
    """What `write_selftest` wrote, as the Dataset it was. Raises StoreError for anything else."""
    content = read_json(path)
    try:
        for part in (*content["coords"].values(), *content["data_vars"].values()):
            part["data"] = _array(part["data"], part["dtype"])
        return xr.Dataset.from_dict(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} is no result of a selftest ({error}).") from error


def _plain(value: Any) -> Any:
    """Lists, dictionaries, texts and numbers: JSON has no NaN."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    return value


def _array(data: Any, dtype: str) -> np.ndarray:
    values = np.array(data, dtype=object)
    if dtype.startswith("float"):
        numbers = [math.nan if value is None else float(value) for value in values.ravel()]
        return np.array(numbers, dtype=dtype).reshape(values.shape)
    return values.astype(object if dtype == "object" else dtype)
