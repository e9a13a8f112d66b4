"""Reading netCDF through h5py gives what xarray's own way gives, and other programs' files are left to xarray."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from itlens.results import netcdf
from itlens.results.netcdf import netcdf_bytes, read_netcdf


def own() -> xr.Dataset:
    """Every kind of variable that results have."""
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {
            "score": (("target", "source"), rng.normal(size=(3, 4)).astype(np.float32), {"method": "ig", "steps": 20}),
            "count": (("source",), np.arange(4)),
            "large": (("row", "column"), rng.normal(size=(60, 70)), {"share": 0.5}),
            "is_kept": (("target",), np.array([True, False, True])),
            "missing": (("target",), np.array([np.nan, 1.0, np.inf])),
            "single": ((), 7.5),
            "none": (("nothing",), np.zeros(0)),
        },
        coords={
            "token": (("source",), ["a", "", "\N{PARTY POPPER}", "nul\0"]),
            "note": (("target",), ["", "", ""]),
            "source": [3, 5, 7, 9],
            "k": 100,
        },
        attrs={"model": "tiny", "list": [1, 2], "none": None, "flag": True, "level": 3, "text": ""},
    )


def by_xarray(data: bytes, monkeypatch: pytest.MonkeyPatch) -> xr.Dataset | xr.DataArray:
    with monkeypatch.context() as patched:
        patched.setattr(netcdf, "_plain_parts", lambda file, items: None)
        return read_netcdf(data)


@pytest.mark.parametrize(
    "result",
    [own(), own()["score"], own()["single"].rename(None), xr.Dataset()],
    ids=["dataset", "array", "unnamed", "empty"],
)
def test_both_ways_read_the_same(result: xr.Dataset | xr.DataArray, monkeypatch: pytest.MonkeyPatch) -> None:
    data = netcdf_bytes(result)
    expected = by_xarray(data, monkeypatch)
    monkeypatch.setattr(xr, "load_dataset", None)  # so that only h5py reads
    found = read_netcdf(data)
    assert type(found) is type(expected)
    assert found.identical(expected)
    assert list(found.coords) == list(expected.coords)
    parts = [each if isinstance(each, xr.Dataset) else each.to_dataset(name="it") for each in (found, expected)]
    assert list(parts[0].variables) == list(parts[1].variables)
    for name, variable in parts[0].variables.items():
        assert variable.dtype == parts[1][name].dtype, name
        assert {key: type(value) for key, value in variable.attrs.items()} == {
            key: type(value) for key, value in parts[1][name].attrs.items()
        }


@pytest.mark.parametrize(
    "foreign",
    [
        xr.Dataset({"t": ("x", pd.date_range("2020-01-01", periods=3))}),
        xr.Dataset({"a": ("x", [1.5, np.nan], {"units": "metres"})}),
        xr.Dataset({"a": ("x", np.array([1 + 2j]))}).map(np.real),
    ],
    ids=["times", "units", "plain"],
)
def test_other_programs_files_read_as_xarray_reads_them(foreign: xr.Dataset, tmp_path: Path) -> None:
    foreign.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    data = (tmp_path / "a.nc").read_bytes()
    xr.testing.assert_identical(read_netcdf(data), xr.load_dataset(io.BytesIO(data), engine="h5netcdf"))


def test_packed_values_of_other_programs_are_unpacked(tmp_path: Path) -> None:
    packed = xr.Dataset({"a": ("x", [0.5, 1.0, 2.5])})
    packed.to_netcdf(
        tmp_path / "a.nc", engine="h5netcdf", encoding={"a": {"scale_factor": 0.5, "dtype": "i2", "_FillValue": -1}}
    )
    found = read_netcdf((tmp_path / "a.nc").read_bytes())
    assert found["a"].values.tolist() == [0.5, 1.0, 2.5]
