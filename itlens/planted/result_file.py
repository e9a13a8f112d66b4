"""A selftest's result on disk: JSON that any program reads, and a picture beside it."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import xarray as xr

from itlens.errors import StoreError
from itlens.files import read_json, write_json, write_text
from itlens.planted.view import selftest_figure


def checked_path(out: str | Path | None) -> Path | None:
    """Return the file to write to. Raises StoreError for a name that does not end in .json, or an unwritable place.

    Writing is tried with a temporary file in the nearest folder that exists: nothing is left behind.
    """
    if out is None:
        return None
    path = Path(out)
    if path.suffix != ".json":
        raise StoreError(f"--out is {path.name!r}; expected a name that ends in .json (the picture goes beside it).")
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    taken = next((file for file in (path, path.with_suffix(".html")) if file.is_dir()), None)
    try:
        if taken is not None:
            raise IsADirectoryError(f"{taken.name} is a folder")
        with TemporaryFile(dir=existing):
            return path
    except OSError as error:
        raise StoreError(f"--out {path} cannot be written ({error.strerror or error}); give another place.") from error


def write_selftest(result: xr.Dataset, out: str | Path) -> list[Path]:
    """Write `out` (.json, missing numbers as null) and the picture beside it (.html, offline); return both paths."""
    path = Path(out)
    content = result.to_dict()
    for name, variable in (*content["coords"].items(), *content["data_vars"].items()):
        variable["dtype"] = str(result[name].dtype)
    write_json(path, _plain(content))
    picture = path.with_suffix(".html")
    write_text(picture, selftest_figure(result).to_html(include_plotlyjs=True, full_html=True))
    return [path, picture]


def read_selftest(path: str | Path) -> xr.Dataset:
    """Return what `write_selftest` wrote, as the Dataset it was. Raises StoreError for anything else."""
    content = read_json(path)
    try:
        for variable in (*content["coords"].values(), *content["data_vars"].values()):
            variable["data"] = _array(variable["data"], variable["dtype"])
        return xr.Dataset.from_dict(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} is no result of a selftest ({error}).") from error


def _plain(value: object) -> object:
    """Return lists, dictionaries, texts and numbers: JSON has no NaN."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    return value


def _array(data: object, dtype: str) -> np.ndarray:
    values = np.array(data, dtype=object)
    if dtype.startswith("float"):
        numbers = [math.nan if value is None else float(value) for value in values.ravel()]
        return np.array(numbers, dtype=dtype).reshape(values.shape)
    return values.astype(object if dtype == "object" else dtype)
