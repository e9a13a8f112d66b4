"""What config.json and generation_config.json must say before a model is made from them.

transformers refuses a whole number where a fraction is declared ("rms_norm_eps": 1), which loads everywhere else: such
numbers are written as declared. It accepts sizes from which no model can be made (no heads, a thousand million layers),
which end in a division by zero or not at all: those are refused.

A folder that holds no model, and a layer or head that config.json does not have, are refused before torch and
TransformerLens are imported, which takes seconds (`refuse_at_a_glance`).
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from itlens.errors import ModelError
from itlens.foreign import read_settings
from itlens.models.locate import Located, local_path, locate
from itlens.selection import as_whole, chosen

# setting -> the largest value: far beyond every released model, and small enough to be refused at once
_SIZES = {
    "num_hidden_layers": 10_000,
    "num_attention_heads": 100_000,
    "num_key_value_heads": 100_000,
    "hidden_size": 10_000_000,
    "intermediate_size": 100_000_000,
    "head_dim": 1_000_000,
    "vocab_size": 100_000_000,
    "max_position_embeddings": 10**12,
    "n_layer": 10_000,
    "n_head": 100_000,
    "n_embd": 10_000_000,
    "n_positions": 10**12,
}

# a count -> the names under which configs have it
_COUNTS = {
    "layer": ("num_hidden_layers", "n_layer", "num_layers"),
    "head": ("num_attention_heads", "n_head", "num_heads"),
}


def repaired_config(place: Located) -> Any:
    """Return the config of a folder in which numbers had to be written as transformers declares them; else None."""
    path = place.folder / "config.json"
    if place.gguf is not None or not path.is_file():
        return None
    from transformers import CONFIG_MAPPING

    content = json.loads(path.read_text(encoding="utf-8"))
    _refuse_sizes(content, place)  # before transformers divides by them
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING or "auto_map" in content:
        return None
    declared = {field.name: field.type for field in fields(CONFIG_MAPPING[kind])}
    written = {key: _as_declared(value, declared.get(key)) for key, value in content.items()}
    return CONFIG_MAPPING[kind].from_dict(content | written) if _kinds(written) != _kinds(content) else None


def _as_declared(value: Any, declared: Any) -> Any:
    """Return a whole number as a float, or a whole float as an integer, where only that is allowed."""
    allowed = {declared, *get_args(declared)}
    if as_whole(value) is not None and float in allowed and int not in allowed:
        return float(value)
    if isinstance(value, float) and value.is_integer() and int in allowed and float not in allowed:
        return int(value)
    return value


def _kinds(settings: dict[str, Any]) -> list[type]:
    return [type(value) for value in settings.values()]


def checked_config(config: Any, place: Located) -> Any:
    """Return the config. Raises ModelError for sizes of no model, and for stop tokens that are no token ids."""
    _refuse_sizes({name: getattr(config, name, None) for name in _SIZES}, place)
    _refuse_stops(getattr(config, "eos_token_id", None), "config.json", place)
    path = place.folder / "generation_config.json"
    if place.gguf is None and path.is_file():
        what = f"The generation_config.json of {place.name}"
        _refuse_stops(read_settings(path, ModelError, what).get("eos_token_id"), path.name, place)
    return config


def _refuse_sizes(settings: dict[str, Any], place: Located) -> None:
    for name, most in _SIZES.items():
        size = settings.get(name)
        if isinstance(size, (int, float)) and not 1 <= size <= most:
            raise ModelError(
                f"The config of {place.name} says {name} = {size}, and no model has that; expected 1 to {most:,}."
            )


def _refuse_stops(stops: Any, file: str, place: Located) -> None:
    """Raise ModelError unless `eos_token_id` is missing, an id, or a list of ids."""
    named = stops if isinstance(stops, (list, tuple)) else [] if stops is None else [stops]
    for stop in named:
        number = as_whole(stop)
        if number is None or number < -1:  # -1: none, in some older files
            raise ModelError(
                f"The {file} of {place.name} says eos_token_id = {stops!r}; expected a token's id or a list of ids."
            )


def refuse_at_a_glance(*models: str | Path | None, layer: int | None = None, head: int | None = None) -> None:
    """Raise ModelError for a local folder without a model, and ProbeError for a layer or head that its config has not.

    What cannot be seen here (hub ids, .gguf files, configs of other forms) is left to the loader and the probes.
    """
    for model in models:
        if model is None or not local_path(str(model)).exists():
            continue
        place = locate(model)
        path = place.folder / "config.json"
        if place.gguf is not None or not path.is_file():
            continue
        config = read_settings(path, ModelError, f"The config.json of {place.name}")
        for name, number in (("layer", layer), ("head", head)):
            count = _count(config, name)
            if number is not None and count is not None:
                chosen(name, number, count)


def _count(config: dict[str, Any], name: str) -> int | None:
    text = config.get("text_config")
    for settings in (config, text if isinstance(text, dict) else {}):
        for key in _COUNTS[name]:
            if isinstance(settings.get(key), int) and settings[key] > 0:
                return int(settings[key])
    return None
