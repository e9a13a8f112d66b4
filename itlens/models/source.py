"""Where a model comes from: what `load_model` notes on it, its fingerprint, and whether its files are whole.

The FINGERPRINT names the weights, so that a study which is resumed notices that the same folder now holds others. For a
hub id it is the commit; for a folder or file "sha256:" and 16 hex digits over the names and contents of its JSON, text
and tokenizer files and, for each weight file, its name, size and contents; of a file above 64 MiB, 16 KiB at 1024
places from start to end, so that a matrix of a large model is met several times: merging an adapter changes the numbers
of some matrices only.

A study runs hours of prompts through one model before it loads the other, so the files of both are checked first: the
header of each safetensors file must describe all of it, and no number in it may be NaN or infinite. One tensor is read
at a time, and a file that was found whole before is not read again (`checked_files`). Weights in other formats are left
to the loader.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from itlens.errors import ModelError
from itlens.foreign import foreign
from itlens.models.checked_files import FileRecord
from itlens.models.hooked_model import HookedModel, backend_of, refuse_no_model
from itlens.models.locate import Located, locate, locate_adapter, safetensors_of
from itlens.tokenization import front_tokens

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
_TEXTS = (".json", ".txt", ".model", ".jinja")
_WHOLE = 1 << 26  # bytes; of larger weight files only places are read
_CHUNK, _PLACES = 1 << 14, 1024
_CHECKED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, repr=False)
class ModelSource:
    """What is known of a loaded model.

    name: as the caller gave it; revision: fingerprint (see the module) or "object" for a model the caller made;
    backend: "hooked" | "bridge"; conversion: "itlens" (from the config), "transformer_lens" (its own path, by official
    name), "bridge" or "given"; check: the load check's figures ({} when there was none); tokenizer: the Hugging Face
    tokenizer as loaded (the model's own `tokenizer` attribute is a copy that TransformerLens may fill in); front: the
    ids that this tokenizer puts in front of a text; parameters: their number as Hugging
    Face counts it (tied ones once); context: the longest text in tokens; stop: the ids that end a response, from the
    checkpoint's generation settings (the tokenizer's EOS comes on top); notices: what merging an adapter found, a
    sentence each.
    """

    name: str
    revision: str
    backend: str
    dtype: str
    device: str
    adapter: str | None = None
    architecture: str = ""
    conversion: str = "given"
    check: dict[str, Any] = field(default_factory=dict)
    tokenizer: Any = None  # a `Tokenizer`; None for a model that came without one
    front: tuple[int, ...] = ()
    parameters: int = 0
    context: int = 0
    stop: tuple[int, ...] = ()
    notices: tuple[str, ...] = ()

    def __repr__(self) -> str:
        adapter = f" + {self.adapter}" if self.adapter else ""
        size = f"{self.parameters:,} parameters"
        known = (self.architecture, size, self.backend, self.dtype, self.device, self.revision)
        return f"ModelSource({self.name + adapter!r}: {', '.join(filter(None, known))})"


def attach(model: Any, source: ModelSource) -> Any:
    """Note `source` on the model, completed by what the model itself says."""
    tokenizer = source.tokenizer
    model.itlens_source = replace(
        source,
        parameters=source.parameters or sum(parameter.numel() for parameter in model.parameters()),
        context=int(model.cfg.n_ctx),
        front=tuple(front_tokens(tokenizer)) if tokenizer is not None else (),
    )
    return model


def source_attrs(model: HookedModel) -> dict[str, str]:
    """Return model, revision, adapter ("" without one), backend, dtype and device of a model, for a result's attrs."""
    source = source_of(model)
    return {
        "model": source.name,
        "revision": source.revision,
        "adapter": source.adapter or "",
        "backend": source.backend,
        "dtype": source.dtype,
        "device": source.device,
    }


