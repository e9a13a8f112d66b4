"""Files written through h5py hold what xarray and h5netcdf write, object by object, and read back the same."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from itlens.results import netcdf_file
from itlens.results.netcdf import netcdf_bytes, read_netcdf
from itlens.results.netcdf_file import dataset_bytes

RANDOM = np.random.default_rng(0)
PLAIN = {
    "numbers": xr.Dataset(
        {"a": (("x", "y"), np.ones((2, 3)), {"u": "é", "n": 1, "f": 2.5}), "half": ((), np.float32(0.5))},
        attrs={"dtype": "float32", "empty": "", "one": 3},
    ),
    "of every type": xr.Dataset(
        {str(dtype): ("x", np.arange(4).astype(dtype)) for dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")}
        | {"f4": ("x", np.array([1, np.nan, np.inf, 0], "f4")), "b": ("x", np.array([True, False, True, True]))}
    ),
    "texts": xr.Dataset(
        {"s": ((), "text"), "t": (("x", "y"), np.array([["p", ""], ["long \U0001f389", "é"]]))},
        coords={"y": ["u", "v"]},
    ),
    "coordinates": xr.Dataset(
        {"a": (("layer", "head"), np.arange(6.0).reshape(2, 3)), "b": ("head", [1, 2, 3])},
        coords={
            "layer": [4, 5],
            "name": ("head", ["p", "q", "r"]),
            "place": (("layer", "head"), np.zeros((2, 3), "f4")),
            "alone": 7,
        },
    ),
    "large and packed": xr.Dataset({"big": (("x", "y"), RANDOM.normal(size=(40, 50)).astype("f4"))}),
    "nothing": xr.Dataset(),
}
ODD = {
    "an empty axis": xr.Dataset({"a": ("x", np.zeros(0))}),
    "a name with a space": xr.Dataset({"a b": ("x", [1.0])}),
    "a name with a slash": xr.Dataset({"a": ("x", [1.0])}, coords={"l": ("x", [2.0])}, attrs={"a/b": 1}),
    "a variable named as another's axis": xr.Dataset({"x": ("y", [1.0, 2.0]), "b": ("x", [1.0])}),
    "half precision": xr.Dataset({"a": ("x", np.ones(3, "f2"))}),
    "units": xr.Dataset({"a": ("x", [1.0, 2.0], {"units": "nats"})}),
}


def described(data: bytes) -> dict[str, Any]:
    """Every object of a file: type, shape, packing, values and attributes (but for references and their order)."""
    with h5py.File(io.BytesIO(data), "r") as file:
        return {name: dict(_facts(file, item)) for name, item in [("/", file), *file.items()]}


def _facts(file: h5py.File, item: Any) -> Iterator[tuple[str, Any]]:
    for name in item.attrs:
        value = item.attrs[name]
        if name == "DIMENSION_LIST":
            yield name, [file[scale].name for (scale,) in value]
        elif name == "REFERENCE_LIST":
            yield name, sorted((file[scale].name, int(axis)) for scale, axis in value)
        elif name not in ("_NCProperties", "_Netcdf4Dimid"):
            yield name, (str(item.attrs.get_id(name).dtype), np.asarray(value).tolist().__repr__())
    if isinstance(item, h5py.Dataset):
        yield (
            "values",
            (item.dtype.str, item.shape, item.compression, repr(item.fillvalue), repr(np.asarray(item[()]).tolist())),
        )


@pytest.mark.parametrize("name", PLAIN)
def test_the_file_holds_what_xarray_and_h5netcdf_write(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = PLAIN[name]
    theirs = described(netcdf_file._any_bytes(ds.copy()))
    monkeypatch.setattr(netcdf_file, "_any_bytes", None)  # this one is written here
    ours = described(dataset_bytes(ds.copy()))
    assert {*ours} == {*theirs}
    for each, facts in theirs.items():
        own = {key: value for key, value in ours[each].items() if key != "_Netcdf4Coordinates"}
        facts.pop("_Netcdf4Coordinates", None)
        assert own == facts, each


@pytest.mark.parametrize("name", [*PLAIN, *ODD])
def test_any_program_reads_what_was_written(name: str) -> None:
    ds = (PLAIN | ODD)[name]
    data = dataset_bytes(ds.copy())
    xr.testing.assert_identical(xr.load_dataset(io.BytesIO(data), engine="h5netcdf"), ds)
    xr.testing.assert_identical(read_netcdf(netcdf_bytes(ds)), ds)


@pytest.mark.parametrize("name", ODD)
def test_what_is_not_plain_is_left_to_xarray(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(netcdf_file, "_plain_bytes", lambda ds: written.append("here") or b"")
    dataset_bytes(ODD[name].copy())
    assert written == (["here"] if name == "units" else [])


def test_dimensions_are_numbered_alike_in_scales_and_variables() -> None:
    data = dataset_bytes(PLAIN["coordinates"].copy())
    with h5py.File(io.BytesIO(data), "r") as file:
        numbers = {name: int(file[name].attrs["_Netcdf4Dimid"]) for name in ("layer", "head")}
        assert sorted(numbers.values()) == [0, 1]
        assert file["a"].attrs["_Netcdf4Coordinates"].tolist() == [numbers["layer"], numbers["head"]]
