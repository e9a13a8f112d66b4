"""The attribution maps that the paper's authors released: pickled dictionaries, read without running anything.

A file holds ID, Input and Output (sentencepiece tokens: "▁" is a space, "<0x0A>" a byte), Reference (a text) and
Explain (levels 0..10 on source x target; the cut-off at 7 is not applied).

Unpickling without trust: lists, dictionaries, texts, numbers and numpy arrays of numbers, and nothing else. Seven names
of numpy, those that pickled arrays and numbers need, are resolved to plain Python stand-ins of this module; any other
name raises. Neither numpy's own unpickling nor any other function is ever reached, whatever the data names, the
stand-ins cannot be changed by the data, and an array is checked against its bytes before it is made. Size, depth and
memo of a file are limited before any of it is built (`pickle_check`).
"""

from __future__ import annotations

import io
import itertools
import pickle
import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from itlens.errors import ResultError, StoreError
from itlens.files import read_bytes
from itlens.results.density import HasSpans, source_ranges
from itlens.results.pickle_check import check_pickle
from itlens.results.provenance import provenance

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_ALIKE = 0.9
_LARGEST = 1 << 28  # bytes of a file; a map of 4,000 x 4,000 tokens takes 64 MB
_DTYPE = re.compile(r"[<>|=]?[fiub][1248]")
_ERRORS = (
    *(pickle.UnpicklingError, EOFError, ImportError, MemoryError, RecursionError),
    *(AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError),
)


