"""The folder above several comparisons: what kind it is, and its page and tables.

template.json or series.json   what was asked, so that everything can be read again
<name>/                        the run folder of each comparison
tables/  report.html           what they say together
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from itlens.errors import StoreError
from itlens.files import read_json, write_json, write_text
from itlens.results.store import save

KINDS = ("template", "series")
_OWN = {"tables", "report.html", "findings.json"}


class SeveralFolder:
    """A folder of one of `KINDS`."""

    def __init__(self, path: str | Path, kind: str) -> None:
        self.path, self.kind = Path(path), kind
        self.file, self.page = self.path / f"{kind}.json", self.path / "report.html"

    def open(self, asked: Mapping[str, Any], inside: list[str]) -> None:
        """Write what is asked. Raises StoreError for a folder that holds anything else, or another such study."""
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{self.path} is a file; give a folder for the results.")
        names = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        foreign = names - _OWN - {self.file.name, *inside}
        if foreign or (names and not self.file.exists()):
            shown = ", ".join(sorted(foreign or names)[:3])
            raise StoreError(f"{self.path} holds {shown}; give an empty or new folder for the results.")
        begun = any(entry.is_dir() and entry.name not in _OWN for entry in self.path.glob("*"))
        if begun and self.file.exists() and (held := self.read()) != dict(asked):
            other = [name for name in asked if held.get(name) != asked[name]]
            raise StoreError(
                f"{self.path} holds another study (other {', '.join(other) or 'settings'}); give another folder, or "
                "delete this one."
            )
        write_json(self.file, dict(asked))

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
