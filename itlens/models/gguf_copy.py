"""A converted copy of a .gguf file in the user's cache: the next time it opens like a folder.

The copy is a checkpoint folder (config, weights in float32 as unpacked from the file's blocks, tokenizer) under
`<user cache>/itlens/gguf/<sha256 of the file>-<versions>`. It is written once everything that the file says was
checked, whole or not at all: into a temporary folder, which is then renamed. A copy whose files no longer have the
sizes that it was written with is removed and made again. None is written where less than its own size would stay free
on the disk. Whoever writes one removes the copies of the same file by other versions, and what processes that ended
while they wrote left behind a day ago or earlier. `cache=False`, `--no-cache` and ITLENS_NO_CACHE=1 neither
read nor write one.

The fingerprint of a model stays that of its .gguf file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Literal

import platformdirs

from itlens.models.locate import Located

Part = Literal["model", "tokenizer"]
_SIZES = "sizes.json"  # written last, with the size of every other file
_LEAST = 1 << 26  # bytes that a copy is taken to need at least
_DAY = 86_400  # seconds
_allowed: ContextVar[bool] = ContextVar("converted copies are kept", default=True)
_log = logging.getLogger(__name__)


@contextmanager
def copies(allowed: bool) -> Iterator[None]:
    """Read and write converted copies inside, or neither."""
    token = _allowed.set(allowed and _allowed.get())
    try:
        yield
    finally:
        _allowed.reset(token)


def cache_folder() -> Path:
    """Return the folder of all converted copies, whether it is there or not."""
    return Path(platformdirs.user_cache_path("itlens")) / "gguf"


def copy_of(place: Located, part: Part) -> Located | None:
    """Return the converted copy of a .gguf file's model or tokenizer as a folder; None where there is none."""
    if place.gguf is None or not copies_are_kept():
        return None
    folder = _folder(place) / part
    if not folder.is_dir():
        return None
    if not _whole(folder):
        _remove(folder)
        return None
    return Located(place.name, folder)


def keep_copy(place: Located, part: Part, write: Callable[[Path], None], size: int = 0) -> Located | None:
    """Write a converted copy with `write` (given an empty folder) and return it; None where none is kept.

    size: bytes that it takes, 64 MiB at least.

    A disk that is full or cannot be written is no error: the model is used as it was read.
    """
    from safetensors import SafetensorError

    if place.gguf is None or not copies_are_kept():
        return None
    folder = _folder(place) / part
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _tidy(folder.parent)
        _refuse_little_room(folder.parent, max(size, _LEAST))
        with tempfile.TemporaryDirectory(
            dir=folder.parent, prefix=f".{part}-", ignore_cleanup_errors=True
        ) as temporary:
            made = Path(temporary) / part
            made.mkdir()
            write(made)
            sizes = {path.name: path.stat().st_size for path in made.iterdir()}
            (made / _SIZES).write_text(json.dumps(sizes), encoding="utf-8")
            try:
                made.rename(folder)
            except OSError:
                if not _whole(folder):  # another process may have been faster
                    raise
    except (OSError, SafetensorError) as error:  # safetensors has its own for a disk that is full
        _log.info("No converted copy of %s is kept: %s.", place.name, error)
        return None
    said = "A converted copy of %s is kept in %s (%.2f GB); --no-cache keeps none."
    _log.log(logging.INFO if part == "model" else logging.DEBUG, said, place.name, folder, sum(sizes.values()) / 1e9)
    return Located(place.name, folder)


def copies_are_kept() -> bool:
    """Whether anything may be read from and written into the user's cache."""
    return _allowed.get() and os.environ.get("ITLENS_NO_CACHE", "") in ("", "0")


def _refuse_little_room(folder: Path, size: int) -> None:
    """Raise OSError unless the disk has room for a copy and as much again for everybody else."""
    free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise OSError(
            f"{free / 1e9:.2f} GB are free in {folder}, and a copy takes {size / 1e9:.2f} GB and leaves as much"
        )


def _tidy(folder: Path) -> None:
    """Remove copies of the same file by other versions, and temporary folders that are older than a day."""
    for other in cache_folder().glob(f"{folder.name.partition('-')[0]}-*"):
        if other != folder:
            _remove(other)
    for left in (*cache_folder().glob(".*"), *cache_folder().glob("*/.*")):
        with suppress(OSError):  # another process removes it as well
            if left.stat().st_mtime < time.time() - _DAY:
                shutil.rmtree(left, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a copy: it is renamed first, so that nobody reads one of which a part is gone, or removes a new one."""
    with suppress(OSError):  # another process was faster, or nothing can be written here
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        with suppress(OSError):
            folder.rename(aside / folder.name)
        shutil.rmtree(aside, ignore_errors=True)


def _folder(place: Located) -> Path:
    path = place.folder / str(place.gguf)
    held = path.stat()
    return cache_folder() / f"{_digest(path, held.st_size, held.st_mtime_ns)}-{reading_versions()}"


@lru_cache(maxsize=16)
def _digest(path: Path, size: int, changed: int) -> str:
    """Return the file's sha256, cut to 32 digits; `size` and `changed` tell apart what one path held."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()[:32]


@lru_cache(maxsize=1)
def reading_versions() -> str:
    """Return what decides how a file is read and checked, as part of a folder's name."""
    found = []
    for name in ("itlens", "transformers", "gguf"):
        with suppress(metadata.PackageNotFoundError):  # gguf is an extra, itlens may run from its source
            found.append(f"{name}{metadata.version(name)}")
    return "-".join(found)


def _whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _SIZES).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False
