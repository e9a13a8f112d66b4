"""Results survive the disk exactly, whatever their tokens hold; what cannot be written or read says why."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import itlens
from itlens import files
from itlens.errors import StoreError
from itlens.results import store
from itlens.results.density import importance_density
from itlens.results.store import atomic_write, load, read_json, save, write_json, write_text

TOKENS = ["Trans", "", "\0", "a\0b", "\U0001f600", "</script>", "\\u0041", '"', "é", " "]


def result(tokens=TOKENS, targets=3, **attrs):
    values = np.random.default_rng(0).normal(size=(len(tokens), targets)).astype(np.float32)
    coords = {
        "source_token": ("source", np.array(tokens, dtype=object)),
        "source_start": ("source", np.arange(len(tokens))),
        "target_token": ("target", np.array(["x"] * targets, dtype=np.str_)),
        "objective": ("target", np.full(targets, np.nan, np.float32)),
    }
    return xr.Dataset({"score": (("source", "target"), values, {"units": "probability"})}, coords, attrs)


def test_dataset_round_trip(tmp_path):
    ds = result(
        model="m", note="", text="a\0\ud800\U0001f600" * 30_000, one=[1], names=["a"], n=3, x=0.1, yes=True, no=None
    )
    path = save(ds, tmp_path / "new" / "folder" / "a.nc")
    back = load(path)
    xr.testing.assert_identical(back, ds)
    assert back.attrs == ds.attrs and [type(v) for v in back.attrs.values()] == [type(v) for v in ds.attrs.values()]
    assert back.score.dtype == np.float32 and back.score.attrs == {"units": "probability"}
    assert back.source_token.values.tolist() == TOKENS
    save(back, path)  # what was loaded can be saved again
    xr.testing.assert_identical(load(path), ds)
    assert list(path.parent.iterdir()) == [path]


def test_half_surrogate_pairs(tmp_path):
    ds = xr.Dataset(coords={"source_token": ("source", np.array(["\ud800", "x"]))})
    assert load(save(ds, tmp_path / "a.nc")).source_token.values.tolist() == ["\ud800", "x"]


@pytest.mark.parametrize("tokens, targets", [(TOKENS, 0), ([], 3), ([], 0)])
def test_empty_axes(tmp_path, tokens, targets):
    back = load(save(result(tokens, targets), tmp_path / "a.nc"))
    xr.testing.assert_identical(back, result(tokens, targets))
    assert back.score.shape == (len(tokens), targets) and back.target_token.dtype.kind == "U"


@pytest.mark.parametrize("name", ["share", None])
def test_data_array_round_trip(tmp_path, name):
    array = xr.DataArray([[1.5, 2]], dims=("a", "b"), coords={"b": ["x", "y"]}, name=name, attrs={"seed": 1})
    back = load(save(array, tmp_path / "a.nc"))
    assert isinstance(back, xr.DataArray)
    xr.testing.assert_identical(back, array)


def test_other_programs_can_read_it(tmp_path):
    save(result(["a", "b"], model="m"), tmp_path / "a.nc")
    ds = xr.load_dataset(tmp_path / "a.nc", engine="h5netcdf")
    assert ds.source_token.values.tolist() == ["a", "b"] and ds.attrs == {"model": "m", "itlens_sealed": 1}


def test_levels_take_less_space_and_score_the_same(tmp_path):
    ds = result(list("abcdefghij") * 20, 200)
    full, small = save(ds, tmp_path / "full.nc"), save(ds, tmp_path / "small.nc", levels=10)
    assert small.stat().st_size * 3 < full.stat().st_size
    back = load(small)
    assert back.attrs["levels"] == 10 and back.score.dtype == np.float32
    np.testing.assert_array_equal(importance_density(back), importance_density(ds))
    np.testing.assert_array_equal(importance_density(back, threshold=3), importance_density(ds, threshold=3))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=6), st.text(max_size=8))
def test_any_text_survives(tmp_path, tokens, text):
    back = load(save(result(tokens, 1, prompt_text=text), tmp_path / "a.nc"))
    assert back.source_token.values.tolist() == tokens and back.attrs["prompt_text"] == text


def table():
    words = ["x\0y", "", "\U0001f600"]
    made = pd.DataFrame({"word": words, "p": [0.5, np.nan, 2.0], "n": [1, 2, 3], "ok": [True, False, True]})
    made.attrs = {"seed": np.int64(1), "model": "ü\ud800", "list": [1, "a"], "none": None}
    return made


def test_table_round_trip(tmp_path):
    back = load(save(table(), tmp_path / "a.parquet"))
    pd.testing.assert_frame_equal(back, table())
    assert back.attrs == {**table().attrs, "seed": 1} and "seed" in table().attrs


def test_table_with_half_surrogate_pairs(tmp_path):
    made = pd.DataFrame({"word": pd.Series(["\ud800", None, "x"], dtype=object), "n": [1, 2, 3]})
    back = load(save(made, tmp_path / "a.parquet"))
    assert back["word"].tolist() == ["\ud800", None, "x"] and back.attrs == {}
    assert "itlens_json" not in made.attrs and made["word"][0] == "\ud800"


def test_empty_table(tmp_path):
    made = table().head(0)
    pd.testing.assert_frame_equal(load(save(made, tmp_path / "a.parquet")), made)


def test_csv_is_for_spreadsheets(tmp_path):
    made = pd.DataFrame({"group": ["NA", "b"], "p": [np.nan, 0.25], "n": [1, 2], "note": ["", "few, so"], "none": ""})
    path = save(made, tmp_path / "a.csv")
    assert path.read_text() == 'group,p,n,note,none\nNA,,1,,\nb,0.25,2,"few, so",\n'
    pd.testing.assert_frame_equal(load(path), made)


ODD_WORDS = ["a=b", "c|||d", "tab\there", "", "NA", "\U0001f600", "nul\0nul", 'quo"te', "comma,", "cr\rlf\n", " lead"]


def word_table(words, rows=None):
    codes = np.arange(len(words) - 1) if rows is None else np.random.default_rng(0).integers(0, len(words) - 1, rows)
    categories = pd.CategoricalDtype(pd.Index(words, dtype=object))
    made = pd.DataFrame(
        {
            "layer": np.full(len(codes), 3, np.int16),
            "rank": np.arange(len(codes), dtype=np.int32),
            "query": pd.Categorical.from_codes(codes, dtype=categories),
            "key": pd.Categorical.from_codes(codes[::-1], dtype=categories),
            "relatedness": np.random.default_rng(1).random(len(codes)).astype(np.float32),
        }
    )
    made.attrs = {"probe": "qk_word_pairs", "layers": [3], "signed": True}
    return made


@pytest.mark.parametrize("extra", [[], ["half\ud800"]], ids=["text", "half-surrogate"])
def test_categorical_words_stay_categorical_and_whole(tmp_path, extra):
    """Also the last word, which no row holds: the categories are the vocabulary, in its order."""
    made = word_table([*ODD_WORDS, *extra, "unused"])
    back = load(save(made, tmp_path / "a.parquet"))
    assert list(back["query"].cat.categories) == list(made["query"].cat.categories)
    for name in ("query", "key"):
        assert back[name].tolist() == made[name].tolist() and back[name].dtype == "category"
        np.testing.assert_array_equal(back[name].cat.codes, made[name].cat.codes)
    numbers = ["layer", "rank", "relatedness"]
    pd.testing.assert_frame_equal(back[numbers], made[numbers])
    assert back.attrs == made.attrs and made["query"].cat.categories[0] == "a=b"
    again = load(save(back, tmp_path / "b.parquet"))  # what was loaded can be saved again
    assert again["query"].tolist() == made["query"].tolist() and again.attrs == made.attrs


def test_other_programs_read_categorical_words(tmp_path):
    import pyarrow.parquet as pq

    made = word_table([*ODD_WORDS, "unused"])
    plain = pq.read_table(save(made, tmp_path / "a.parquet")).to_pydict()
    assert plain["query"] == made["query"].tolist() and plain["layer"] == made["layer"].tolist()


def test_a_vocabulary_larger_than_a_parquet_page_comes_back_whole(tmp_path):
    words = [f"{number:06d} a rather long entry of a large vocabulary" for number in range(60_000)]  # 2.8 MB
    made = word_table(words, rows=3_000)
    back = load(save(made, tmp_path / "a.parquet"))
    assert list(back["query"].cat.categories) == words
    np.testing.assert_array_equal(back["query"].cat.codes, made["query"].cat.codes)


def test_the_words_of_a_million_rows_are_looked_at_once(tmp_path, monkeypatch):
    seen = []

    def counted(text):
        seen.append(len(text))
        return files.is_plain_text(text)

    monkeypatch.setattr(store, "is_plain_text", counted)
    path = save(word_table([*ODD_WORDS, "unused"], rows=1_000_000), tmp_path / "a.parquet")
    assert max(seen) < 200 and path.stat().st_size < 12_000_000 and len(load(path)) == 1_000_000


def test_categorical_words_as_csv(tmp_path):
    made = word_table([*ODD_WORDS, "half\ud800", "unused"])
    back = load(save(made, tmp_path / "a.csv"))
    assert back["query"].tolist()[:-1] == ODD_WORDS
    assert back["query"].tolist()[-1] == "half\\ud800"  # no file of text can hold it
    assert back["rank"].tolist() == made["rank"].tolist()
    np.testing.assert_allclose(back["relatedness"], made["relatedness"], rtol=1e-6)


def test_an_empty_categorical_table(tmp_path):
    back = load(save(word_table(ODD_WORDS).head(0), tmp_path / "a.parquet"))
    assert len(back) == 0 and back["query"].dtype == "category" and back["relatedness"].dtype == np.float32


def test_what_does_not_fit(tmp_path):
    with pytest.raises(StoreError, match=r"must end in .parquet or .csv"):
        save(table(), tmp_path / "a.nc")
    with pytest.raises(StoreError, match=r"must end in .nc"):
        save(result(), tmp_path / "a.pkl")
    with pytest.raises(StoreError, match="attribution results"):
        save(table(), tmp_path / "a.parquet", levels=10)
    with pytest.raises(StoreError, match="cannot be written"):
        save(result().assign_attrs(model=object()), tmp_path / "a.nc")
    with pytest.raises(StoreError, match="neither numbers nor texts"):
        save(xr.Dataset({"x": ("a", np.array([{1}, 2], dtype=object))}), tmp_path / "a.nc")
    bad = table()
    bad.attrs["model"] = object()
    with pytest.raises(StoreError, match="cannot be written"):
        save(bad, tmp_path / "a.parquet")
    with pytest.raises(StoreError, match=r"must end in .nc, .parquet, .csv or .pkl"):
        load(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".nc", ".parquet", ".csv", ".pkl"])
def test_missing_files_and_folders(tmp_path, suffix):
    with pytest.raises(StoreError, match="there is no such file"):
        load(tmp_path / f"a{suffix}")
    (tmp_path / f"b{suffix}").mkdir()
    with pytest.raises(StoreError, match="it is a folder"):
        load(tmp_path / f"b{suffix}")


@pytest.mark.parametrize("made", [result, table])
def test_truncated_and_foreign_files(tmp_path, made):
    path = save(made(), tmp_path / ("a.nc" if made is result else "a.parquet"))
    whole = path.read_bytes()
    for length in [0, 1, 8, 100, *range(200, len(whole) - 1, 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match="broken or not a"):
            load(path)
    path.write_bytes(b"hello" * 100)
    with pytest.raises(StoreError, match="broken or not a"):
        load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), atomic_write(path) as file:
            file.write(b"half")
            raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "code, reason",
    [(errno.ENOSPC, "no space"), (errno.EACCES, "no permission"), (errno.EROFS, "read-only"), (errno.EIO, "error")],
)
def test_system_errors_become_one_sentence(tmp_path, code, reason):
    with pytest.raises(StoreError, match=reason) as caught, atomic_write(tmp_path / "a.nc"):
        raise OSError(code, os.strerror(code))
    assert list(tmp_path.iterdir()) == [] and "\n" not in str(caught.value)


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.nc").mkdir()
    with pytest.raises(StoreError, match="Cannot write"):
        save(result(), tmp_path / "file" / "a.nc")
    with pytest.raises(StoreError, match="it is a folder"):
        save(result(), tmp_path / "folder.nc")
    with pytest.raises(StoreError, match="Cannot write"):
        save(result(), tmp_path / ("a" * 300 + ".nc"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.nc"]


def test_a_full_disk_raises_and_does_not_crash(tmp_path):
    # a limit on file sizes stands for the full disk; writing netCDF in place crashes the process inside HDF5 then
    code = f"""
        import resource, signal
        import numpy as np, xarray as xr
        from itlens.errors import StoreError
        from itlens.results.store import save
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        try:
            save(xr.Dataset({{"x": ("a", np.random.default_rng(0).random(20_000))}}), {str(tmp_path / "a.nc")!r})
        except StoreError as error:
            raise SystemExit(f"refused: {{error}}")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "refused: Cannot write" in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_json(tmp_path):
    content = {"text": "ü\U0001f600", "list": [1, 2.5, None]}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content and "ü" in (tmp_path / "a.json").read_text(encoding="utf-8")
    write_json(tmp_path / "a.json", ["\ud800"])
    assert read_json(tmp_path / "a.json") == ["\ud800"]
    with pytest.raises(StoreError, match="as JSON"):
        write_json(tmp_path / "b.json", {"x": object()})
    for broken in (b"", b"{", b"\xff\xfe\x00", b"[" * 100_000):
        (tmp_path / "c.json").write_bytes(broken)
        with pytest.raises(StoreError, match="not a JSON file"):
            read_json(tmp_path / "c.json")
    with pytest.raises(StoreError, match="no such file"):
        read_json(tmp_path / "d.json")
    assert json.loads((tmp_path / "a.json").read_text()) == ["\ud800"]


def test_save_and_load_are_public():
    assert itlens.save is save and itlens.load is load


def test_a_small_table_that_claims_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    bomb = tmp_path / "bomb.parquet"
    parquet.write_table(table({"a": np.zeros(40_000_000, dtype=np.int8)}), bomb, compression="zstd")
    assert bomb.stat().st_size < 300_000
    with pytest.raises(StoreError, match=r"broken or not a \.parquet file \(it claims 40,000,000 values in"):
        load(bomb)


def test_a_table_of_constants_is_no_such_claim(tmp_path: Path) -> None:
    constant = pd.DataFrame({f"column {n}": np.zeros(100_000, dtype=np.int8) for n in range(20)})
    save(constant, tmp_path / "constant.parquet")
    assert len(load(tmp_path / "constant.parquet")) == 100_000
