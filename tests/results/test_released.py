"""The authors' released maps: read exactly, and nothing else in a pickle is ever run."""

from __future__ import annotations

import pickle
import struct
from contextlib import suppress

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from itlens import Prompt
from itlens.errors import ResultError, StoreError
from itlens.results.density import importance_density, span_mask, span_score
from itlens.results.released import align_ranges, align_tokens, decode_pieces, unpickle, with_prompt
from itlens.results.store import load, save

PIECES = ["▁Say", "▁“", "<0xE6>", "<0x82>", "<0xB4>", "”", "<0x0A>", "▁▁", "now", "."]
TEXT = "Say “悴”\n  now."
LEVELS = np.arange(20).reshape(10, 2) % 11


def released(path, protocol=4, **changes):
    record = {
        "ID": "mtbench_writing_81",
        "Input": PIECES,
        "Reference": "a reference",
        "Output": ["▁Well", "<0x0A>"],
        "Explain": LEVELS.astype(np.float32),
    }
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps({**record, **changes}, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_released_map(tmp_path, protocol):
    ds = load(released(tmp_path / "vicuna_7b" / "x.pkl", protocol))
    np.testing.assert_array_equal(ds.score, LEVELS)
    assert ds.score.dtype == np.float32 and ds.score.dims == ("source", "target")
    assert ds.attrs["prompt_text"] == TEXT and ds.attrs["response_text"] == " Well\n"
    expected = ["Say", " “", "悴", "悴", "悴", "”", "\n", "  ", "now", "."]
    assert ds.source_token.values.tolist() == expected
    assert [TEXT[a:b] for a, b in zip(ds.source_start.values, ds.source_stop.values, strict=True)] == expected
    known = ("model", "prompt_id", "levels", "finish", "probe", "reference_text")
    assert [ds.attrs[k] for k in known] == [
        "vicuna_7b",
        "mtbench_writing_81",
        10,
        "given",
        "attribution",
        "a reference",
    ]
    mask = span_mask(ds, Prompt(TEXT, instruction=["“悴", "\n  now"]))
    assert mask.values.tolist() == [False, True, True, True, True, False, False, False, True, False]
    assert span_score(importance_density(ds), mask) > 0
    xr.testing.assert_identical(load(save(ds, tmp_path / "x.nc")), ds)


def test_the_levels_are_not_levelled_again(tmp_path):
    low = np.full((10, 2), 5, np.float32)
    ds = load(released(tmp_path / "x.pkl", Explain=low))
    assert not importance_density(ds.score).any() and not importance_density(ds).any()
    np.testing.assert_allclose(importance_density(ds.score, threshold=4, p=1), 1)


@pytest.mark.parametrize("explain", [np.zeros((10, 0)), np.zeros(0, np.float32), None, []])
def test_an_empty_response(tmp_path, explain):
    ds = load(released(tmp_path / "x.pkl", Output=[], Explain=explain))
    assert ds.score.shape == (10, 0) and ds.attrs["finish"] == "empty"


def test_other_layouts_of_arrays(tmp_path):
    for array in (np.asfortranarray(LEVELS.astype(">f8")), LEVELS.astype(np.int64), LEVELS.astype(np.uint8)):
        np.testing.assert_array_equal(load(released(tmp_path / "x.pkl", Explain=array)).score, LEVELS)
    assert unpickle(pickle.dumps([np.float32(2.5), np.int64(3)], protocol=4)) == [2.5, 3]
    old = pickle.dumps({"x": np.arange(3)}, protocol=4).replace(
        b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray"
    )
    old = old[:3] + struct.pack("<Q", len(old) - 11) + old[11:]
    np.testing.assert_array_equal(unpickle(old)["x"], [0, 1, 2])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"Explain": LEVELS[:9]}, "10 input and 2 output tokens"),
        ({"Explain": LEVELS * 0.5}, "levels 0 to 10"),
        ({"Explain": LEVELS - 1}, "levels 0 to 10"),
        ({"Explain": [1, 2]}, "10 input and 2 output tokens"),
        ({"Input": "text"}, "lists of texts"),
        ({"Output": [1, 2]}, "lists of texts"),
    ],
)
def test_other_contents(tmp_path, changes, message):
    with pytest.raises(StoreError, match=message):
        load(released(tmp_path / "x.pkl", **changes))
    (tmp_path / "y.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(StoreError, match="is missing"):
        load(tmp_path / "y.pkl")


class Calls:
    """Pickles to a call of `function` with `args`."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def by_name(module, name, argument, protocol=4):
    """A pickle that calls module.name(argument), names written as they are."""
    if protocol == 0:
        return b"c" + f"{module}\n{name}\n".encode() + b"(V" + argument.encode() + b"\ntR."
    texts = b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, name))
    return b"\x80\x04" + texts + b"\x93" + b"\x8c" + bytes([len(argument)]) + argument.encode() + b"\x85R."


NAMES = [
    ("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec"), ("builtins", "getattr"),
    ("builtins", "open"), ("subprocess", "Popen"), ("numpy", "load"), ("numpy", "memmap"), ("numpy", "fromfile"),
    ("numpy", "core.multiarray._reconstruct"), ("numpy", "dtype.__class__"), ("numpy.core", "multiarray._reconstruct"),
    ("numpy.core.multiarray", "fromfile"), ("numpy.core.multiarray", "_reconstruct.__globals__"),
    ("numpy._core.multiarray", "set_typeDict"), ("numpy.testing", "run_module_suite"), ("numpy.f2py", "compile"),
    ("numpy.lib.npyio", "load"), ("itlens.results.released", "unpickle"), ("collections", "OrderedDict"), ("", ""),
    ("numpy.core.multiarray\n", "_reconstruct"), ("_codecs", "encode"), ("copyreg", "_reconstructor"),
]  # fmt: skip


@pytest.mark.parametrize("module, name", NAMES)
def test_names_outside_the_list_are_refused(tmp_path, module, name):
    for protocol in (0, 4):
        (tmp_path / "x.pkl").write_bytes(by_name(module, name, f"touch {tmp_path / 'ran'}", protocol))
        with pytest.raises(StoreError):
            load(tmp_path / "x.pkl")
    assert not (tmp_path / "ran").exists()


def test_nothing_of_a_hostile_map_runs(tmp_path):
    import os

    ran = tmp_path / "ran"
    hostile = [
        Calls(os.system, f"touch {ran}"),
        Calls(eval, f"open({str(ran)!r}, 'w')"),
        Calls(np.memmap, str(ran), np.uint8, "w+", 0, (4,)),
        Calls(np.load, str(ran)),
        [np.zeros(2), {"deep": Calls(os.mkdir, str(ran))}],
    ]
    for thing in hostile:
        for protocol in range(6):
            with pytest.raises(StoreError, match="not one of the released"):
                load(released(tmp_path / "x.pkl", protocol, Reference=thing))
    assert not ran.exists()


def test_arrays_of_anything_but_numbers_are_refused():
    for values, dtype in (([{}], object), ([(1, 2)], "i4,i4"), (["a"], "U1"), (["2020"], "M8[D]"), ([1], "c8")):
        with pytest.raises(StoreError, match=r"not allowed|not made of"):
            unpickle(pickle.dumps(np.array(values, dtype=dtype), protocol=4))


def array_state(shape, data, dtype="f4"):
    """A pickle of an array with a state of our own making."""
    good = pickle.dumps(np.zeros(2, np.float32), protocol=4)
    loaded = good[: good.rindex(b"(K\x01")]  # everything before the state tuple
    dtype_ops = b"\x8c\x05numpy\x8c\x05dtype\x93" + b"\x8c" + bytes([len(dtype)]) + dtype.encode() + b"\x89\x88\x87R"
    plain = pickle.dumps(shape, protocol=4)[2:-1]
    plain = plain[9:] if plain[:1] == b"\x95" else plain
    plain = plain.replace(b"\x94", b"")
    body = loaded[11:] + b"(K\x01" + plain + dtype_ops + b"\x89C" + bytes([len(data)]) + data + b"tb."
    return b"\x80\x04" + body


@pytest.mark.parametrize("shape", [(3,), (1_000_000, 1_000_000), (-1, -2), (2**70,), (0, 5)])
def test_shapes_that_do_not_fit_their_bytes(shape):
    np.testing.assert_array_equal(unpickle(array_state((2,), b"\0" * 8)), [0, 0])
    with pytest.raises(StoreError, match="does not fit"):
        unpickle(array_state(shape, b"\0" * 8))
    with pytest.raises(StoreError, match="not allowed"):
        unpickle(array_state((1,), b"\0" * 8, "O8"))


def test_the_stand_ins_cannot_be_changed():
    name = b"\x8c\x05numpy\x8c\x05dtype\x93"
    attempts = [
        b"\x80\x04" + name + b"}\x8c\x08__call__\x8c\x01xsb.",  # BUILD with a dictionary
        b"\x80\x04" + name + b"N}\x8c\x05_kind\x8c\x05arrays\x86b.",  # BUILD with slots
        b"\x80\x04" + name + b")\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93)R.",  # calling numpy.ndarray
        b"\x80\x04" + name + b"\x8c\x03f4,\x85R.",
    ]
    for data in attempts:
        with pytest.raises(StoreError):
            unpickle(data)
    assert unpickle(pickle.dumps({"x": np.ones(1)}))["x"].tolist() == [1]


@pytest.mark.parametrize(
    "data", [b"", b".", b"not a pickle", b"\x80\x04", b"\x80\x63.", b"(" * 100, b"\x82\x01.", b"P0\n."]
)
def test_broken_pickles(tmp_path, data):
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(StoreError):
        load(tmp_path / "x.pkl")


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    whole = pickle.dumps({"Explain": np.arange(4.0), "Input": ["a"]}, protocol=4)
    for attempt in (data, whole[: len(data)] + data, data + whole):
        with suppress(StoreError):
            unpickle(attempt)


def shared(depth):
    """A list of ten times the same list, and so on: some hundred bytes that stand for 10 ** depth values."""
    part = [0] * 10
    for _ in range(depth):
        part = [part] * 10
    return part


def nested(kind, depth):
    """Return [[...]] or ((...)), as a pickle that needs no recursion to be written."""
    return {"list": b"]" * depth + b"a" * (depth - 1), "tuple": b")" + b"\x85" * depth}[kind]


RECURSIVE: list = []
RECURSIVE.append(RECURSIVE)
ROUND: dict = {"a": []}
ROUND["a"].append(ROUND)
BOMBS = {
    "memo of 4 GB": (b"Nr\x00\x00\x00\x10.", "numbers its parts"),
    "memo as text": (b"Np268435456\n.", "numbers its parts"),
    "deep list": (b"\x80\x04" + nested("list", 100_000) + b".", "nested deeper than 20"),
    "deep key": (b"\x80\x04}" + nested("tuple", 100_000) + b"Ns.", "nested deeper than 20"),
    "key of 2 ** 19 parts": (b"\x80\x04})" + b"\x94h\x00\x86" + b"Ns.", "a key is no text"),
    "contains itself": (pickle.dumps(RECURSIVE), "contains itself"),
    "contains itself further down": (pickle.dumps(ROUND), "contains itself"),
    "a set": (pickle.dumps({1, 2}), "not allowed"),
    "a memo that is not there": (b"\x80\x04h\x07.", "cannot be read"),
}


@pytest.mark.parametrize("data, message", BOMBS.values(), ids=BOMBS)
def test_small_pickles_that_ask_for_much_are_refused_before_they_are_built(tmp_path, data, message):
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(StoreError, match=message) as caught:
        load(tmp_path / "x.pkl")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("explain", [shared(6), [[]], "x", 0, {"a": []}])
def test_an_explain_of_an_empty_response_that_is_no_array_is_not_counted(tmp_path, explain):
    with pytest.raises(StoreError, match="its Explain is"):
        load(released(tmp_path / "x.pkl", Output=[], Explain=explain))


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "x.pkl").open("wb") as file:
        file.truncate((1 << 28) + 1)
    with pytest.raises(StoreError, match="268,435,457 bytes"):
        load(tmp_path / "x.pkl")


def test_truncated_maps(tmp_path):
    path = released(tmp_path / "x.pkl")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError):
            load(path)


def test_decoding_pieces():
    text, ranges = decode_pieces(["▁", "▁a", "<0xC3>", "<0xA9>", "<0xE6>", "b", "<0xFF>", "<0xEF>", "<0xBF>", "<0xBD>"])
    assert text == " aé\ufffdb\ufffd\ufffd"
    assert ranges.tolist() == [[0, 0], [0, 2], [2, 3], [2, 3], [3, 4], [4, 5], [5, 6], [6, 7], [6, 7], [6, 7]]
    assert decode_pieces(["▁a"], continues=True)[0] == " a"
    assert decode_pieces([])[1].shape == (0, 2)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=20), st.data())
def test_pieces_of_any_text_decode_to_it(text, data):
    pieces = []
    for character in "▁" + text.replace(" ", "▁"):
        as_bytes = character != "▁" and data.draw(st.booleans())
        pieces += [f"<0x{b:02X}>" for b in character.encode()] if as_bytes else [character]
    decoded, ranges = decode_pieces(pieces)
    assert decoded == text
    covered = {i for a, b in ranges for i in range(a, b)}
    assert covered == set(range(len(text)))


def test_moving_to_a_prompt_with_other_white_space(tmp_path):
    ds = load(released(tmp_path / "x.pkl"))
    prompt = Prompt("Say  “悴” now .", instruction=["now"])
    moved = with_prompt(ds, prompt)
    assert moved.attrs["prompt_text"] == prompt.text and ds.attrs["prompt_text"] == TEXT
    tokens = [prompt.text[a:b] for a, b in zip(moved.source_start.values, moved.source_stop.values, strict=True)]
    assert tokens == ["Say", "“", "悴", "悴", "悴", "”", "", "", "now", "."]
    assert span_mask(moved, prompt).values.nonzero()[0].tolist() == [8]
    assert with_prompt(ds, Prompt(TEXT)) is ds
    with pytest.raises(ResultError, match="another prompt"):
        with_prompt(ds, Prompt("Something else altogether."))


def test_aligning_tokens():
    # the typographic quote is not in the prompt: its range is empty, the letters around it stay anchored
    tokens = ["▁It", "’", "s", "▁all", "▁right", "▁now"]
    assert align_tokens(tokens, "It's all  right now").tolist() == [[0, 2], [2, 2], [3, 4], [5, 8], [10, 15], [16, 19]]
    assert align_tokens(["▁a", "▁b"], "a\tb").tolist() == [[0, 1], [2, 3]]
    ranges = np.array([[0, 3], [3, 11]])
    # one changed letter of ten: the rest stays anchored
    assert align_ranges(ranges, "abc defghij", "abc dXfghij").tolist() == [[0, 3], [4, 11]]


@settings(deadline=None)
@given(st.lists(st.text("abcdé", min_size=1, max_size=5), min_size=1, max_size=8), st.data())
def test_white_space_does_not_move_letters(words, data):
    joins = st.lists(st.text(" \n\t", max_size=3), min_size=len(words), max_size=len(words))
    old, new = ("".join(a + b for a, b in zip(words, data.draw(joins), strict=True)) for _ in range(2))
    stops = np.cumsum([len(w) for w in words])
    letters = [i for i, c in enumerate(old) if not c.isspace()]
    ranges = np.array([[letters[b - len(w)], letters[b - 1] + 1] for w, b in zip(words, stops, strict=True)])
    moved = align_ranges(ranges, old, new)
    assert ["".join(new[a:b].split()) for a, b in moved] == words
