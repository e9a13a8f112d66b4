"""Where a name leads: a local folder, a .gguf file, or a hub id whose files are fetched (or found in the cache).

A path is decided by what is on disk, a hub id by its form; nothing is guessed from words in the name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from itlens.errors import ModelError
from itlens.files import system_reason
from itlens.foreign import disk_error, foreign, read_settings

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_REVISION = re.compile(r"[\w./+-]+")  # a branch, tag or commit
_TEXT_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
_CODE_FILES = ["*.py"]
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf", re.IGNORECASE)
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")
# copies of the same weights in other formats or folders
_IGNORED = ["*/*", "consolidated*"]


@dataclass(frozen=True)
class Located:
    """A folder with the files of a checkpoint or adapter; `gguf` is a file in it, `commit` the hub's revision."""

    name: str
    folder: Path
    gguf: str | None = None
    commit: str | None = None


def locate(
    name_or_path: str | Path, *, revision: str | None = None, weights: bool = False, code: bool = False
) -> Located:
    """Find the files of a checkpoint; `weights` fetches the weight files too, `code` the Python files.

    A hub id may name its own revision, which goes before `revision`: "owner/name@revision".
    Raises ModelError in one sentence: no such folder, not a checkpoint, not on the hub and not in its cache.
    """
    name = str(name_or_path)
    path = local_path(name)
    if path.is_dir():
        return _folder(name, path)
    if path.is_file():
        return _file(name, path)
    hub, own = split_revision(name)
    if (
        not _HUB_ID.fullmatch(hub)
        or Path(hub).suffix.lower() == ".gguf"
        or not (own is None or _REVISION.fullmatch(own))
    ):
        raise ModelError(
            f"There is no model at {name!r}; expected a folder with config.json, a .gguf file or a hub id (owner/name, "
            "owner/name@revision)."
        )
    return replace(_fetched(hub, revision if own is None else own, weights, code), name=name)


def split_revision(name: str) -> tuple[str, str | None]:
    """Return the hub id and the revision of "owner/name@revision"; None where it names none."""
    hub, at, revision = name.partition("@")
    return hub, revision if at else None


def locate_adapter(adapter: str | Path) -> Located:
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
        why = system_reason(error) if isinstance(error, OSError) else str(error).rstrip(".")
        raise ModelError(f"There is no model at {name!r} ({why}); {expected}.") from error
    return path


def locate_tokenizer(name_or_path: str | Path, *, code: bool = False) -> Located:
    """Find the files of a tokenizer: a folder that holds nothing else will do. Raises ModelError where there is
    none."""
    path = local_path(str(name_or_path))
    if path.is_dir() and _holds_tokenizer(path):
        return Located(str(name_or_path), path)
    return locate(name_or_path, code=code)


def _file(name: str, path: Path) -> Located:
    if path.suffix.lower() != ".gguf":
        raise ModelError(
            f"{name} is a file, not a model; expected a folder with config.json, a .gguf file or a hub id."
        )
    if _PART.search(path.name):
        raise ModelError(
            f"{name} is one part of a split .gguf file, which transformers cannot read; join the parts first "
            "(llama-gguf-split --merge FIRST_PART WHOLE.gguf)."
        )
    return Located(name, path.parent, gguf=path.name)


def _folder(name: str, path: Path) -> Located:
    if any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
        return Located(name, path)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".gguf")
    if len(files) == 1 or (files and all(_PART.search(file.name) for file in files)):
        return _file(str(files[0]), files[0]) if len(files) > 1 else Located(name, path, gguf=files[0].name)
    hint = "it holds several .gguf files: name one of them" if files else "expected a Hugging Face checkpoint"
    if not files and _holds_tokenizer(path):
        hint = "it holds a tokenizer and no model: give the model's folder, and this one as its tokenizer"
    raise ModelError(f"The folder {name} has no config.json; {hint}.")


def _holds_tokenizer(path: Path) -> bool:
    return any((path / file).is_file() for file in _TOKENIZER)


def _fetched(name: str, revision: str | None, weights: bool, code: bool) -> Located:
    patterns = _TEXT_FILES + ["*.safetensors"] * weights + _CODE_FILES * code
    folder = _snapshot(name, revision, patterns)
    if weights and not any(folder.glob("*.safetensors")):
        folder = _snapshot(name, revision, [*patterns, "*.bin"])
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise ModelError(f"The hub model {name} has no config.json; is it a transformers checkpoint?")
    return Located(name, folder, commit=folder.name)


