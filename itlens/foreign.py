"""The boundary to other people's code: whatever a library raises while it reads a user's files ends as one sentence.

transformers, tokenizers, safetensors, torch, jinja2, gguf, huggingface_hub and sentence-transformers raise what they
like, and the kinds change from version to version. `foreign` turns all of it into one kind of `ItlensError` with the
library's own reason. What is no fault of the file passes through: errors of itlens, Ctrl-C, and memory that ran out.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from itlens.errors import ItlensError
from itlens.files import system_reason

_LONGEST = 320  # characters of a reason: what fits one sentence
_LINES = 4  # of a message whose first lines are headings
_NUMBERLESS = (LookupError, AssertionError)  # their text alone ("'rope_theta'") says little
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR)
_RUST = "PanicException"  # of tokenizers and safetensors; no subclass of Exception


@contextmanager
def foreign(kind: type[ItlensError], what: str, remedy: str = "") -> Iterator[None]:
    """Run code of other packages; whatever it raises becomes `kind` with "{what}: {its reason}. {remedy}".

    Errors of itlens, MemoryError, KeyboardInterrupt and SystemExit pass through.
    """
    try:
        yield
    except (ItlensError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _RUST:
            raise
        raise kind(" ".join(filter(None, (f"{what}: {reason(error)}.", remedy)))) from error


def reason(error: BaseException) -> str:
    """Return the reason in an error's message as part of one sentence, without a full stop.

    A first line that is only a heading ("Validation error for field 'x':") is followed by the next ones, and a system
    error says what the system says.
    """
    refused = disk_error(error)
    if refused is not None:
        error = refused
    if isinstance(error, OSError) and error.errno is not None:
        where = f" ({error.filename})" if error.filename else ""
        return f"{system_reason(error)}{where}"
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    text = next(iter(lines), "")
    for line in lines[1:_LINES]:
        if not text.endswith((":", ",")):
            break
        text = f"{text} {line}"
    if not text or isinstance(error, _NUMBERLESS):
        text = f"{type(error).__name__} {text}".strip()
    if len(text) > _LONGEST:  # often a list of all that would have been right: the first sentence says what is wrong
        first, stop, _ = text[:_LONGEST].partition(". ")
        text = first if stop else f"{text[:_LONGEST]} [...]"
    return text.rstrip(".:, ")


def disk_error(error: BaseException | None) -> OSError | None:
    """Return the system's refusal to write or read that is at the bottom of an error, if there is one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK:
            return error
        error = error.__cause__ or error.__context__
    return None


def read_settings(path: Path, kind: type[ItlensError], what: str) -> dict[str, Any]:
    """Return the JSON object in a file. Raises `kind` for a file that is missing, broken, or holds something else."""
    with foreign(kind, f"{what} is not readable JSON"):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise kind(f"{what} holds a {type(content).__name__}; expected a JSON object of settings.")
    return content
