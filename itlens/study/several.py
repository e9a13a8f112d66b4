"""The folder above several comparisons: what kind it is, and its page and tables.

template.json or series.json   what was asked, so that everything can be read again
<name>/                        the run folder of each comparison
tables/  report.html           what they say together
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from itlens.errors import StoreError
from itlens.files import PARTS, read_json, write_json, write_text
from itlens.results.store import save
from itlens.study.lock import HOLDER, LOCK, locked

KINDS = ("template", "series")
_OWN = {"tables", "report.html", "findings.json"}


class SeveralFolder:
    """A folder of one of `KINDS`."""

    def __init__(self, path: str | Path, kind: str) -> None:
        self.path, self.kind = Path(path), kind
        self.file, self.page = self.path / f"{kind}.json", self.path / "report.html"

    @contextmanager
    def opened(self, asked: Mapping[str, Any], inside: list[str], *, grows: str = "") -> Iterator[None]:
        """Write what is asked, and keep other processes out while the block runs.

        grows: the key of a mapping to which entries may be added. Raises StoreError for a folder that holds anything
        else, another such study, or is in use.
        """
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{self.path} is a file; give a folder for the results.")
        self._refuse_foreign(inside)
        with locked(self.path):
            for part in self.path.glob(PARTS):
                part.unlink(missing_ok=True)
            begun = any(entry.is_dir() and entry.name not in _OWN for entry in self.path.glob("*"))
            if begun and self.file.exists() and (other := _others(self.read(), asked, grows)):
                raise StoreError(
                    f"{self.path} holds another study (other {', '.join(other)}); give another folder, or delete this "
                    "one."
                )
            write_json(self.file, dict(asked))
            yield

    def _refuse_foreign(self, inside: list[str]) -> None:
        names = {entry.name for entry in self.path.iterdir() if not entry.match(PARTS)} if self.path.exists() else set()
        names -= {LOCK, HOLDER}
        foreign = names - _OWN - {self.file.name, *inside}
        if foreign or (names and not self.file.exists()):
            shown = ", ".join(sorted(foreign or names)[:3])
            raise StoreError(f"{self.path} holds {shown}; give an empty or new folder for the results.")

    def run_folder(self, name: Any) -> Path:
        """Return the run folder of this name. Raises StoreError for a name that leads out of this folder."""
        plain = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
        if not plain or (self.path / name).resolve().parent != self.path.resolve():
            raise StoreError(f"{self.file} names {name!r}, which is no folder in {self.path}; it is not read.")
        return self.path / name

    def read(self) -> dict[str, Any]:
        """What was asked. Raises StoreError where there is nothing of this kind."""
        found = read_json(self.file) if self.file.exists() else None
        if not isinstance(found, dict):
            raise StoreError(f"{self.path} holds no {self.kind} study; give the folder that `itlens compare` wrote.")
        return found

    def write(self, tables: Mapping[str, pd.DataFrame], page: str) -> None:
        """The tables, each as Parquet and CSV, and the page."""
        for name, table in tables.items():
            for ending in ("parquet", "csv"):
                save(table, self.path / "tables" / f"{name}.{ending}")
        write_text(self.page, page)


def kind_of(path: str | Path) -> str | None:
    """Of which kind a folder is; None for a single comparison's, or none."""
    return next((kind for kind in KINDS if (Path(path) / f"{kind}.json").is_file()), None)


def _others(held: Mapping[str, Any], asked: Mapping[str, Any], grows: str) -> list[str]:
    """Return the names of what another study was asked."""
    return [
        name
        for name, value in asked.items()
        if held.get(name) != value
        and not (name == grows and isinstance(held.get(name), dict) and held[name].items() <= value.items())
    ]
