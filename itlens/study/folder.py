"""The run folder: what a study keeps on disk, and what makes it the same study when it is resumed.

study.json               what was asked: models with fingerprints, settings, versions, when
prompts.jsonl            the prompts as the models read them
attributions/base/*.nc   a file per prompt and model, written atomically when the prompt is finished
attributions/tuned/*.nc
tables/                  the comparison: Parquet and CSV tables, sensitivity.nc, profile.nc
report.html              one offline page

A study is the same when models (by fingerprint), prompts (by content) and the settings that results depend on are the
same; then finished prompts are kept. A folder that holds anything else is refused, never overwritten.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import xarray as xr

from itlens.errors import StoreError
from itlens.files import read_json, write_json
from itlens.prompts import Prompt, load_prompts, save_prompts
from itlens.store import load, save

WHICH = ("base", "tuned")
_PARTS = ".itlens-*.part"  # what an atomic write leaves when the program is killed in the middle of it
_KNOWN: dict[str, type] = {"identity": dict, "models": dict, "settings": dict, "versions": dict, "notices": list}
_KNOWN |= {"prompts": int, "created": str}
_NAMED = {"models": {"base", "tuned"}, "settings": {"format", "max_new_tokens", "levels", "threshold", "p", "seed"}}
_STUDY, _PROMPTS, _RESULTS, _TABLES, _REPORT = "study.json", "prompts.jsonl", "attributions", "tables", "report.html"


class RunFolder:
    """The paths of one run folder, and reading and writing them."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.study = self.path / _STUDY
        self.prompts = self.path / _PROMPTS
        self.tables = self.path / _TABLES
        self.report = self.path / _REPORT

    def result(self, which: str, number: int, prompt: Prompt) -> Path:
        """The file of one prompt's attribution; `number` counts prompts from 1."""
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", prompt.id).strip("-.")[:60]
        return self.path / _RESULTS / which / f"{number:04d}-{readable or 'prompt'}.nc"

    def finished(self, which: str, prompts: Sequence[Prompt]) -> dict[str, xr.Dataset]:
        """The results there are, by prompt id. A broken file counts as not there: its prompt is computed again."""
        found: dict[str, xr.Dataset] = {}
        for number, prompt in enumerate(prompts, start=1):
            path = self.result(which, number, prompt)
            if path.exists() and (result := _readable(path, prompt)) is not None:
                found[prompt.id] = result
        return found

    @contextmanager
    def opened(self, study: Mapping[str, Any], prompts: Sequence[Prompt], *, resume: bool) -> Iterator[None]:
        """Write what is asked; when the block fails before any result is finished, take away what was made here.

        Raises StoreError for a file, for a folder of other things, and for another study's results.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not _exists(folder)]
        self._refuse_foreign(study["identity"])
        if not resume:
            self._clear()
        try:
            write_json(self.study, study)
            save_prompts(prompts, self.prompts)
            yield
        except BaseException:
            with suppress(OSError, StoreError):
                if not any((self.path / _RESULTS).rglob("*.nc")):
                    self._clear()
                    for folder in made:
                        folder.rmdir()
            raise

    def _refuse_foreign(self, identity: Mapping[str, Any]) -> None:
        if not _exists(self.path):
            return
        if not self.path.is_dir():
            raise StoreError(f"{self.path} is a file; give a folder for the results.")
        try:
            inside = {entry.name for entry in self.path.iterdir()} - {entry.name for entry in self.path.glob(_PARTS)}
        except OSError as error:
            raise StoreError(f"Cannot look into {self.path} ({error.strerror}); choose another folder.") from error
        if not inside:
            return
        if _STUDY not in inside:
            shown = ", ".join(sorted(inside)[:3])
            raise StoreError(f"{self.path} holds {shown} and no study; give an empty or new folder for the results.")
        held = read_json(self.study)
        held = held.get("identity") if isinstance(held, dict) else None
        if not isinstance(held, dict):
            raise StoreError(f"{self.study} is not a study of itlens; give an empty or new folder for the results.")
        other = [
            f"{name}: {held.get(name)!r} there, {identity.get(name)!r} here"
            for name in {**identity, **held}
            if held.get(name) != identity.get(name)
        ]
        if other:
            raise StoreError(
                f"{self.path} holds the results of another study ({'; '.join(other[:3])}); give another folder, or "
                "delete this one."
            )

    def _clear(self) -> None:
        """Delete what a study wrote, and nothing else."""
        try:
            for path in (self.study, self.prompts, self.report, *self.path.glob(_PARTS)):
                path.unlink(missing_ok=True)
            for folder in (self.path / _RESULTS, self.tables):
                if folder.exists():
                    shutil.rmtree(folder)
        except OSError as error:
            raise StoreError(
                f"Cannot delete {error.filename or self.path} ({error.strerror}); change its rights, or give another "
                "folder."
            ) from error

    def read_study(self) -> dict[str, Any]:
        """What was asked. Raises StoreError where there is no study."""
        if not _exists(self.path) or not self.path.is_dir():
            raise StoreError(f"{self.path} is no folder; give the folder that `itlens compare` wrote (its --out).")
        if not self.study.exists():
            raise StoreError(f"{self.path} holds no study (no {_STUDY}); give the folder that `itlens compare` wrote.")
        study = read_json(self.study)
        if not _is_study(study):
            raise StoreError(f"{self.study} is not a study of itlens; run `itlens compare` into a new folder.")
        return study

    def read_prompts(self) -> list[Prompt]:
        """The prompts as the models read them."""
        return load_prompts(self.prompts)


def _exists(path: Path) -> bool:
    """Whether there is such a path. Raises StoreError where that cannot be told: no permission, too long a name."""
    if "\0" in str(path):
        raise StoreError(f"The folder {str(path)!r} holds a NUL character; choose another name.")
    try:
        return path.exists()
    except OSError as error:
        raise StoreError(f"Cannot look at {path} ({error.strerror}); choose another folder.") from error


def _is_study(study: Any) -> bool:
    """Whether study.json holds everything that tables and report are made from."""
    return (
        isinstance(study, dict)
        and all(isinstance(study.get(name), kind) for name, kind in _KNOWN.items())
        and all(names <= set(study[name]) for name, names in _NAMED.items())
        and all(isinstance(side, dict) and {"label", "name"} <= set(side) for side in study["models"].values())
    )


def _readable(path: Path, prompt: Prompt) -> xr.Dataset | None:
    try:
        result = load(path)
    except StoreError:
        return None
    return result if isinstance(result, xr.Dataset) and result.attrs.get("prompt_id") == prompt.id else None


def save_result(result: xr.Dataset, path: Path) -> xr.Dataset:
    """Write one prompt's attribution and return it as written: float32 is enough to rank and level scores."""
    kept = result.assign(score=result.score.astype("float32"))
    save(kept, path)
    return kept
