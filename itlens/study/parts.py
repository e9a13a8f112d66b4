"""The parts of a study, one per probe: what each was asked with, and when a folder's results are those of one study.

A study has any of these parts: attribution, attention (word pairs), mlp (feed-forward concepts), activation, patching,
faithfulness. A part can be added later: first the weights, which need no prompts, then what reads prompts. What is
common to all parts (the models, their precision) must be the same, and so must the settings of a part that has results
already. A part without results binds nobody. A name in an identity may belong to several parts: all that read prompts
read the same ones, in the same form. Its first name is a part's own, and tells that it was asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

PROBES = ("attribution", "attention", "mlp", "activation", "patching", "faithfulness")
READING = ("attribution", "activation", "patching", "faithfulness")  # the parts that need prompts
WHICH = ("base", "tuned")
_HELD = ("identity", "settings")


class Part(NamedTuple):
    """Where a part's results are, and which names in study.json are its own.

    results: the pattern of its files, within `folder`. identity: what its results depend on. settings: what it was
    asked with, its scoring included, which may change without computing anything again.
    """

    folder: str
    results: str
    identity: tuple[str, ...]
    settings: tuple[str, ...]


_READ = ("prompts", "format", "max_new_tokens", "prepend_bos")
_SAID = _READ[1:]  # of these, what people are told beside the number of prompts
_ASKED = ("method", "objective")
_WORDS = ("vocabulary", "vectors", "top_k")
_CONCEPTS = ("concept_vocabulary", "sides", "components", "concept_words", "resamples", "labeller", "labelled")
_PATCHED = ("patched_prompts", "patch_controls")
_DELETED = ("deletion_scores", "deletion_prompts", "deletion_steps", "deletion_draws")
PARTS = {
    "attribution": Part("attributions", "*/*.nc", (*_ASKED, *_READ), (*_ASKED, *_SAID, "levels", "threshold", "p")),
    "attention": Part("words", "*/layer-*.parquet", _WORDS, _WORDS),
    "mlp": Part("concepts", "*/*.nc", (*_CONCEPTS, "resample_seed"), _CONCEPTS),
    "activation": Part("activations", "**/*.nc", ("activation_summaries", *_READ), ("activation_summaries", *_SAID)),
    "patching": Part("patching", "*.nc", (*_PATCHED, "patch_seed", *_READ), (*_PATCHED, *_SAID)),
    "faithfulness": Part("faithfulness", "*/*.nc", (*_DELETED, "deletion_seed", *_READ), (*_DELETED, *_SAID)),
}
# without these in its settings, a part can be neither compared nor reported
NEEDED = {
    "attribution": {"format", "max_new_tokens", "levels", "threshold", "p", "seed"},
    "attention": {*_WORDS, "seed"},
    "mlp": {*_CONCEPTS, "seed"},
    "activation": {"format", "seed"},
    "patching": {*_PATCHED, "format", "seed"},
    "faithfulness": {*_DELETED, "format", "seed"},
}


def parts_of(identity: Mapping[str, Any]) -> list[str]:
    """The parts that a study has, by what its identity names."""
    return [name for name in PROBES if PARTS[name].identity[0] in identity]


def reads_prompts(identity: Mapping[str, Any]) -> bool:
    """Whether a part of the study needs prompts."""
    return any(name in READING for name in parts_of(identity))


def layers_wanted(study: Mapping[str, Any], part: str) -> int:
    """How many layers a part of a study is to probe: none where the study does not have that part."""
    layers = study["models"]["base"].get("layers") if part in parts_of(study["identity"]) else None
    return layers if isinstance(layers, int) else 0


def without(study: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The study as if these parts had never been asked for."""
    stay = [PARTS[name] for name in parts_of(study["identity"]) if name not in names]
    needed = {key for part in stay for key in (*part.identity, *part.settings)}
    gone = {key for name in names for key in (*PARTS[name].identity, *PARTS[name].settings)} - needed
    kept = {part: {key: value for key, value in study[part].items() if key not in gone} for part in _HELD}
    return {**study, **kept} | ({} if reads_prompts(kept["identity"]) else {"prompts": 0})


def differences(held: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """What keeps two identities from being those of one study; parts that only one of them has do not."""
    alone = set(parts_of(held)) ^ set(parts_of(asked))
    free = {key for name in alone for key in PARTS[name].identity if key not in held or key not in asked}
    return [
        f"{name}: {held.get(name)!r} there, {asked.get(name)!r} here"
        for name in {**asked, **held}
        if name not in free and held.get(name) != asked.get(name)
    ]


def joined(held: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked now, together with the parts that only the held study has."""
    both = {name: {**held[name], **asked[name]} for name in _HELD}
    kept = {"prompts": asked["prompts"] or held["prompts"]}
    return {**asked, **both, **kept}
