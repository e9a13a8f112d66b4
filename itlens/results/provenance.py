"""Where a number comes from: the flat attributes that every result carries in `.attrs`.

Only strings, numbers and lists of them, so that netCDF and Parquet keep them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itlens.vocabulary import Vocabulary
    from itlens.weights import Weights

_PACKAGES = {
    "itlens_version": "itlens",
    "torch_version": "torch",
    "transformer_lens_version": "transformer-lens",
    "transformers_version": "transformers",
}


@cache
def version_of(package: str) -> str:
    """Return the version of an installed package, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def hooked_exists() -> bool:
    """Return whether the installed TransformerLens still has HookedTransformer (3.x), without importing it."""
    return int(version_of("transformer-lens").partition(".")[0]) < 4


def provenance(probe: str, **parameters: Any) -> dict[Any, Any]:
    """Return the attributes of a result: the probe's name, its parameters (None is written as "") and package
    versions."""
    flat = {name: "" if value is None else _plain(value) for name, value in parameters.items()}
    return {"probe": probe, **flat, **{name: version_of(package) for name, package in _PACKAGES.items()}}


def word_attrs(probe: str, weights: Weights, vocab: Vocabulary, **settings: Any) -> dict[Any, Any]:
    """Return the attributes of a result that reads weights in words: the model, the vocabulary, the settings."""
    words = {"vocabulary": vocab.fingerprint, "vocabulary_name": vocab.name, "vocabulary_size": len(vocab)}
    return provenance(probe, **weights.attrs, **words, **settings)


def short_name(name: str) -> str:
    """Return the last part of a model's name or path, which is what people call it."""
    return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or name


def model_label(attrs: Mapping[Any, Any], side: str = "") -> str:
    """Return what people call the model of a result, or of one side of it, with its adapter: "gemma-3-270m + sft"."""
    names = (f"{side}_{name}" if side else name for name in ("model", "adapter"))
    return " + ".join(short_name(str(attrs[name])) for name in names if attrs.get(name))


def text_id(text: str) -> str:
    """Return the id of a prompt that was given none: "prompt-" and a digest of its text, the same for every model."""
    return f"prompt-{sha256(text.encode()).hexdigest()[:8]}"


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)  # netCDF attributes have no booleans
    return value if isinstance(value, (str, int, float)) else str(value)