def source_of(model: HookedModel) -> ModelSource:
    """Return what `load_model` noted on the model; for a model the caller made, what its config and tokenizer say."""
    noted = getattr(model, "itlens_source", None)
    if isinstance(noted, ModelSource):
        return noted
    refuse_no_model(model, "source_of")
    source = ModelSource(
        name=str(model.cfg.model_name),
        revision=object_fingerprint(model),
        backend=backend_of(model),
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
        device=str(next(model.parameters()).device),
        architecture=str(getattr(model.cfg, "original_architecture", None) or getattr(model.cfg, "architecture", "")),
        tokenizer=model.tokenizer,
    )
    attached: ModelSource = attach(model, source).itlens_source
    return attached


def fingerprint(name_or_path: str | Path, *, adapter: str | Path | None = None, revision: str | None = None) -> str:
    """Return the revision of a checkpoint (and of the adapter on it), without loading it; see the module.

    Raises ModelError where there is no such checkpoint.
    """
    return place_fingerprint(locate(name_or_path, revision=revision), adapter)


def place_fingerprint(place: Located, adapter: str | Path | None = None) -> str:
    """Return the fingerprint of located files, and of the adapter on them after a "+"."""
    mark = _of_place(place)
    return f"{mark}+{_of_place(locate_adapter(adapter))}" if adapter is not None else mark


def _of_place(place: Located) -> str:
    if place.commit:
        return place.commit
    if place.gguf:
        return _of_files([place.folder / place.gguf])
    return _of_files(sorted(path for path in place.folder.iterdir() if path.suffix in WEIGHTS + _TEXTS))


def _of_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        _hash_file(digest, path)
    return f"sha256:{digest.hexdigest()[:16]}"


def _hash_file(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    digest.update(f"{path.name}:{size}:".encode())
    with path.open("rb") as file:
        if path.suffix in _TEXTS or size <= _WHOLE:
            digest.update(file.read())
            return
        for number in range(_PLACES):
            file.seek((size - _CHUNK) * number // (_PLACES - 1))
            digest.update(file.read(_CHUNK))


def object_fingerprint(model: Any) -> str:
    """Return the fingerprint of a model in memory: 64 evenly spaced values of each parameter."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach()
        picks = [int(size - 1) for size in flat.shape]
        digest.update(f"{name}:{tuple(flat.shape)}:".encode())
        for number in range(64):
            index = tuple(pick * number // 63 for pick in picks)
            digest.update(repr(float(flat[index])).encode())
    return f"sha256:{digest.hexdigest()[:16]}"


def refuse_broken_files(place: Located) -> None:
    """Raise ModelError for a safetensors file that is truncated, missing, or holds NaN or infinity."""
    from safetensors import safe_open

    for path in _weight_files(place):
        record = FileRecord(path, _of_files([path])) if path.is_file() else None
        if record is not None and record.known:
            continue
        with foreign(ModelError, f"The weights of {place.name} cannot be loaded"), safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                refuse_not_finite_tensor(file.get_tensor(name), name, place.name)
        if record is not None:
            record.found_whole()


def _weight_files(place: Located) -> list[Path]:
    """Return the safetensors files that transformers would load from this folder."""
    if place.gguf:
        return []
    files = safetensors_of(place.folder)
    if files:
        return files
    if not any(path.suffix in WEIGHTS for path in place.folder.iterdir()):
        raise ModelError(
            f"The folder of {place.name} holds no weights; expected model.safetensors next to config.json."
        )
    return []


def refuse_not_finite_tensor(tensor: Any, key: str, name: str) -> None:
    """Raise ModelError for a weight that holds NaN or infinity. key: its name; name: the model's."""
    if tensor.dtype in _CHECKED and tensor.numel():
        low, high = torch.aminmax(tensor)  # both become NaN when any value is
        if not (torch.isfinite(low) and torch.isfinite(high)):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(f"The weight {key} of {name} holds NaN or infinity in {kind}; the checkpoint is broken.")
