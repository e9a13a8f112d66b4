"""Whatever a library raises while it reads a user's file is one sentence with its own reason."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from itlens.errors import ModelError, PromptError
from itlens.foreign import foreign, read_settings


class PanicException(BaseException):
    """As the Rust libraries raise it: no subclass of Exception."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ZeroDivisionError("integer modulo by zero"), "integer modulo by zero"),
        (KeyError("rope_theta"), "KeyError 'rope_theta'"),
        (AssertionError(), "AssertionError"),
        (RuntimeError("Error(s) in loading:\n\tsize mismatch for a.weight: (3,) and (5,).\n"), "size mismatch for a"),
        (ValueError("Validation error for field 'x':\n    TypeError: expected float, got str"), "expected float, got"),
        (OSError(errno.ENOSPC, "No space left on device", "/cache/x"), "no space is left on the disk.*/cache/x"),
        (PanicException("called `Option::unwrap()` on a `None` value"), "called `Option::unwrap"),
        (RecursionError("maximum recursion depth exceeded"), "maximum recursion depth"),
        (RuntimeError("word " * 400), r"\[\.\.\.\]\.$"),
    ],
)
def test_the_reason_is_told_in_one_sentence(error: BaseException, told: str) -> None:
    with (
        pytest.raises(ModelError, match=f"^It cannot be read: .*{told}") as raised,
        foreign(ModelError, "It cannot be read"),
    ):
        raise error
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), SystemExit(3), PromptError("said already")])
def test_what_is_no_fault_of_the_file_passes_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, foreign(ModelError, "It cannot be read"):
        raise error
    assert raised.value is error


def test_a_remedy_follows_the_reason() -> None:
    with (
        pytest.raises(ModelError, match=r"^No tokenizer: it is gone\. Pass one\.$"),
        foreign(ModelError, "No tokenizer", "Pass one."),
    ):
        raise ValueError("it is gone.")


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "[1]", "\xff", ""])
def test_settings_are_an_object_of_json(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ModelError, match=r"^The config (is not readable JSON: \S|holds a list)"):
        read_settings(path, ModelError, "The config")
