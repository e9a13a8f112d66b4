"""Which weight files were found whole before, so that a study which goes on does not read all of them again.

A record is an empty file in the user's cache, named by the digest of everything that tells a file apart: its path,
size, time of change, inode, and the digest of samples of its content. It is written only where the file did not
change while it was read, and not within the last two seconds, in which a second change could bear the same time.
Should a file change without any of these changing, nothing is computed from it unseen: the loader looks at every
number again. ITLENS_NO_CACHE and `cache=False` turn records off.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path

import platformdirs

from itlens.models.gguf_copy import copies_are_kept

_SETTLED = 2.0  # seconds


class FileRecord:
    """Whether one file was found whole; made before it is read. sample: the digest of samples of its content."""

    def __init__(self, path: Path, sample: str) -> None:
        self._path, self._sample = path, sample
        self._begun = self._mark()

    @property
    def known(self) -> bool:
        """Whether this very file was found whole before.

        False where nothing may be read from the user's cache.
        """
        return copies_are_kept() and self._begun is not None and (_folder() / self._begun).is_file()

    def found_whole(self) -> None:
        """Note that every number of it was looked at.

        Nothing is noted of a file that changed meanwhile or just now.
        """
        if not copies_are_kept() or self._begun is None or self._mark() != self._begun:
            return
        with suppress(OSError):  # a cache that cannot be written is no error
            if time.time() - self._path.stat().st_mtime > _SETTLED:
                _folder().mkdir(parents=True, exist_ok=True)
                (_folder() / self._begun).touch()

    def _mark(self) -> str | None:
        try:
            place, held = self._path.resolve(), self._path.stat()
        except OSError:
            return None
        told = f"{place}:{held.st_size}:{held.st_mtime_ns}:{held.st_ino}:{self._sample}"
        return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()


def _folder() -> Path:
    """Return the folder of all records, whether it is there or not."""
    return Path(platformdirs.user_cache_path("itlens")) / "checked"
