"""The folder above several comparisons: what kind it is, and its page and tables.

template.json or series.json   what was asked, so that everything can be read again
index.jsonl                    its digest (`index`)
<name>/                        the run folder of each comparison
tables/  findings.json  report.html     what they say together
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from itlens.errors import StoreError
from itlens.files import PARTS, json_bytes, read_json, write_text
from itlens.results.store import save
from itlens.study.folder import FINDINGS_FILE
from itlens.study.index import NAME, Index, State, set_aside
from itlens.study.lock import HOLDER, LOCK, locked

KINDS = ("template", "series")
_OWN = {"tables", "report.html", "findings.json", NAME, LOCK, HOLDER}
_NOTICES = "notices"
_DAMAGED = "{name} was damaged: its content is not what was written. It is kept as {aside}, and was written again."


class SeveralFolder:
    """A folder of one of `KINDS`."""

    def __init__(self, path: str | Path, kind: str) -> None:
        self.path, self.kind = Path(path), kind
        self.file, self.page = self.path / f"{kind}.json", self.path / "report.html"
        self.index = Index(self.path)
        self.findings_file = self.path / FINDINGS_FILE

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
            told = self._put_damaged_aside()
            begun = any(entry.is_dir() and entry.name not in _OWN for entry in self.path.glob("*"))
            if begun and self.file.exists():
                held = self.read()
                told = [*notices(held), *told]
                if other := _others(held, asked, grows):
                    raise StoreError(
                        f"{self.path} holds another study (other {', '.join(other)}); give another folder, or delete "
                        "this one."
                    )
            content = {**asked, **({_NOTICES: told} if told else {})}
            self.index.write(self.file, json_bytes(self.file, content))
            yield

    def _put_damaged_aside(self) -> list[str]:
        """Rename the file of what was asked where it is not as it was written; a sentence where it was."""
        if not self.file.exists() or self._is_whole():
            return []
        aside = set_aside(self.file)
        return [_DAMAGED.format(name=self.file.name, aside=aside.name)]

    def _is_whole(self) -> bool:
        """Whether the file is as it was written; one that the index does not know is judged by being readable."""
        if self.index.state(self.file) is not State.UNKNOWN:
            return self.index.state(self.file) is State.GOOD
        try:
            return isinstance(read_json(self.file), dict)
        except StoreError:
            return False

    def _refuse_foreign(self, inside: list[str]) -> None:
        names = {entry.name for entry in self.path.iterdir() if not entry.match(PARTS)} if self.path.exists() else set()
        theirs = {name for name in names if name.partition(".damaged")[0] == self.file.name}
        foreign = names - _OWN - theirs - {*inside}
        if foreign or (names - {NAME, LOCK, HOLDER} and not theirs):
            shown = ", ".join(sorted(foreign or names)[:3])
            raise StoreError(f"{self.path} holds {shown}; give an empty or new folder for the results.")

    def run_folder(self, name: Any) -> Path:
        """Return the run folder of this name. Raises StoreError for a name that leads out of this folder."""
        plain = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
        if not plain or (self.path / name).resolve().parent != self.path.resolve():
            raise StoreError(f"{self.file} names {name!r}, which is no folder in {self.path}; it is not read.")
        return self.path / name

    def read(self) -> dict[str, Any]:
        """Return what was asked. Raises StoreError where there is nothing of this kind, or where it is damaged."""
        if not self.file.exists():
            raise StoreError(f"{self.path} holds no {self.kind} study; give the folder that `itlens compare` wrote.")
        if not self._is_whole():
            raise StoreError(
                f"{self.file} is damaged: its content is not what was written; run the same `itlens compare` again, "
                "which keeps what is finished."
            )
        return dict(read_json(self.file))

    def write(self, tables: Mapping[str, pd.DataFrame], page: str) -> None:
        """The tables, each as Parquet and CSV, and the page."""
        for name, table in tables.items():
            for ending in ("parquet", "csv"):
                save(table, self.path / "tables" / f"{name}.{ending}")
        write_text(self.page, page)


def notices(asked: Mapping[str, Any]) -> list[str]:
    """Return what happened to a folder's own files, a sentence each."""
    said = asked.get(_NOTICES)
    return [text for text in said if isinstance(text, str)] if isinstance(said, list) else []


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
