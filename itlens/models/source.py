"""Where a model comes from: what `load_model` notes on the model, and the fingerprint of a checkpoint.

The FINGERPRINT names the weights, so that a study which is resumed notices that the same folder now holds others.
For a hub id it is the commit; for a folder or file "sha256:" and 16 hex digits over the names and contents of its
JSON, text and tokenizer files and, for each weight file, its name, size and contents; of a file above 64 MiB, 16 KiB at
1024 places from start to end, so that a matrix of a large model is met several times: merging an adapter changes the
numbers of some matrices only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from itlens.models.locate import Place, locate, locate_adapter
from itlens.tokenization import front_tokens

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
_TEXTS = (".json", ".txt", ".model", ".jinja")
_WHOLE = 1 << 26
_CHUNK = 1 << 14
_PROBES = 1024


@dataclass(frozen=True)
class ModelSource:
    """What is known of a loaded model.

    name: as the caller gave it; revision: fingerprint (see the module) or "object" for a model the caller made;
    backend: "hooked" | "bridge"; conversion: "itlens" (from the config), "transformer_lens" (its own path, by official
    name), "bridge" or "given"; check: the load check's figures ({} when there was none); tokenizer: the Hugging Face
    tokenizer as loaded (the model's own `tokenizer` attribute is a copy that TransformerLens may fill in); front: the
    ids that this tokenizer puts in front of a text; parameters: their number as Hugging
    Face counts it (tied ones once); context: the longest text in tokens; stop: the ids that end a response, from the
    checkpoint's generation settings (the tokenizer's EOS comes on top).
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
    tokenizer: Any = None
    front: tuple[int, ...] = ()
    parameters: int = 0
    context: int = 0
    stop: tuple[int, ...] = ()


def _hash_file(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    digest.update(f"{path.name}:{size}:".encode())
    with path.open("rb") as file:
        if path.suffix in _TEXTS or size <= _WHOLE:
            digest.update(file.read())
            return
        for number in range(_PROBES):
            file.seek((size - _CHUNK) * number // (_PROBES - 1))
            digest.update(file.read(_CHUNK))


def _of_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        _hash_file(digest, path)
    return f"sha256:{digest.hexdigest()[:16]}"


def _of_place(place: Place) -> str:
    if place.commit:
        return place.commit
    if place.gguf:
        return _of_files([place.folder / place.gguf])
    return _of_files(sorted(path for path in place.folder.iterdir() if path.suffix in WEIGHTS + _TEXTS))


def place_fingerprint(place: Place, adapter: str | Path | None = None) -> str:
    """The fingerprint of located files, and of the adapter on them after a "+"."""
    mark = _of_place(place)
    return f"{mark}+{_of_place(locate_adapter(adapter))}" if adapter is not None else mark


def fingerprint(name_or_path: str | Path, *, adapter: str | Path | None = None, revision: str | None = None) -> str:
    """The revision of a checkpoint (and of the adapter on it), without loading it; see the module.

    Raises ModelError where there is no such checkpoint.
    """
    return place_fingerprint(locate(name_or_path, revision=revision), adapter)


def object_fingerprint(model: Any) -> str:
    """The fingerprint of a model in memory: 64 evenly spaced values of each parameter."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach()
        picks = [int(size - 1) for size in flat.shape]
        digest.update(f"{name}:{tuple(flat.shape)}:".encode())
        for number in range(64):
            index = tuple(pick * number // 63 for pick in picks)
            digest.update(repr(float(flat[index])).encode())
    return f"sha256:{digest.hexdigest()[:16]}"


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


def source_attrs(model: Any) -> dict[str, str]:
    """model, revision, adapter ("" without one), backend, dtype and device of a loaded model, for a result's attrs."""
    source = source_of(model)
    return {
        "model": source.name,
        "revision": source.revision,
        "adapter": source.adapter or "",
        "backend": source.backend,
        "dtype": source.dtype,
        "device": source.device,
    }


def source_of(model: Any) -> ModelSource:
    """What `load_model` noted on the model; for a model the caller made, what its config and tokenizer say."""
    noted = getattr(model, "itlens_source", None)
    if isinstance(noted, ModelSource):
        return noted
    from transformer_lens import HookedTransformer

    source = ModelSource(
        name=str(model.cfg.model_name),
        revision=object_fingerprint(model),
        backend="hooked" if isinstance(model, HookedTransformer) else "bridge",
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
        device=str(next(model.parameters()).device),
        architecture=str(getattr(model.cfg, "original_architecture", None) or getattr(model.cfg, "architecture", "")),
        tokenizer=model.tokenizer,
    )
    return attach(model, source).itlens_source
