"""Results on disk: arrays as netCDF (.nc), tables as Parquet (.parquet), their attributes inside.

A file is put together in memory and then written atomically, so that a full disk raises an error (inside HDF5 it would
crash the process). netCDF attributes know no lists, booleans or None, and its texts no NUL and no half surrogate pairs:
those are written as JSON and named in the attribute `itlens_json`; everything else is plain netCDF 4 that any program
reads. The words of a categorical column are checked and written once each, not once per row. CSV files (.csv) are for
spreadsheets: values only, no attributes, and half surrogate pairs as escapes. No pickle is ever written; the maps that
the paper's authors released (.pkl) are read.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import StoreError
from itlens.files import atomic_write, is_plain_text, read_bytes, read_json, write_json, write_text
from itlens.results.density import sparsify
from itlens.results.released import read_released

__all__ = ["Result", "atomic_write", "csv_text", "load", "read_json", "save", "write_json", "write_text"]

Result: TypeAlias = xr.Dataset | xr.DataArray | pd.DataFrame

_JSON, _KIND = "itlens_json", "itlens_dataarray"
_UNNAMED = "itlens_unnamed"
_SMALL = 4096  # bytes; to compress less takes more space than it saves, a file of one prompt 36 kB in place of 20
_DICTIONARY = 1 << 26  # bytes; with less, a large vocabulary would come back as the words in use only
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
    expected = (".parquet", ".csv") if isinstance(result, pd.DataFrame) else (".nc",)
    if path.suffix.lower() not in expected:
        raise StoreError(
            f"Cannot save a {type(result).__name__} as {path.name!r}: the name must end in {' or '.join(expected)}."
        )
    try:
        data = _table_bytes(result, path.suffix.lower()) if isinstance(result, pd.DataFrame) else _netcdf_bytes(result)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise StoreError(f"This {type(result).__name__} cannot be written as {path.name!r}: {error}.") from error
    with atomic_write(path) as file:
        file.write(data)
    return path


def load(path: str | Path) -> Result:
    """Read what `save` wrote (.nc, .parquet, .csv), or one of the authors' released maps (.pkl), into memory.

    Raises StoreError: for another suffix, and for a file that is missing, broken, or cannot be read.
    """
    path = Path(path)
    readers = {".nc": _read_netcdf, ".parquet": _read_parquet, ".csv": _read_csv}
    suffix = path.suffix.lower()
    if suffix == ".pkl":
        return read_released(path)
    if suffix not in readers:
        raise StoreError(f"Cannot load {str(path)!r}: the name must end in {', '.join(readers)} or .pkl.")
    data = read_bytes(path)
    try:
        return readers[suffix](io.BytesIO(data))
    except _BROKEN as error:
        raise StoreError(f"{path} is broken or not a {suffix} file ({error}): compute it again.") from error


def _netcdf_bytes(result: xr.Dataset | xr.DataArray) -> bytes:
    import h5netcdf  # a third of a second; a program that only reads tables should not wait for it

    if isinstance(result, xr.DataArray):
        mark = {_KIND: "" if result.name is None else str(result.name)}
        result = result.to_dataset(name=_UNNAMED if result.name is None else result.name).assign_attrs(mark)
    ds = xr.Dataset(attrs=_encode_attrs(result.attrs))
    ds = ds.assign({name: _encode_variable(result[name].variable) for name in result.data_vars})
    ds = ds.assign_coords({name: _encode_variable(result[name].variable) for name in result.coords})
    for variable in ds.variables.values():
        variable.encoding = {"zlib": True, "complevel": 4, "shuffle": True} if _is_packable(variable) else {}
    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        ds.dump_to_store(xr.backends.H5NetCDFStore(file))
    return buffer.getvalue()


def _is_packable(variable: xr.Variable) -> bool:
    return variable.ndim > 0 and variable.nbytes > _SMALL and variable.dtype.kind in "iufb"


def _encode_variable(variable: xr.Variable) -> xr.Variable:
    values, attrs = variable.values, _encode_attrs(variable.attrs)
    if values.dtype.kind not in "UOT":
        return xr.Variable(variable.dims, values, attrs)
    texts = values.ravel().tolist()
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("it holds values that are neither numbers nor texts")
    if not is_plain_text("".join(texts)):
        texts, attrs = [json.dumps(text) for text in texts], {**attrs, "itlens_json_values": 1}
    return xr.Variable(variable.dims, np.array(texts, dtype=np.str_).reshape(values.shape), attrs)


def _decode_variable(variable: xr.Variable) -> xr.Variable:
    attrs = _decode_attrs(variable.attrs)
    if not attrs.pop("itlens_json_values", 0):
        return xr.Variable(variable.dims, variable.values, attrs)
    texts = [json.loads(text) for text in variable.values.ravel().tolist()]
    values = np.empty(len(texts), dtype=object)
    values[:] = texts
    # numpy's fixed-width texts lose NULs at their end, pandas' object texts refuse half surrogate pairs
    if not any(text.endswith("\0") for text in texts):
        values = values.astype(np.str_)
    return xr.Variable(variable.dims, values.reshape(variable.shape), attrs)


def _encode_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    plain = {str(name): _plain_number(value) for name, value in attrs.items()}
    odd = [k for k, v in plain.items() if not (type(v) in (int, float) or (isinstance(v, str) and is_plain_text(v)))]
    encoded = {name: json.dumps(value) if name in odd else value for name, value in plain.items()}
    return {**encoded, _JSON: json.dumps(odd)} if odd else encoded


def _decode_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    plain = {str(name): _plain_number(value) for name, value in attrs.items()}
    odd = json.loads(plain.pop(_JSON, "[]"))
    return {name: json.loads(value) if name in odd else value for name, value in plain.items()}


def _plain_number(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return [_plain_number(item) for item in value] if isinstance(value, (list, tuple)) else value


def _read_netcdf(file: BinaryIO) -> xr.Dataset | xr.DataArray:
    raw = xr.load_dataset(file, engine="h5netcdf")
    attrs = _decode_attrs(raw.attrs)
    values = xr.Dataset(attrs=attrs).assign({name: _decode_variable(raw[name].variable) for name in raw.data_vars})
    ds: xr.Dataset = values.assign_coords({name: _decode_variable(raw[name].variable) for name in raw.coords})
    if _KIND not in attrs:
        return ds
    array: xr.DataArray = ds[attrs[_KIND] or _UNNAMED].rename(attrs[_KIND] or None)
    return array


def _table_bytes(table: pd.DataFrame, suffix: str) -> bytes:
    if suffix == ".csv":
        return csv_text(table).encode("utf-8", errors="backslashreplace")
    table = table.copy(deep=False)
    table.attrs = {str(name): _plain_number(value) for name, value in table.attrs.items()}
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
        "column_encoding": dict.fromkeys(decimals, "BYTE_STREAM_SPLIT"),
        "use_dictionary": [str(name) for name in table.columns if str(name) not in decimals],
        "dictionary_pagesize_limit": _DICTIONARY,
    }


def _read_parquet(file: BinaryIO) -> pd.DataFrame:
    table = pd.read_parquet(file, engine="pyarrow")
    for name in table.attrs.pop(_JSON, []):
        table[name] = _mapped(table[name], json.loads)
    return table


def _read_csv(file: BinaryIO) -> pd.DataFrame:
    table = pd.read_csv(file, keep_default_na=False, na_values={})
    for name in table.columns:  # an empty field is a missing number, but an empty text
        numbers = pd.to_numeric(table[name].replace("", np.nan), errors="coerce")
        if len(table) and (table[name] != "").any() and numbers.notna().equals(table[name] != ""):
            table[name] = numbers
    return table
