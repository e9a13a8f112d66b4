"""Where a name leads: a local folder, a .gguf file, or a hub id whose files are fetched (or found in the cache).

A path is decided by what is on disk, a hub id by its form; nothing is guessed from words in the name.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itlens.errors import ModelError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_TEXT_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
_CODE_FILES = ["*.py"]
# copies of the same weights in other formats or folders
_IGNORED = ["*/*", "consolidated*"]


@dataclass(frozen=True)
class Place:
    """A folder with the files of a checkpoint or adapter; `gguf` is a file in it, `commit` the hub's revision."""

    name: str
    folder: Path
    gguf: str | None = None
    commit: str | None = None


def locate(
    name_or_path: str | Path, *, revision: str | None = None, weights: bool = False, code: bool = False
) -> Place:
    """Find the files of a checkpoint; `weights` fetches the weight files too, `code` the Python files.

    Raises ModelError in one sentence: no such folder, not a checkpoint, not on the hub and not in its cache.
    """
    name = str(name_or_path)
    path = local_path(name)
    if path.is_dir():
        return _folder(name, path)
    if path.is_file():
        if path.suffix == ".gguf":
            return Place(name, path.parent, gguf=path.name)
        raise ModelError(
            f"{name} is a file, not a model; expected a folder with config.json, a .gguf file or a hub id."
        )
    if not _HUB_ID.fullmatch(name) or path.suffix == ".gguf":
        raise ModelError(
            f"There is no model at {name!r}; expected a folder with config.json, a .gguf file or a hub id (owner/name)."
        )
    return _fetched(name, revision, weights, code)


def locate_adapter(adapter: str | Path) -> Place:
    """Find the files of a PEFT adapter. Raises ModelError where there is none."""
    place = locate(adapter, weights=True)
    if not (place.folder / "adapter_config.json").is_file():
        raise ModelError(f"{adapter} has no adapter_config.json; expected a PEFT adapter such as a LoRA folder.")
    return place


def local_path(name: str) -> Path:
    """Return the path that a name would be on this machine. Raises ModelError for what no path can be."""
    expected = "expected a folder with config.json, a .gguf file or a hub id (owner/name)"
    if not name.strip() or "\0" in name:
        raise ModelError(f"The model's name is {name!r}; {expected}.")
    try:
        path = Path(name).expanduser()
        path.exists()  # a name that is too long, or in a folder that may not be read, fails here
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise ModelError(f"There is no model at {name!r} ({reason}); {expected}.") from error
    return path


def _folder(name: str, path: Path) -> Place:
    if any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
        return Place(name, path)
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return Place(name, path, gguf=files[0].name)
    hint = "it holds several .gguf files: name one of them" if files else "expected a Hugging Face checkpoint"
    raise ModelError(f"The folder {name} has no config.json; {hint}.")


def _fetched(name: str, revision: str | None, weights: bool, code: bool) -> Place:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = _TEXT_FILES + ["*.safetensors"] * weights + _CODE_FILES * code
    try:
        folder = Path(_snapshot(snapshot_download, name, revision, patterns))
        if weights and not any(folder.glob("*.safetensors")):
            folder = Path(_snapshot(snapshot_download, name, revision, [*patterns, "*.bin"]))
    except GatedRepoError as error:
        raise ModelError(f"The hub model {name} is gated: accept its terms and log in (hf auth login).") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"The hub model {name} has no revision {revision!r}.") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"There is no folder {name!r} here and no such model on the hub; check the name.") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"There is no folder {name!r} here, and the hub cannot be reached or HF_HUB_OFFLINE is set and the model "
            "is not in the local cache; download it first or give a local folder."
        ) from error
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise ModelError(f"The hub model {name} has no config.json; is it a transformers checkpoint?")
    return Place(name, folder, commit=folder.name)


def _snapshot(download: Any, name: str, revision: str | None, patterns: list[str]) -> str:
    return str(download(name, revision=revision, allow_patterns=patterns, ignore_patterns=_IGNORED, etag_timeout=5))


def read_config(place: Place, *, trust_remote_code: bool = False) -> Any:
    """Return the Hugging Face config of a checkpoint, without its weights. Raises ModelError when it is missing or
    broken."""
    from transformers import AutoConfig

    from itlens.models.quiet import quiet

    if place.gguf is None:
        _check_json(place)
    else:
        _need_gguf(place)
    try:
        with quiet():
            return AutoConfig.from_pretrained(
                place.folder, gguf_file=place.gguf, trust_remote_code=trust_remote_code, local_files_only=True
            )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError, struct.error) as error:
        raise ModelError(f"The config of {place.name} cannot be read: {first_line(error)}") from error


def _check_json(place: Place) -> None:
    path = place.folder / "config.json"
    if not path.is_file():
        raise ModelError(f"The folder {place.name} has no config.json; is it a Hugging Face checkpoint?")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"The config.json of {place.name} is not readable JSON: {first_line(error)}") from error
    if not isinstance(content, dict) or not ("model_type" in content or "architectures" in content):
        raise ModelError(f"The config.json of {place.name} names no model_type; is it a Hugging Face checkpoint?")


def _need_gguf(place: Place) -> None:
    from importlib.util import find_spec

    missing = [package for package in ("gguf", "accelerate") if find_spec(package) is None]
    if missing:
        raise ModelError(f'Reading {place.name} needs {" and ".join(missing)}: pip install "itlens[gguf]".')


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, cut to what fits one sentence."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text if len(text) <= 240 else text[:237] + "..."
