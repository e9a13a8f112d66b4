"""The parts of a study, one per probe: what each was asked with, and when a folder's results are those of one study.

A study has any of these parts: attribution, attention, mlp (feed-forward concepts). A part can be added later: first
the weights, which need no prompts, then the attributions. What is common to all parts (the models, their precision)
must be the same, and so must the settings of a part that has results already. A part without results binds nobody. No
two parts share a name of an identity or a setting, though attention and mlp are asked with the same vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

PROBES = ("attribution", "attention", "mlp")
WHICH = ("base", "tuned")


class Part(NamedTuple):
    """Where a part's results are, and which names in study.json are its own.

    results: the pattern of its files, within `folder`. identity: what its results depend on. settings: what it was
    asked with, its scoring included, which may change without computing anything again.
    """

    folder: str
    results: str
    identity: tuple[str, ...]
    settings: tuple[str, ...]


_ASKED = ("format", "max_new_tokens", "method", "objective", "prepend_bos")
_WORDS = ("vocabulary", "vectors", "top_k")
_CONCEPTS = ("concept_vocabulary", "sides", "components", "concept_words", "resamples", "labeller", "labelled")
PARTS = {
    "attribution": Part("attributions", "*/*.nc", ("prompts", *_ASKED), (*_ASKED, "levels", "threshold", "p")),
    "attention": Part("words", "*/layer-*.parquet", _WORDS, _WORDS),
    "mlp": Part("concepts", "*/*.nc", (*_CONCEPTS, "resample_seed"), _CONCEPTS),
}
# without these in its settings, a part can be neither compared nor reported
NEEDED = {
    "attribution": {"format", "max_new_tokens", "levels", "threshold", "p", "seed"},
    "attention": {*_WORDS, "seed"},
    "mlp": {*_CONCEPTS, "seed"},
}


def parts_of(identity: Mapping[str, Any]) -> list[str]:
    """The parts that a study has, by what its identity names."""
    return [name for name in PROBES if any(key in identity for key in PARTS[name].identity)]


def layers_wanted(study: Mapping[str, Any], part: str) -> int:
    """How many layers a part of a study is to probe: none where the study does not have that part."""
    layers = study["models"]["base"].get("layers") if part in parts_of(study["identity"]) else None
    return layers if isinstance(layers, int) else 0


def without(study: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The study as if these parts had never been asked for."""
    identity, settings = dict(study["identity"]), dict(study["settings"])
    for name in names:
        for key in PARTS[name].identity:
            identity.pop(key, None)
        for key in PARTS[name].settings:
            settings.pop(key, None)
    kept = dict(study) | {"identity": identity, "settings": settings}
    return kept | ({"prompts": 0} if "attribution" in names else {})


def differences(held: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """What keeps two identities from being those of one study; parts that only one of them has do not."""
    alone = set(parts_of(held)) ^ set(parts_of(asked))
    free = {key for name in alone for key in PARTS[name].identity}
    return [
        f"{name}: {held.get(name)!r} there, {asked.get(name)!r} here"
        for name in {**asked, **held}
        if name not in free and held.get(name) != asked.get(name)
    ]


def joined(held: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked now, together with the parts that only the held study has."""
    both = {name: {**held[name], **asked[name]} for name in ("identity", "settings")}
    kept = {"prompts": asked["prompts"] or held["prompts"]}
    return {**asked, **both, **kept}
