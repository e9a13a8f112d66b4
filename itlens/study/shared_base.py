"""Taking over what another study has finished of the same base model, so that a series computes the base once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itlens.errors import StoreError
from itlens.study.folder import RunFolder
from itlens.study.parts import PARTS, parts_of

# what is read off the base model alone; activations are of the tuned model's responses, and so of the pair
_OF_ONE_MODEL = ("attribution", "attention", "mlp", "faithfulness")
_ALWAYS = ("base model", "dtype", "backend", "tokenizer")


def take_base(source: str | Path, folder: RunFolder, study: Mapping[str, Any]) -> list[str]:
    """Copy the base's finished results of `source` into `folder`, part by part; the parts that were taken.

    A part is taken where both studies asked the same of it and of the same base model, and where `folder` has nothing
    of it yet. Raises StoreError where `source` is no run folder, or the copies cannot be written.
    """
    other = RunFolder(source)
    held, asked = other.read_study()["identity"], study["identity"]
    taken = []
    for name in _OF_ONE_MODEL:
        if name not in parts_of(held) or name not in parts_of(asked):
            continue
        if any(held.get(key) != asked.get(key) for key in (*_ALWAYS, *PARTS[name].identity)):
            continue
        there, here = (run.path / PARTS[name].folder / "base" for run in (other, folder))
        if there.is_dir() and not here.exists():
            _copy(there, here)
            taken.append(name)
    return taken


def _copy(there: Path, here: Path) -> None:
    """Under another name first, so that a killed copy is not taken for the whole."""
    part = here.with_name(f".itlens-{here.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(there, part)
        part.rename(here)
    except OSError as error:
        raise StoreError(
            f"Cannot copy {there} to {here} ({error.strerror}); give a folder that can be written."
        ) from error