def read_released(path: str | Path) -> xr.Dataset:
    """Return an attribution result from one released .pkl file: score(source, target) in levels 0..10.

    `attrs["prompt_text"]` and the character ranges are put together from the tokens; where that text differs from the
    prompt's in white space, `with_prompt` moves the result onto the prompt. `attrs["model"]` is the folder's name;
    token ids are -1, objective values NaN and versions "": they are not known. Raises
    StoreError for anything that is not such a file.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size > _LARGEST:
        raise StoreError(
            f"{path} is not one of the released attribution maps: it has {path.stat().st_size:,} bytes, and they have "
            f"at most {_LARGEST:,}."
        )
    content = read_bytes(path)
    try:
        record = unpickle(content)
    except StoreError as error:
        raise StoreError(f"{path} is not one of the released attribution maps. {error}") from error
    return _dataset(path, *_fields(path, record))


def decode_pieces(pieces: Sequence[str], *, continues: bool = False) -> tuple[str, np.ndarray]:
    """Return the text of sentencepiece tokens, and the character range (n, 2) of each.

    The space that sentencepiece puts before a text is dropped, unless the pieces continue another text. Each byte of a
    character has that character's range; bytes that are not UTF-8 become U+FFFD.
    """
    if not continues and pieces and pieces[0].startswith("▁"):
        pieces = [pieces[0][1:], *pieces[1:]]
    text, ranges = "", []
    for is_byte, group in itertools.groupby(pieces, lambda piece: bool(_BYTE.fullmatch(piece))):
        run = list(group)
        decoded = _decode_bytes(run) if is_byte else [(piece.replace("▁", " "), 0, len(piece)) for piece in run]
        for piece, first, last in decoded:
            ranges.append((len(text) + first, len(text) + last))
            text += piece
    return text, np.array(ranges, dtype=np.int64).reshape(-1, 2)


def with_prompt(ds: xr.Dataset, prompt: HasSpans) -> xr.Dataset:
    """Return the same result on `prompt.text`: character ranges moved, `attrs["prompt_text"]` replaced, for
    `span_mask`.

    Raises ResultError when the texts differ in more than white space and 10 % of the other characters.
    """
    text, start, stop = source_ranges(ds)
    if text == prompt.text:
        return ds
    moved = align_ranges(np.stack([start, stop], axis=1), text, prompt.text)
    coords = {"source_start": ("source", moved[:, 0]), "source_stop": ("source", moved[:, 1])}
    placed: xr.Dataset = ds.assign_coords(coords).assign_attrs(prompt_text=prompt.text)
    return placed


def align_tokens(tokens: Sequence[str], text: str) -> np.ndarray:
    """Return the character ranges (n, 2) of sentencepiece tokens in `text`, which may differ from theirs in white
    space."""
    own, ranges = decode_pieces(tokens)
    return align_ranges(ranges, own, text)


def align_ranges(ranges: np.ndarray, old: str, new: str) -> np.ndarray:
    """Return the character ranges of `old`, moved to the same visible characters of `new`; a range without any becomes
    empty.

    White space is left out of the comparison. Raises ResultError when under 90 % of the other characters match.
    """
    if old == new:
        return np.array(ranges)
    place = np.full(len(old), -1)
    for i, j in _matching(old, new):
        place[i] = j
    moved, end = np.empty_like(ranges), 0
    for n, (start, stop) in enumerate(ranges):
        there = place[start:stop][place[start:stop] >= 0]
        moved[n] = (there[0], there[-1] + 1) if there.size else (end, end)
        end = max(end, moved[n, 1])
    return moved


def _matching(old: str, new: str) -> list[tuple[int, int]]:
    """Return pairs of positions of the same visible character."""
    here, there = ([i for i, character in enumerate(text) if not character.isspace()] for text in (old, new))
    if [old[i] for i in here] == [new[j] for j in there]:
        return list(zip(here, there, strict=True))
    matcher = SequenceMatcher(None, [old[i] for i in here], [new[j] for j in there], autojunk=False)
    if matcher.ratio() < _ALIKE:
        raise ResultError(
            f"The tokens read {old[:60]!r}, the prompt {new[:60]!r}: only {matcher.ratio():.0%} of the characters "
            "match, so this is another prompt."
        )
    return [(here[m.a + k], there[m.b + k]) for m in matcher.get_matching_blocks() for k in range(m.size)]


def _fields(path: Path, record: Any) -> tuple[str, list[str], list[str], str, np.ndarray]:
    if not isinstance(record, dict) or not {"Input", "Output", "Explain"} <= record.keys():
        raise StoreError(f"{path} is not one of the released attribution maps: Input, Output or Explain is missing.")
    sources, targets = record["Input"], record["Output"]
    if not all(isinstance(side, list) and all(isinstance(t, str) for t in side) for side in (sources, targets)):
        raise StoreError(
            f"{path} is not one of the released attribution maps: Input and Output must be lists of texts."
        )
    explain = record["Explain"]
    shape = (len(sources), len(targets))
    empty = explain.size == 0 if isinstance(explain, np.ndarray) else explain in (None, [])
    if not targets and empty:
        explain = np.zeros(shape, np.float32)  # an empty response
    if not isinstance(explain, np.ndarray) or explain.shape != shape:
        got = getattr(explain, "shape", type(explain).__name__)
        raise StoreError(f"{path} holds {shape[0]} input and {shape[1]} output tokens, but its Explain is {got}.")
    if not np.isin(explain, np.arange(11)).all():
        raise StoreError(f"{path} is not one of the released attribution maps: Explain must hold the levels 0 to 10.")
    identity, reference = (value if isinstance(value := record.get(name), str) else "" for name in ("ID", "Reference"))
    return identity or path.stem, sources, targets, reference, explain


def _dataset(
    path: Path, identity: str, sources: list[str], targets: list[str], reference: str, explain: np.ndarray
) -> xr.Dataset:
    coords: dict[str, Any] = {}
    texts = {}
    for side, pieces in (("source", sources), ("target", targets)):
        texts[side], ranges = decode_pieces(pieces, continues=side == "target")
        tokens = [texts[side][a:b] for a, b in ranges]
        coords[f"{side}_token"] = (side, np.array(tokens, dtype=np.str_))
        coords[f"{side}_id"] = (side, np.full(len(pieces), -1))
        coords[f"{side}_start"], coords[f"{side}_stop"] = (side, ranges[:, 0]), (side, ranges[:, 1])
    coords["objective"] = ("target", np.full(len(targets), np.nan, np.float32))
    attrs = provenance(
        "attribution", model=path.parent.name, revision=None, backend="released", dtype="float32",
        method="input_x_gradient", objective_name="prob", mode="released", prompt_id=identity, prompt_group="",
        prompt_text=texts["source"], response_text=texts["target"], response_source="generated",
        finish="given" if targets else "empty", max_new_tokens=None, levels=10, reference_text=reference,
    )  # fmt: skip
    attrs |= dict.fromkeys(("torch_version", "transformer_lens_version", "transformers_version"), "")
    score = (("source", "target"), explain.astype(np.float32), {"levels": 10})
    return xr.Dataset({"score": score}, coords, attrs)


def _decode_bytes(run: list[str]) -> list[tuple[str, int, int]]:
    """Yield (text that this byte completes, its range relative to where the text stood before) for each byte of a
    run."""
    data = bytes(int(piece[3:5], 16) for piece in run)
    out: list[tuple[str, int, int]] = []
    for character in data.decode("utf-8", errors="replace"):
        size = _broken_length(data[len(out) :]) if character == "\ufffd" else len(character.encode())
        out += [("", 0, 1)] * (size - 1) + [(character, 0, 1)]
    return out


def _broken_length(data: bytes) -> int:
    """Return how many bytes a replacement character at the start of `data` is for (3: it is there itself)."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.end if error.start == 0 else 3
    return 3


