"""The result files of a run folder, each read once: parts of a study ask for the same ones again and again."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from itlens.errors import StoreError
from itlens.store import load, save


class ResultFiles:
    """What was read or written, for as long as the files stay as they are. Nobody may change a Dataset from here."""

    def __init__(self) -> None:
        self._held: dict[Path, tuple[tuple[int, int, int], xr.Dataset]] = {}

    def read(self, path: Path) -> xr.Dataset | None:
        """The Dataset of a file; None where there is no such file, or a broken one, which is computed again."""
        try:
            stamp = _stamp(path)
        except FileNotFoundError:
            return None
        if path not in self._held or self._held[path][0] != stamp:
            try:
                result = load(path)
            except StoreError:
                return None
            if not isinstance(result, xr.Dataset):
                return None
            self._held[path] = stamp, result
        return self._held[path][1]

    def write(self, result: xr.Dataset, path: Path) -> xr.Dataset:
        """Save it and return it."""
        save(result, path)
        self._held[path] = _stamp(path), result
        return result


def _stamp(path: Path) -> tuple[int, int, int]:
    """Changes when the file does: it is always replaced as a whole, by a new inode."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