def _snapshot(name: str, revision: str | None, patterns: list[str]) -> Path:
    """Return the folder of a hub model's files: fetched, or as they lie in the cache."""
    import huggingface_hub
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    options: dict[str, Any] = {"allow_patterns": patterns, "ignore_patterns": _IGNORED, "etag_timeout": 5}
    with foreign(ModelError, f"The hub model {name} cannot be fetched"):
        try:
            return Path(huggingface_hub.snapshot_download(name, revision=revision, **options))
        except GatedRepoError as error:
            raise ModelError(f"The hub model {name} is gated: accept its terms and log in (hf auth login).") from error
        except RevisionNotFoundError as error:
            raise ModelError(f"The hub model {name} has no revision {revision!r}.") from error
        except RepositoryNotFoundError as error:
            raise ModelError(
                f"There is no folder {name!r} here and no such model on the hub; check the name."
            ) from error
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            if disk_error(error) is not None:
                raise
            return _cached(name, revision, "*.safetensors" in patterns, error)


def _cached(name: str, revision: str | None, weights: bool, error: Exception) -> Path:
    """Return the folder of a model whose needed files are in the cache, whatever else its repository lists."""
    from huggingface_hub import try_to_load_from_cache

    held = [try_to_load_from_cache(name, file, revision=revision) for file in ("config.json", "adapter_config.json")]
    config = next((Path(path) for path in held if isinstance(path, str)), None)
    way_out = "the hub cannot be reached or HF_HUB_OFFLINE is set"
    if config is None:
        raise ModelError(
            f"There is no folder {name!r} here, and {way_out} and the model is not in the local cache; download it "
            "first or give a local folder."
        ) from error
    missing = _missing_weights(config.parent) if weights else None
    if missing:
        raise ModelError(
            f"The local cache holds only a part of the hub model {name}: its weights ({missing}) are missing, and "
            f"{way_out}; download it whole or give a local folder."
        ) from error
    return config.parent


def _missing_weights(folder: Path) -> str:
    if any(folder.glob("*.bin")) or (folder / "adapter_model.safetensors").is_file():
        return ""
    files = safetensors_of(folder) or [folder / "model.safetensors"]
    return next((path.name for path in files if not path.is_file()), "")


def safetensors_of(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers reads from a folder: a whole file before the parts of an index.

    A part that the index names may be missing. Raises ModelError for an index that is broken.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():
        return [whole] if whole.is_file() else []
    what = f"The index of weights {index}"
    parts = read_settings(index, ModelError, what).get("weight_map")
    if not isinstance(parts, dict) or not all(isinstance(n, str) and Path(n).name == n for n in parts.values()):
        raise ModelError(f"{what} has no weight_map from the names of weights to files beside it.")
    return [folder / part for part in sorted(set(parts.values()))]


def read_config(place: Located, *, trust_remote_code: bool = False) -> Any:
    """Return the Hugging Face config of a checkpoint, without its weights. Raises ModelError when it is missing or
    broken."""
    from transformers import AutoConfig

    from itlens.models.configuration import checked_config, repaired_config
    from itlens.models.gguf_bulk import read_in_bulk
    from itlens.models.gguf_copy import copy_of
    from itlens.models.gguf_header import read_header
    from itlens.models.gguf_settings import complete_config
    from itlens.models.quiet import quiet

    copied = copy_of(place, "model")
    if copied is not None:  # what the .gguf file says was checked when the copy was made
        return read_config(copied)
    if place.gguf is None:
        _check_json(place)
    else:
        _need_gguf(place)
    reading = quiet() if place.gguf is None else read_in_bulk()
    with foreign(ModelError, f"The config of {place.name} cannot be read"), reading:
        config = repaired_config(place) or AutoConfig.from_pretrained(
            place.folder, gguf_file=place.gguf, trust_remote_code=trust_remote_code, local_files_only=True
        )
    if place.gguf is not None:
        config = complete_config(config, read_header(place), place.name)
    return checked_config(config, place)


def _check_json(place: Located) -> None:
    path = place.folder / "config.json"
    if not path.is_file():
        raise ModelError(f"The folder {place.name} has no config.json; is it a Hugging Face checkpoint?")
    content = read_settings(path, ModelError, f"The config.json of {place.name}")
    if not ("model_type" in content or "architectures" in content):
        raise ModelError(f"The config.json of {place.name} names no model_type; is it a Hugging Face checkpoint?")


def _need_gguf(place: Located) -> None:
    from importlib.util import find_spec

    missing = [package for package in ("gguf", "accelerate") if find_spec(package) is None]
    if missing:
        raise ModelError(f'Reading {place.name} needs {" and ".join(missing)}: pip install "itlens[gguf]".')
