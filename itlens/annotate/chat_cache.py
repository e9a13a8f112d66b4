"""Answers on disk, so that nothing is asked twice: one JSON file per answer.

A file's name is a hash of everything that was asked: server, model, messages, seed, temperature, longest answer; no
key is in it. Files are written atomically: a program that is killed leaves whole answers or none.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from itlens.errors import AnnotateError
from itlens.files import read_json, write_json

VERSION = 1


class ChatCache:
    """The answers in a folder, which need not exist yet."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise AnnotateError(f"cache={str(folder)!r} is a file; give a folder.")

    def get(self, asked: dict[str, Any]) -> str | None:
        """The answer to what was asked, None where it was never asked.

        Raises AnnotateError for an answer of another version and for one that answers something else, and
        StoreError for a file that cannot be read.
        """
        path = self.path(asked)
        if not path.exists():
            return None
        content = read_json(path)
        if not isinstance(content, dict) or content.get("version") != VERSION:
            found = content.get("version") if isinstance(content, dict) else None
            raise AnnotateError(
                f"{path} is a cached answer of version {found}, and this itlens reads version {VERSION}; give another "
                "folder as cache=, or delete this one."
            )
        if content.get("asked") != asked or not isinstance(content.get("answer"), str):
            raise AnnotateError(f"{path} does not hold the answer that its name says; delete it.")
        return str(content["answer"])

    def put(self, asked: dict[str, Any], answer: str) -> None:
        """Keep an answer. Raises StoreError where it cannot be written."""
        write_json(self.path(asked), {"version": VERSION, "asked": asked, "answer": answer})

    def path(self, asked: dict[str, Any]) -> Path:
        """Where the answer is, or would be."""
        text = json.dumps(asked, sort_keys=True)
        name = hashlib.sha256(text.encode("ascii")).hexdigest()
        return self.folder / name[:2] / f"{name}.json"