def unpickle(data: bytes) -> Any:
    """Return the object that `data` holds; a dictionary's own values that are arrays come as numpy arrays.

    Raises StoreError for broken data, and for data that asks for anything but plain numbers.
    """
    try:
        check_pickle(data)
        loaded = _Unpickler(io.BytesIO(data)).load()
        if isinstance(loaded, dict):
            return {key: value.array if isinstance(value, _Array) else value for key, value in loaded.items()}
        return loaded.array if isinstance(loaded, _Array) else loaded
    except _ERRORS as error:
        raise StoreError(
            f"The pickle cannot be read ({error}): only lists, texts, numbers and numpy arrays of numbers are allowed, "
            "and nothing of it was run."
        ) from error


class _Array:
    """Stands in for numpy.ndarray while unpickling: takes the state of one, checks it, and makes the array."""

    array: np.ndarray = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


class _Dtype:
    """Stands in for numpy.dtype: plain numbers only, no objects, no fields."""

    def __init__(self, spec: Any, *_: Any) -> None:
        if not isinstance(spec, str) or not _DTYPE.fullmatch(spec):
            raise pickle.UnpicklingError(f"the number type {spec!r} is not allowed")
        self.dtype = np.dtype(spec)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("the byte order of a number type is broken")
        self.dtype = self.dtype.newbyteorder(state[1])


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, (bytes, bytearray)) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("an array is not made of plain numbers")
    if not all(type(n) is int and n >= 0 for n in shape) or prod(shape) * dtype.dtype.itemsize != len(data):
        raise pickle.UnpicklingError(f"an array of shape {shape} does not fit its {len(data)} bytes")
    return np.frombuffer(bytes(data), dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


class _Function:
    """A name of the allow-list. It has no attributes that a pickle could set, and is no class that it could make."""

    __slots__ = ("_kind",)

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function cannot be changed")

    def __call__(self, *args: Any) -> Any:
        if self._kind == "array":
            return _Array()
        if self._kind == "dtype":
            return _Dtype(*args)
        if self._kind == "buffer":
            made = _Array()
            made.array = _array(*args)
            return made
        if self._kind == "scalar":
            return _array(args[1], args[0], (), "C")[()].item()
        raise pickle.UnpicklingError("numpy.ndarray cannot be called")


_ALLOWED = {
    (module, name): kind
    for modules, name, kind in (
        (("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct", "array"),
        (("numpy.core.multiarray", "numpy._core.multiarray"), "scalar", "scalar"),
        (("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer", "buffer"),
        (("numpy",), "ndarray", "class"),
        (("numpy",), "dtype", "dtype"),
    )
    for module in modules
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        kind = _ALLOWED.get((module, name))
        if kind is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
        return _Function(kind)
