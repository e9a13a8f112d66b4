"""Files that claim to be results: each is one sentence, and reads neither other files nor more than it holds."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import pytest
import xarray as xr

import itlens
from itlens.errors import StoreError
from itlens.results import netcdf
from itlens.results.store import load, save

SECRET = b"a private key"


def external_storage(file: Any, folder: Path) -> None:
    file.create_dataset("score", (len(SECRET),), "u1", external=[(str(folder / "secret"), 0, len(SECRET))])


def virtual_dataset(file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", shape=(3,))
    file.create_virtual_dataset("score", layout)


def external_link(file: Any, folder: Path) -> None:
    file["score"] = h5py.ExternalLink(str(folder / "other.h5"), "/x")


def soft_link(file: Any, folder: Path) -> None:
    file["score"] = h5py.SoftLink("/nowhere")


def link_in_a_group(file: Any, folder: Path) -> None:
    file.create_group("inner")["score"] = h5py.SoftLink("/nowhere")


def claim_of_32_gb(file: Any, folder: Path) -> None:
    file.create_dataset("score", (1 << 32,), "f8", chunks=(1024,))


def packed_claim_of_32_gb(file: Any, folder: Path) -> None:
    file.create_dataset("score", (1 << 32,), "f8", chunks=(1024,), compression="gzip")[:1024] = 0


def unknown_filter(file: Any, folder: Path) -> None:
    file.create_dataset("score", data=np.zeros(100, "f4"), chunks=(10,), compression="lzf")


STRUCTURES: list[tuple[Callable[[Any, Path], None], str]] = [
    (external_storage, "are in other files"),
    (virtual_dataset, "are in other files"),
    (external_link, "is a link to somewhere else"),
    (soft_link, "is a link to somewhere else"),
    (link_in_a_group, "is a link to somewhere else"),
    (claim_of_32_gb, "claims 34,359,738,368 bytes"),
    (packed_claim_of_32_gb, "claims 34,359,738,368 bytes"),
    (unknown_filter, "packed by filter 32000"),
]


@pytest.mark.parametrize(("make", "message"), STRUCTURES, ids=[make.__name__ for make, _ in STRUCTURES])
def test_values_that_are_not_in_the_file(make: Callable[[Any, Path], None], message: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.arange(3, dtype="f4")
    with h5py.File(tmp_path / "x.nc", "w") as file:
        make(file, tmp_path)
    with pytest.raises(StoreError, match=message) as caught:
        load(tmp_path / "x.nc")
    assert "\n" not in str(caught.value) and SECRET.decode() not in str(caught.value)


def test_groups_that_contain_themselves_or_are_reached_in_many_ways(tmp_path: Path) -> None:
    """2 ** 40 ways through 40 groups; and a group within itself. Both have no values: what is read is empty."""
    with h5py.File(tmp_path / "x.nc", "w") as file:
        group = file
        for _ in range(40):
            inner = group.create_group("a")
            group["b"] = inner
            group = inner
        group["again"] = file["a"]
        group["bad"] = h5py.SoftLink("/nowhere")
    with pytest.raises(StoreError, match="'bad' is a link"):
        load(tmp_path / "x.nc")


def repeated_text(path: Path, count: int, length: int) -> Path:
    """A file in which `count` texts of `length` bytes each are the same bytes, stored once."""
    with h5py.File(path, "w") as file:
        texts = file.create_dataset("token", (count,), h5py.string_dtype())
        texts[0] = "x" * length
        start = texts.id.get_offset()
    data = bytearray(path.read_bytes())
    data[start : start + 16 * count] = bytes(data[start : start + 16]) * count
    path.write_bytes(data)
    return path


def test_many_texts_that_are_the_same_bytes(tmp_path: Path) -> None:
    """A file of a megabyte whose texts would take four gigabytes."""
    path = repeated_text(tmp_path / "x.nc", 4096, 1 << 20)
    assert path.stat().st_size < 1.2e6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StoreError, match="claims more than 268,435,456 bytes of texts"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1.5e6  # kB


def test_texts_that_are_counted_and_few_enough_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count is by 64 texts at a time, of any shape, and changes nothing of what is read."""
    texts = np.array([f"word {n}" * (n % 7) for n in range(300)], dtype=object)
    ds = xr.Dataset({"a": ("row", texts), "b": (("x", "y"), texts.reshape(3, 100)), "c": ((), "one")})
    save(ds, tmp_path / "x.nc")
    counted: list[str] = []
    count = netcdf._check_lengths
    monkeypatch.setattr(netcdf, "_check_lengths", lambda item: (counted.append(item.name), count(item)))
    monkeypatch.setattr(netcdf, "_MOST_TEXT", 20_000)
    xr.testing.assert_identical(load(save(ds, tmp_path / "x.nc")), load(tmp_path / "x.nc"))
    assert {"/a", "/b"} <= set(counted)
    monkeypatch.setattr(netcdf, "_MOST_TEXT", 2_000)
    with pytest.raises(StoreError, match="bytes of texts"):
        load(tmp_path / "x.nc")


def test_an_attribute_of_many_texts(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.nc", "w", track_order=True) as file:
        file["pad"] = np.random.default_rng(0).integers(0, 255, 200_000, dtype="u1")
        file.attrs.create("many", ["x"] * 3000, dtype=h5py.string_dtype())
    with pytest.raises(StoreError, match="attribute 'many' claims 3,000 texts"):
        load(tmp_path / "x.nc")


ATTRIBUTES = [
    {"itlens_json": "{broken"},
    {"itlens_json": "[" * 50_000},
    {"itlens_json": "5"},
    {"itlens_json": '["a"]', "a": "no json"},
    {"itlens_json": '["a"]', "a": 5},
    {"itlens_json": 7},
    {"itlens_json": "x" * 60_000},
    {"itlens_dataarray": "nowhere"},
    {"itlens_dataarray": ""},
    {"itlens_dataarray": 5},
]


@pytest.mark.parametrize("attrs", ATTRIBUTES, ids=range(len(ATTRIBUTES)))
def test_attributes_that_are_not_what_itlens_writes(attrs: dict[str, Any], tmp_path: Path) -> None:
    with h5netcdf.File(tmp_path / "x.nc", "w") as file:
        file.dimensions = {"x": 3}
        file.create_variable("score", ("x",), data=np.zeros(3, "f4"))
        file.attrs.update(attrs)
    with pytest.raises(StoreError, match=r"x\.nc is broken or not a \.nc file") as caught:
        load(tmp_path / "x.nc")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["no json", "5", "[1]", "null", "[" * 50_000])
def test_texts_that_are_not_the_json_they_claim_to_be(text: str, tmp_path: Path) -> None:
    with h5netcdf.File(tmp_path / "x.nc", "w") as file:
        file.dimensions = {"x": 1}
        variable = file.create_variable("token", ("x",), dtype=h5py.string_dtype())
        variable[...] = np.array([text], dtype=object)
        variable.attrs["itlens_json_values"] = 1
    with pytest.raises(StoreError, match=r"broken or not a \.nc file") as caught:
        load(tmp_path / "x.nc")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_what_itlens_writes_is_still_read(tmp_path: Path) -> None:
    odd = xr.Dataset({"t": ("x", ["a\0", "b"])}, attrs={"list": [1, None, {"a": 2}], "on": True})
    assert json.dumps(itlens.load(save(odd, tmp_path / "x.nc")).attrs) == json.dumps(odd.attrs)
    array = xr.DataArray(np.arange(3.0), dims="x", name="n")
    xr.testing.assert_identical(itlens.load(save(array, tmp_path / "y.nc")), array)
