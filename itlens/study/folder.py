"""The run folder: what a study keeps on disk, and what makes it the same study when it is resumed.

study.json               what was asked: models with fingerprints, settings, versions, when
prompts.jsonl            the prompts as the models read them
attributions/base/*.nc   a file per prompt and model, written atomically when the prompt is finished
attributions/tuned/*.nc
words/base/*.parquet     two files per layer and model (`word_layers`), written when the layer is finished
words/tuned/*.parquet
concepts/base/*          two files per layer, kind of neuron vectors and model (`concept_layers`), likewise
concepts/tuned/*
activations/*.nc         of the base model, of the tuned one, and the shift between them, on the same tokens
patching/heads.nc        what each head carries
faithfulness/base/*.nc   a file per prompt and model, of the prompts drawn for it
faithfulness/tuned/*.nc
tables/                  the comparison: Parquet and CSV tables, netCDF arrays
report.html              one offline page

A study is the same when models (by fingerprint), prompts and words (by content) and the settings that results depend on
are the same; then what is finished is kept. What was not asked for before is added (`parts`). A folder that holds
anything else is refused, never overwritten.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import xarray as xr

from itlens.errors import StoreError
from itlens.files import read_json, write_json
from itlens.prompts import Prompt, load_prompts, save_prompts
from itlens.study.parts import NEEDED, PARTS, WHICH, differences, joined, parts_of, without
from itlens.study.result_files import ResultFiles

_PARTS = ".itlens-*.part"  # what an atomic write leaves when the program is killed in the middle of it
_KNOWN: dict[str, type] = {"identity": dict, "models": dict, "settings": dict, "versions": dict, "notices": list}
_KNOWN |= {"prompts": int, "created": str}
_STUDY, _PROMPTS, _TABLES, _REPORT = "study.json", "prompts.jsonl", "tables", "report.html"


class RunFolder:
    """The paths of one run folder, and reading and writing them."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.study = self.path / _STUDY
        self.prompts = self.path / _PROMPTS
        self.tables = self.path / _TABLES
        self.report = self.path / _REPORT
        self.files = ResultFiles()

    def result(self, which: str, number: int, prompt: Prompt, part: str = "attribution") -> Path:
        """The file of one prompt's attribution (or faithfulness); `number` counts prompts from 1."""
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", prompt.id).strip("-.")[:60]
        return self.path / PARTS[part].folder / which / f"{number:04d}-{readable or 'prompt'}.nc"

    def finished(self, which: str, prompts: Sequence[Prompt], part: str = "attribution") -> dict[str, xr.Dataset]:
        """The results there are, by prompt id. A broken file counts as not there: its prompt is computed again."""
        found: dict[str, xr.Dataset] = {}
        for number, prompt in enumerate(prompts, start=1):
            result = self.files.read(self.result(which, number, prompt, part))
            if result is not None and result.attrs.get("prompt_id") == prompt.id:
                found[prompt.id] = result
        return found

    def of_pair(self, part: str, name: str) -> Path:
        """The file of a result that both models, or one of them, have over all prompts."""
        return self.path / PARTS[part].folder / f"{name}.nc"

    @contextmanager
    def opened(
        self, asked: Mapping[str, Any], prompts: Sequence[Prompt] | None, *, resume: bool
    ) -> Iterator[dict[str, Any]]:
        """Write what is asked and give the study, with the parts that the folder had before.

        prompts: None where none are asked for. When the block fails before any result is finished, what was made here
        is taken away. Raises StoreError for a file, for a folder of other things, and for another study's results.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not _exists(folder)]
        self._refuse_foreign(asked["identity"])
        if not resume:
            self._clear(parts_of(asked["identity"]))
        held = self._held()
        study = joined(held, asked) if held else dict(asked)
        try:
            write_json(self.study, study)
            if prompts is not None:
                save_prompts(prompts, self.prompts)
            yield study
        except BaseException:
            with suppress(OSError, StoreError):
                if not self.with_results():
                    self._clear(PARTS)
                    for folder in made:
                        folder.rmdir()
            raise

    def note(self, study: dict[str, Any], sentences: Sequence[str]) -> None:
        """Add notices to the study, on disk too."""
        study["notices"] = [*study["notices"], *(text for text in sentences if text not in study["notices"])]
        write_json(self.study, study)

    def with_results(self) -> list[str]:
        """The parts that have a result of some kind, of either model."""
        return [name for name, part in PARTS.items() if any((self.path / part.folder).glob(part.results))]

    def _held(self) -> dict[str, Any] | None:
        """The study of this folder, as far as it has results; None where there is none."""
        held = read_json(self.study) if self.study.exists() else None
        if held is None or not _is_study(held):
            return None
        return without(held, set(PARTS) - set(self.with_results()))

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
        empty = set(PARTS) - set(self.with_results())
        other = differences(without({"identity": held, "settings": {}}, empty)["identity"], identity)
        if other:
            raise StoreError(
                f"{self.path} holds the results of another study ({'; '.join(other[:3])}); give another folder, or "
                "delete this one."
            )

    def _clear(self, parts: Collection[str]) -> None:
        """Delete the results of these parts and what was made of them, and the study when nothing is left of it."""
        try:
            for folder in (self.tables, *(self.path / PARTS[name].folder for name in parts)):
                if folder.exists():
                    shutil.rmtree(folder)
            for path in (self.report, *self.path.glob(_PARTS)):
                path.unlink(missing_ok=True)
            if not self.with_results():
                self.study.unlink(missing_ok=True)
                self.prompts.unlink(missing_ok=True)
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
        and set(WHICH) <= set(study["models"])
        and bool(parts_of(study["identity"]))
        and all(NEEDED[name] <= set(study["settings"]) for name in parts_of(study["identity"]))
        and all(isinstance(side, dict) and {"label", "name"} <= set(side) for side in study["models"].values())
    )
