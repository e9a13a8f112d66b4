"""Labelled arrays as netCDF 4, put together and taken apart in memory.

netCDF attributes know no lists, booleans or None, and its texts no NUL and no half surrogate pairs: those are written
as JSON and named in the attribute `itlens_json`; everything else is plain netCDF 4 that any program reads. Reading goes
through h5py where a file holds no more than `netcdf_bytes` writes: xarray's own way takes six times as long, and a
study has a file per prompt. A file from elsewhere is looked at first, and left to xarray where it needs more.

Behind the end of the HDF5 file, where every reader stops, stands the SHA-256 of all before it: HDF5 keeps no checksum
of small arrays, and a zeroed block in its heap of texts makes it read for ever. A file without one is another
program's; its heaps are walked first.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr

from itlens.errors import StoreError
from itlens.files import is_plain_text
from itlens.results.netcdf_file import BOOKKEEPING, NO_VARIABLE, dataset_bytes

if TYPE_CHECKING:
    import h5py

_JSON, _KIND = "itlens_json", "itlens_dataarray"
_JSON_VALUES = "itlens_json_values"
_UNNAMED = "itlens_unnamed"
_PACKED = 1100  # times that deflate can pack bytes, at the very most (1,032)
_MOST_TEXT = 1 << 28  # bytes of the texts of one variable, where they could be more than the file holds
_MANY = 16  # texts of an attribute
_FEW = 64  # texts that are read at a time to count their bytes
_SLACK = 1 << 20  # bytes that a file may leave to HDF5's fill values
_SEAL = b"\nitlens sha256 "  # then 64 digits, behind everything else
_SEALED = "itlens_sealed"  # an attribute: there was such a line
_HEAP, _HEAP_HEAD, _OBJECT_HEAD = b"GCOL\1\0\0\0", 16, 16  # of HDF5's heaps of texts: bytes
_NO_VARIABLE = NO_VARIABLE.encode()
# attributes by which values are to be read in another way than they stand there
_CODED = {"scale_factor", "add_offset", "missing_value", "_Unsigned", "units", "calendar", "flag_values"}
_FILTERS = (1, 2, 3)  # deflate, shuffle, fletcher32


def netcdf_bytes(result: xr.Dataset | xr.DataArray) -> bytes:
    """Return a Dataset or DataArray as a netCDF 4 file."""
    if isinstance(result, xr.DataArray):
        mark = {_KIND: "" if result.name is None else str(result.name)}
        result = result.to_dataset(name=_UNNAMED if result.name is None else result.name).assign_attrs(mark)
    ds = xr.Dataset(attrs={**_encode_attrs(result.attrs), _SEALED: 1})
    ds = ds.assign({name: _encode_variable(result[name].variable) for name in result.data_vars})
    ds = ds.assign_coords({name: _encode_variable(result[name].variable) for name in result.coords})
    data = dataset_bytes(ds)
    return data + _seal(data)


def read_netcdf(data: bytes) -> xr.Dataset | xr.DataArray:
    """Return what `netcdf_bytes` wrote, or another program's netCDF 4.

    Raises StoreError for a damaged file, and one that asks for other files or for more memory than it can hold values.
    """
    import h5py

    sealed = data[-len(_seal(b"")) :].startswith(_SEAL)
    if sealed and not data.endswith(_seal(data[: -len(_seal(b""))])):
        raise StoreError("its content is not what was written")
    if not sealed:
        _check_heaps(data)
    with h5py.File(io.BytesIO(data), "r") as file:
        raw = _plain_parts(file, _check_structure(file, len(data), set()))
    if raw is None:
        other = xr.load_dataset(io.BytesIO(data), engine="h5netcdf")
        raw = {str(name): each for name, each in other.variables.items()}, {*map(str, other.coords)}, other.attrs
    variables, named, raw_attrs = raw
    attrs = _decode_attrs(raw_attrs)
    if attrs.pop(_SEALED, 0) and not sealed:
        raise StoreError("its end is missing")
    decoded = {name: _decode_variable(variable) for name, variable in variables.items()}
    coords = {name: variable for name, variable in decoded.items() if name in named or variable.dims == (name,)}
    ds = xr.Dataset({name: each for name, each in decoded.items() if name not in coords}, coords, attrs)
    if _KIND not in attrs:
        return ds
    if (name := attrs[_KIND] or _UNNAMED) not in ds:
        raise StoreError(f"its attribute {_KIND!r} names {str(name)[:60]!r}, and there is no such variable")
    array: xr.DataArray = ds[name].rename(attrs[_KIND] or None)
    return array


def _seal(data: bytes) -> bytes:
    return _SEAL + hashlib.sha256(data).hexdigest().encode()


def _check_heaps(data: bytes) -> None:
    """Raise StoreError where HDF5 would not come to the end of a heap of texts: an object in it takes no room."""
    at = data.find(_HEAP)
    while at >= 0:
        end = at + int.from_bytes(data[at + 8 : at + 16], "little")
        place = at + _HEAP_HEAD
        while place + _OBJECT_HEAD <= min(end, len(data)):
            number = int.from_bytes(data[place : place + 2], "little")
            size = int.from_bytes(data[place + 8 : place + 16], "little")
            step = _OBJECT_HEAD + -(-size // 8) * 8 if number else size
            if not step:
                raise StoreError("a part of it was overwritten with zeros")
            place += step
        at = data.find(_HEAP, at + 1)


def _check_structure(group: h5py.Group, size: int, seen: set[int]) -> dict[str, Any]:
    """Raise StoreError where values are not in the file itself, plain or packed, or are too many to be in it.

    Returns what the group holds, by name. seen: addresses of the groups that were checked; one may be reached in many
    ways, also from within itself.
    """
    import h5py

    items: dict[str, Any] = {}
    if (place := h5py.h5o.get_info(group.id).addr) in seen:
        return items
    seen.add(place)
    _check_attributes(group, size)
    for name in group:
        if group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type != h5py.h5l.TYPE_HARD:
            raise StoreError(f"its {name!r} is a link to somewhere else; such files are not read")
        item = items[name] = group[name]
        if isinstance(item, h5py.Group):
            _check_structure(item, size, seen)
        elif isinstance(item, h5py.Dataset):
            layout = item.id.get_create_plist()
            if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
                raise StoreError(f"the values of {name!r} are in other files; such files are not read")
            filters = {layout.get_filter(number)[0] for number in range(layout.get_nfilters())}
            if unknown := filters - {*_FILTERS}:
                raise StoreError(f"{name!r} is packed by filter {min(unknown)} of HDF5; known is deflate")
            if item.nbytes > _PACKED * size + _SLACK or (not item.id.get_storage_size() and item.nbytes > _SLACK):
                raise StoreError(f"{name!r} claims {item.nbytes:,} bytes of values, in a file of {size:,}")
            if h5py.check_vlen_dtype(item.dtype) is not None and item.size * size > _MOST_TEXT:
                _check_lengths(item)
            _check_attributes(item, size)
    return items


def _check_lengths(item: h5py.Dataset) -> None:
    """Raise StoreError for texts that are longer than the file could hold: many may stand for the same bytes."""
    rows = item.shape[0] if item.ndim else 1
    step, read = max(1, _FEW * rows // item.size), 0
    for start in range(0, rows, step):
        part = item[start : start + step] if item.ndim else item[()]
        read += sum(len(value) for value in np.ravel(np.asarray(part, dtype=object)))
        if read > _MOST_TEXT:
            raise StoreError(f"{item.name.removeprefix('/')!r} claims more than {_MOST_TEXT:,} bytes of texts")


def _check_attributes(item: Any, size: int) -> None:
    """Raise StoreError for an attribute whose texts can be more than the file holds (see `_check_lengths`)."""
    import h5py

    if size * size < 16 * _MOST_TEXT:  # a text takes 16 bytes at least: no attribute can ask for more
        return
    for name in item.attrs:
        attribute = item.attrs.get_id(name)
        kind, count = attribute.get_type(), attribute.get_space().get_simple_extent_npoints()
        of_any_length = kind.get_class() == h5py.h5t.VLEN or (
            kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()
        )
        if of_any_length and count > _MANY and count * size > _MOST_TEXT:
            raise StoreError(f"the attribute {name!r} claims {count:,} texts, in a file of {size:,} bytes")


_Parts: TypeAlias = tuple[dict[str, xr.Variable], set[str], dict[str, Any]]


def _plain_parts(file: h5py.File, items: Mapping[str, Any]) -> _Parts | None:
    """Return the variables, names of coordinates and attributes of a file that holds no more than `netcdf_bytes`
    writes; None where it does."""
    import h5py

    variables: dict[str, xr.Variable] = {}
    attrs = _attributes(file)
    named = str(attrs.pop("coordinates", "")).split()
    for name, item in items.items():
        if not isinstance(item, h5py.Dataset) or name.startswith("_nc4_"):
            return None
        listed = [*item.attrs]
        if "NAME" in listed and item.attrs["NAME"][: len(_NO_VARIABLE)] == _NO_VARIABLE:
            continue
        own, dims = _attributes(item, listed), _dimensions(file, name, item, listed)
        kind = own.pop("dtype", None)
        fill = own.pop("_FillValue", np.nan)
        if dims is None or own.keys() & _CODED or kind not in (None, "bool") or not _is_nan(fill):
            return None
        is_text = h5py.check_string_dtype(item.dtype) is not None
        if not is_text and item.dtype.kind not in "iufb":
            return None
        named += str(own.pop("coordinates", "")).split()
        values = _texts(item) if is_text else np.asarray(item[()])
        variables[name] = xr.Variable(dims, values.astype(bool) if kind else values, own)
    attrs.pop("_NCProperties", None)
    return variables, {*named} & {*variables}, attrs


def _texts(item: h5py.Dataset) -> np.ndarray:
    values = np.asarray(item.asstr()[()], dtype=object)
    return np.array(values.ravel().tolist(), dtype=np.str_).reshape(values.shape)


def _dimensions(file: h5py.File, name: str, item: h5py.Dataset, listed: Sequence[str]) -> tuple[str, ...] | None:
    import h5py

    if "DIMENSION_LIST" in listed:
        names = [h5py.h5r.get_name(scales[0], file.id) for scales in item.attrs["DIMENSION_LIST"]]
        return tuple(name.decode("utf-8").removeprefix("/") for name in names)
    if "CLASS" in listed and item.attrs["CLASS"] == b"DIMENSION_SCALE":
        return (name,) if item.ndim == 1 else None
    return () if item.ndim == 0 else None


def _attributes(item: Any, listed: Sequence[str] | None = None) -> dict[str, Any]:
    names = item.attrs if listed is None else listed
    return {name: _attribute(item.attrs[name]) for name in names if name not in BOOKKEEPING}


def _attribute(value: Any) -> Any:
    import h5py

    if isinstance(value, h5py.Empty):
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="surrogateescape")
    return value[0] if isinstance(value, np.ndarray) and value.shape == (1,) else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _encode_variable(variable: xr.Variable) -> xr.Variable:
    values, attrs = variable.values, _encode_attrs(variable.attrs)
    if values.dtype.kind not in "UOT":
        return xr.Variable(variable.dims, values, attrs)
    texts = values.ravel().tolist()
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("it holds values that are neither numbers nor texts")
    if not is_plain_text("".join(texts)):
        texts, attrs = [json.dumps(text) for text in texts], {**attrs, _JSON_VALUES: 1}
    return xr.Variable(variable.dims, np.array(texts, dtype=np.str_).reshape(values.shape), attrs)


def _decode_variable(variable: xr.Variable) -> xr.Variable:
    attrs = _decode_attrs(variable.attrs)
    if not attrs.pop(_JSON_VALUES, 0):
        return xr.Variable(variable.dims, variable.values, attrs)
    texts = [json.loads(text) for text in variable.values.ravel().tolist()]
    if not all(isinstance(text, str) for text in texts):
        raise StoreError("its texts are not the JSON texts that they are said to be")
    values = np.empty(len(texts), dtype=object)
    values[:] = texts
    # numpy's fixed-width texts lose NULs at their end, pandas' object texts refuse half surrogate pairs
    if not any(text.endswith("\0") for text in texts):
        values = values.astype(np.str_)
    return xr.Variable(variable.dims, values.reshape(variable.shape), attrs)


def _encode_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    plain = {str(name): plain_number(value) for name, value in attrs.items()}
    odd = [k for k, v in plain.items() if not (type(v) in (int, float) or (isinstance(v, str) and is_plain_text(v)))]
    encoded = {name: json.dumps(value) if name in odd else value for name, value in plain.items()}
    return {**encoded, _JSON: json.dumps(odd)} if odd else encoded


def _decode_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    plain = {str(name): plain_number(value) for name, value in attrs.items()}
    odd = json.loads(plain.pop(_JSON, "[]"))
    if not isinstance(odd, list) or not all(isinstance(plain.get(str(name)), str) for name in odd):
        raise StoreError(f"its attribute {_JSON!r} does not list attributes that are JSON")
    return {name: json.loads(value) if name in odd else value for name, value in plain.items()}


def plain_number(value: Any) -> Any:
    """Return a value without numpy's types: numbers, and lists of them."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return [plain_number(item) for item in value] if isinstance(value, (list, tuple)) else value
