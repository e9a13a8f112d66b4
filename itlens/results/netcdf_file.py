"""Write a plain Dataset as a netCDF 4 file through h5py: a study has a file per prompt, and xarray's own way takes six
times as long.

The file holds what xarray and h5netcdf would write of it: dimensions as HDF5 dimension scales, numbers of the
dimensions, texts of any length, truth values as bytes, NaN as the fill value of decimals, the names of the coordinates.
What is not plain (names that netCDF puts elsewhere, dates, complex numbers) is left to xarray.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    import h5py

NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable."
# what HDF5, netCDF and xarray keep for themselves among the attributes
BOOKKEEPING = {"DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME", "_Netcdf4Dimid", "_Netcdf4Coordinates"}
_OF_FILES = BOOKKEEPING | {"coordinates", "_NCProperties"}
_OF_VARIABLES = BOOKKEEPING | {"coordinates", "_FillValue", "missing_value", "dtype"}
_SMALL = 4096  # bytes; to compress less takes more space than it saves, a file of one prompt 36 kB in place of 20
_DEFLATED = {"compression": "gzip", "compression_opts": 4, "shuffle": True}


def dataset_bytes(ds: xr.Dataset) -> bytes:
    """Return a Dataset of numbers and texts, with attributes of numbers and texts, as a netCDF 4 file."""
    return _plain_bytes(ds) if _is_plain(ds) else _any_bytes(ds)


def _any_bytes(ds: xr.Dataset) -> bytes:
    """Return the file that xarray and h5netcdf write."""
    import h5netcdf  # a third of a second; a program that only reads tables should not wait for it

    for variable in ds.variables.values():
        packed = {"zlib": True, "complevel": _DEFLATED["compression_opts"], "shuffle": True}
        variable.encoding = packed if _is_packable(variable) else {}
    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        ds.dump_to_store(xr.backends.H5NetCDFStore(file))
    return buffer.getvalue()


def _is_plain(ds: xr.Dataset) -> bool:
    """Return whether the Dataset has nothing for which netCDF or xarray have a way of their own."""
    names = [*ds.variables, *ds.sizes, *ds.attrs, *(name for each in ds.variables.values() for name in each.attrs)]
    return (
        all(isinstance(name, str) and name.isprintable() and not {*name} & {*" /."} for name in names)
        and not any(str(name).startswith("_nc4_") for name in ds.variables)
        and all(variable.dims == (name,) for name, variable in ds.variables.items() if name in ds.sizes)
        and all(_is_plain_variable(variable) for variable in ds.variables.values())
        and _are_plain_attrs(ds.attrs, _OF_FILES)
    )


def _is_plain_variable(variable: xr.Variable) -> bool:
    dtype = variable.dtype
    return (
        dtype.kind in "biufU"
        and dtype.isnative
        and (dtype.kind != "f" or dtype.itemsize in (4, 8))
        and 0 not in variable.shape
        and _are_plain_attrs(variable.attrs, _OF_VARIABLES)
    )


def _are_plain_attrs(attrs: Mapping[Any, Any], kept: set[str]) -> bool:
    whole = (value for value in attrs.values() if isinstance(value, int))
    return not attrs.keys() & kept and all(-(1 << 63) <= value < 1 << 63 for value in whole)


def _plain_bytes(ds: xr.Dataset) -> bytes:
    import h5py

    variables, attrs = xr.conventions.encode_dataset_coordinates(ds)
    numbers = {name: number for number, name in enumerate(ds.sizes)}
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=True) as file:
        scales = {
            name: file.create_dataset(name, (ds.sizes[name],), ">f4") for name in numbers if name not in variables
        }
        items = {name: _written(file, str(name), variable) for name, variable in variables.items()}
        for name, number in numbers.items():
            scale = items[name] if name in items else scales[name]
            said = name if name in items else f"{NO_VARIABLE}{ds.sizes[name]:10d}"
            h5py.h5ds.set_scale(scale.id, str(said).encode())
            scale.attrs["_Netcdf4Dimid"] = np.int32(number)
        for name, variable in variables.items():
            _attach(items[name], name, [(dim, numbers[dim], items.get(dim, scales.get(dim))) for dim in variable.dims])
        _write_attrs(file, attrs)
    return buffer.getvalue()


def _written(file: h5py.File, name: str, variable: xr.Variable) -> h5py.Dataset:
    import h5py

    values, kind, attrs, options = variable.values, variable.dtype.kind, dict(variable.attrs), {}
    if kind == "U":
        item = file.create_dataset(name, values.shape, h5py.string_dtype(), values.astype(object), track_order=True)
    else:
        if kind == "b":
            values, attrs = values.astype(np.int8), {**attrs, "dtype": "bool"}
        if kind == "f":
            options["fillvalue"] = np.nan
        packing = _DEFLATED if _is_packable(variable) else {}
        item = file.create_dataset(name, values.shape, values.dtype, values, track_order=True, **packing, **options)
        if kind == "f":
            item.attrs.create("_FillValue", np.full(1, np.nan, values.dtype))
    _write_attrs(item, attrs)
    return item


def _write_attrs(item: Any, attrs: Mapping[Any, Any]) -> None:
    for name, value in attrs.items():
        item.attrs.create(name, value if isinstance(value, str) else np.atleast_1d(value))


def _attach(item: h5py.Dataset, name: Any, dims: list[tuple[Any, int, h5py.Dataset]]) -> None:
    """Name the dimensions of a variable: the numbers of all, and the scale of each unless it is one itself."""
    import h5py

    if not dims:
        return
    item.attrs["_Netcdf4Coordinates"] = np.array([number for _, number, _ in dims], np.int32)
    if (name,) == tuple(dim for dim, _, _ in dims):
        return
    item.attrs["_Netcdf4Dimid"] = np.int32(dims[0][1])
    for axis, (_, _, scale) in enumerate(dims):
        h5py.h5ds.attach_scale(item.id, scale.id, axis)


def _is_packable(variable: xr.Variable) -> bool:
    return variable.ndim > 0 and variable.nbytes > _SMALL and variable.dtype.kind in "iufb"
