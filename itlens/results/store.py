"""Results on disk: arrays as netCDF (.nc), tables as Parquet (.parquet), their attributes inside.

A file is put together in memory and then written atomically, so that a full disk raises an error (inside HDF5 it would
crash the process). The words of a categorical column are checked and written once each, not once per row. CSV files
(.csv) are for spreadsheets: values only, no attributes, and half surrogate pairs as escapes. No pickle is ever written;
the maps that the paper's authors released (.pkl) are read.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import StoreError
from itlens.files import atomic_write, is_plain_text, read_bytes, read_json, write_bytes, write_json, write_text
from itlens.results.density import sparsify
from itlens.results.netcdf import netcdf_bytes, plain_number, read_netcdf
from itlens.results.released import read_released

__all__ = ["Result", "atomic_write", "csv_text", "file_bytes", "load", "read_json", "save", "write_json", "write_text"]

Result: TypeAlias = xr.Dataset | xr.DataArray | pd.DataFrame

_JSON = "itlens_json"
_DICTIONARY = 1 << 26  # bytes; with less, a large vocabulary would come back as the words in use only
# bytes that a table may have in any case, and for each byte of its file: columns of one value pack a hundredfold
_LEAST, _PACKED = 1 << 28, 200
_BROKEN = (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError)


def save(result: Result, path: str | Path, *, levels: int | None = None) -> Path:
    """Write a Dataset or DataArray to .nc, or a DataFrame to .parquet or .csv; returns the path.

    `levels=10` stores the scores of an attribution result as levels 0..10, in a third of the space. Missing
    folders are made. Raises StoreError: for a suffix that does not fit, and when the file cannot be written.
    """
    path = Path(path)
    if levels is not None:
        if not isinstance(result, xr.Dataset):
            raise StoreError(f"levels={levels} is for attribution results, got a {type(result).__name__}.")
        result = result.assign(score=sparsify(result, levels, threshold=0)).assign_attrs(levels=levels)
    write_bytes(path, file_bytes(result, path))
    return path


def file_bytes(result: Result, path: Path) -> bytes:
    """Return what `save` writes to `path`. Raises StoreError for a suffix or a result that does not fit."""
    expected = (".parquet", ".csv") if isinstance(result, pd.DataFrame) else (".nc",)
    if path.suffix.lower() not in expected:
        raise StoreError(
            f"Cannot save a {type(result).__name__} as {path.name!r}: the name must end in {' or '.join(expected)}."
        )
    try:
        return _table_bytes(result, path.suffix.lower()) if isinstance(result, pd.DataFrame) else netcdf_bytes(result)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise StoreError(f"This {type(result).__name__} cannot be written as {path.name!r}: {error}.") from error


def load(path: str | Path) -> Result:
    """Read what `save` wrote (.nc, .parquet, .csv), or one of the authors' released maps (.pkl), into memory.

    Raises StoreError: for another suffix, and for a file that is missing, broken, or cannot be read.
    """
    path = Path(path)
    readers = {".nc": read_netcdf, ".parquet": _read_parquet, ".csv": _read_csv}
    suffix = path.suffix.lower()
    if suffix == ".pkl":
        return read_released(path)
    if suffix not in readers:
        raise StoreError(f"Cannot load {str(path)!r}: the name must end in {', '.join(readers)} or .pkl.")
    data = read_bytes(path)
    try:
        return readers[suffix](data)
    except (*_BROKEN, StoreError) as error:
        raise StoreError(f"{path} is broken or not a {suffix} file ({error}): compute it again.") from error


def _table_bytes(table: pd.DataFrame, suffix: str) -> bytes:
    if suffix == ".csv":
        return csv_text(table).encode("utf-8", errors="backslashreplace")
    table = table.copy(deep=False)
    table.attrs = {str(name): plain_number(value) for name, value in table.attrs.items()}
    json.dumps(table.attrs)  # pandas would only warn, and drop them all
    # Parquet holds NULs, and no half surrogate pairs
    odd = [name for name in table.columns if not is_plain_text(_text_of(table[name]).replace("\0", ""))]
    for name in odd:
        table[name] = _mapped(table[name], json.dumps)
    table.attrs |= {_JSON: odd} if odd else {}
    buffer = io.BytesIO()
    table.to_parquet(buffer, engine="pyarrow", **_packing(table))
    return buffer.getvalue()


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV: values only, an index only where it has a name."""
    # unquoted, a carriage return would begin a new row in the eyes of those who read it
    returns = any("\r" in _text_of(table[name]) for name in table.columns)
    quoting = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    named = table.index.name is not None
    text: str = table.to_csv(index=named, lineterminator="\n", quoting=quoting)  # type: ignore[call-overload]
    return text


def _text_of(column: pd.Series[Any]) -> str:
    """Return all texts of a column in one; of a categorical column those of its categories."""
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    if not (pd.api.types.is_object_dtype(values.dtype) or pd.api.types.is_string_dtype(values.dtype)):
        return ""
    return "".join(text for text in values if isinstance(text, str))


def _mapped(column: pd.Series[Any], function: Callable[[Any], Any]) -> pd.Series[Any]:
    """Return the column with a function of each value; of a categorical column, of each category."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        words = pd.Index([function(word) for word in column.cat.categories], dtype=object)
        renamed: pd.Series[Any] = column.cat.rename_categories(words)
        return renamed
    mapped: pd.Series[Any] = pd.Series([function(value) for value in column], index=column.index, dtype=object)
    return mapped


def _packing(table: pd.DataFrame) -> dict[str, Any]:
    """Return options that write 20 million rows in seconds: decimals split by byte, anything else through a
    dictionary."""
    decimals = [str(name) for name in table.columns if table[name].dtype in (np.float32, np.float64)]
    return {
        "compression": "zstd",
        "write_page_checksum": True,
        "column_encoding": dict.fromkeys(decimals, "BYTE_STREAM_SPLIT"),
        "use_dictionary": [str(name) for name in table.columns if str(name) not in decimals],
        "dictionary_pagesize_limit": _DICTIONARY,
    }


def _read_parquet(data: bytes) -> pd.DataFrame:
    from pyarrow import parquet

    claims = parquet.ParquetFile(io.BytesIO(data)).metadata
    cells = claims.num_rows * max(claims.num_columns, 1)
    if 8 * cells > _LEAST + _PACKED * len(data):
        raise StoreError(f"it claims {cells:,} values in {len(data):,} bytes")
    table = pd.read_parquet(io.BytesIO(data), engine="pyarrow", page_checksum_verification=True)
    for name in table.attrs.pop(_JSON, []):
        table[name] = _mapped(table[name], json.loads)
    return table


def _read_csv(data: bytes) -> pd.DataFrame:
    table = pd.read_csv(io.BytesIO(data), keep_default_na=False, na_values={})
    for name in table.columns:  # an empty field is a missing number, but an empty text
        numbers = pd.to_numeric(table[name].replace("", np.nan), errors="coerce")
        if len(table) and (table[name] != "").any() and numbers.notna().equals(table[name] != ""):
            table[name] = numbers
    return table
