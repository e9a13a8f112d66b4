"""Whether two models can be compared: their shapes, vocabularies and tokenizers, from configs and tokenizers alone.

Results are aligned by layer, head and the characters of the prompt, so the two must have the same shape and read the
same text as the same ids. What differs without touching that is reported, not refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from itlens.errors import PairError
from itlens.models.adapter import Adapter, Fit, fit, never_trained, read_adapter
from itlens.models.architectures import cfg_facts, config_facts
from itlens.models.checkpoint import read_model_config, resolve_tokenizer, unused_weights
from itlens.models.given import ModelRecipe
from itlens.models.locate import locate, split_revision
from itlens.models.precision import HALF
from itlens.models.source import object_fingerprint, place_fingerprint, source_of
from itlens.models.traits import (
    Settings,
    different,
    processing_of,
    rounding,
    settings_as_written,
    settings_of_cfg,
    settings_of_config,
    stored_names,
    stored_precision,
)
from itlens.prompts.templates import unannounced_turn
from itlens.tokenization import Tokenizer, TokenizerLike, front_tokens

_SHAPE = ("architecture", "layers", "heads", "key_value_heads", "d_model", "d_head", "d_mlp")
_WORDS = {"key_value_heads": "key-value heads", "d_model": "d_model", "d_head": "head size", "d_mlp": "d_mlp"}
_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Translate the sentence into French: it's 25 degrees, isn't it?",
    "  two spaces,\ta tab\nand a new line\n\n",
    "def add(a: int, b: int) -> int:\n    return a + b  # 3.14159e-10",
    "Ça, c'est déjà vu; Größe, niño, Żółć.",
    "Привет, мир! Καλημέρα. שלום",
    "今天天气很好。日本語のテキスト。",
    "🙂👍🏽 x² ≤ ∑ αβγ",
    "https://example.org/a_b?c=d&e=%20f",
    "UPPER lower CamelCase snake_case 1,234,567.89",
)


@dataclass(frozen=True)
class Side:
    """One model of a pair, as far as it is known without its weights.

    rotary, settings: what the config determines beside the shape; written: the same two under the names of a Hugging
    Face config. stored: the precision of its files; processing: what TransformerLens did to the weights of a model
    given as an object. notices: what is to know of this side alone.
    """

    which: str
    name: str
    facts: dict[str, Any]
    tokenizer: Any  # a `Tokenizer`, or None
    revision: str
    rotary: Settings = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)
    written: tuple[Settings, Settings] | None = None
    stored: str = ""
    processing: str = ""
    notices: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        which: str,
        model: Any,
        *,
        adapter: str | Path | None = None,
        tokenizer: TokenizerLike = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        dtype: str | torch.dtype = "float32",
    ) -> Side:
        """Make it from a name, a path or a loaded model. dtype: the precision it will be loaded in."""
        if hasattr(model, "hook_dict"):
            return _of_hooked(which, model, adapter, tokenizer)
        if isinstance(model, ModelRecipe):
            made: Side = model.side(which)
            return made
        read = read_adapter(adapter) if adapter is not None else None
        if isinstance(model, (str, Path)):
            place = locate(model, revision=revision)
            name, mark = str(model), place_fingerprint(place, adapter)
            config = read_model_config(place, trust_remote_code=trust_remote_code)
            own = resolve_tokenizer(tokenizer, place, adapter=read, trust_remote_code=trust_remote_code)
            stored, notices = (
                stored_precision(place),
                [f"{which}: {text}" for text in unused_weights(stored_names(place))],
            )
        else:
            name, config = type(model).__name__, model.config
            mark = object_fingerprint(model) + (f"+{adapter}" if adapter is not None else "")
            own = resolve_tokenizer(tokenizer, None, adapter=read)
            stored, notices = str(model.dtype).removeprefix("torch."), []
        facts = config_facts(config)
        if read is not None:
            found = fit(read, config, name, trust_remote_code=trust_remote_code)
            facts["vocabulary"] = found.vocabulary
            notices += adapter_notices(read, found, [name, str(getattr(config, "_name_or_path", ""))], dtype)
        rotary, settings = settings_of_config(config)
        written = settings_as_written(config)
        return cls(which, name, facts, own, mark, rotary, settings, written, stored, notices=tuple(notices))


def _of_hooked(which: str, model: Any, adapter: str | Path | None, tokenizer: TokenizerLike) -> Side:
    """Return the side of a HookedTransformer or TransformerBridge."""
    mark = f"+{adapter}" if adapter is not None else ""
    source = source_of(model)
    own = source.tokenizer if tokenizer is None else resolve_tokenizer(tokenizer, None)
    wrapped = getattr(model, "original_model", None)  # of a bridge: Hugging Face's model
    rotary, settings = settings_of_cfg(model.cfg) if wrapped is None else settings_of_config(wrapped.config)
    written = settings_as_written(wrapped.config) if wrapped is not None else None
    facts, mark, processing = cfg_facts(model.cfg), source.revision + mark, processing_of(model)
    return Side(which, source.name, facts, own, mark, rotary, settings, written, processing=processing)


def adapter_notices(adapter: Adapter, found: Fit, names: list[str], dtype: str | torch.dtype) -> list[str]:
    """Return what is to know of an adapter on a model of these names, a sentence each."""
    notices = []
    if adapter.base and Path(adapter.base).name.lower() not in {
        Path(split_revision(name)[0]).name.lower() for name in names
    }:
        notices.append(
            f"the adapter {adapter.name} names {adapter.base} as its base, and is merged into {names[0]}: with other "
            "weights than those it was trained on, it is no model that anybody trained"
        )
    if found.idle and len(found.idle) == len(found.modules):
        notices.append(never_trained(adapter.name))
    elif found.idle:
        notices.append(
            f"the adapter {adapter.name} changes nothing in {len(found.idle)} of the {len(found.modules)} modules that "
            f"it selects (B = 0; such as {found.idle[0]})"
        )
    kind = str(dtype).removeprefix("torch.")
    if kind in {str(half).removeprefix("torch.") for half in HALF}:
        notices.append(
            f"the adapter {adapter.name} is merged in float32 and then rounded to {kind}: updates of less than half a "
            f"step of a weight are lost, and read as no change; dtype float32 keeps them"
        )
    return notices


@dataclass(frozen=True)
class PairReport:
    """Two comparable models: their shapes, and the differences that do not matter, a sentence each."""

    base: dict[str, Any]
    tuned: dict[str, Any]
    notices: tuple[str, ...] = ()


def compare_sides(base: Side, tuned: Side) -> PairReport:
    """Return the report on a comparable pair. Raises one PairError that names every difference that matters."""
    problems = _shapes(base, tuned) + _processed(base, tuned)
    notices: list[str] = [*base.notices, *tuned.notices]
    if base.revision == tuned.revision:
        notices.append("both are the same weights: every difference will be zero")
    if base.tokenizer is None or tuned.tokenizer is None:
        problems += _sizes(base, tuned)
    else:
        problems += _readings(base, tuned)
        # embeddings padded or grown: harmless, since every ordinary token keeps its id
        notices += _sizes(base, tuned) + _added(base, tuned) + _split(base, tuned) + _habits(base, tuned)
    notices += _computed(base, tuned)
    if problems:
        raise PairError(
            f"{base.name} (base) and {tuned.name} (tuned) cannot be compared: {'; '.join(problems)}. "
            "Give a base model and a tuned model that was trained from it."
        )
    return PairReport(base.facts, tuned.facts, tuple(notices))


def _shapes(base: Side, tuned: Side) -> list[str]:
    return [
        f"{_WORDS.get(key, key)} {base.facts[key]} and {tuned.facts[key]}"
        for key in _SHAPE
        if base.facts[key] != tuned.facts[key]
    ]


def _processed(base: Side, tuned: Side) -> list[str]:
    if base.processing == tuned.processing:
        return []
    ways = [side.processing or "as in the checkpoint" for side in (base, tuned)]
    return [
        f"weights {ways[0]} and weights {ways[1]} (the same function would show differences in every weight and "
        "stream; load both with itlens.load_model, or both with the same processing)"
    ]


def _computed(base: Side, tuned: Side) -> list[str]:
    """Return what differs in how the two compute with their weights, and in how these are stored."""
    notices = []
    rotary, other = different_settings(base, tuned)
    if rotary:
        notices.append(
            f"rotary positions differ ({'; '.join(rotary)}): with equal weights the two attend to other positions, so "
            "differences in attribution, activation and patching are not those of training alone"
        )
    if other:
        notices.append(
            f"settings of the configs differ ({'; '.join(other)}): with equal weights the two compute other outputs, "
            "so what differs is not training alone"
        )
    stored = rounding((base.stored, tuned.stored))
    return notices if stored is None else [*notices, stored]


def different_settings(base: Side, tuned: Side) -> tuple[list[str], list[str]]:
    """Return the rotary positions and the other settings in which two models differ, each with both values."""
    first, second = (base.rotary, base.settings), (tuned.rotary, tuned.settings)
    if base.written and tuned.written and (first == base.written or second == tuned.written):
        first, second = base.written, tuned.written  # HookedTransformer has no names for one of the two
    return different(first[0], second[0]), different(first[1], second[1])


def _sizes(base: Side, tuned: Side) -> list[str]:
    sizes = base.facts["vocabulary"], tuned.facts["vocabulary"]
    return [] if sizes[0] == sizes[1] else [f"vocabulary size {sizes[0]} and {sizes[1]}"]


def _readings(base: Side, tuned: Side) -> list[str]:
    """Return the tokens with two ids, and texts that become other ids."""
    ours, theirs = base.tokenizer.get_vocab(), tuned.tokenizer.get_vocab()
    moved = sorted(
        (token for token, number in ours.items() if theirs.get(token, number) != number), key=ours.__getitem__
    )
    problems = [f"{len(moved)} tokens have other ids (such as {moved[0]!r})"] if moved else []
    texts = [text for text in _TEXTS if _ids(base.tokenizer, text) != _ids(tuned.tokenizer, text)]
    if texts:
        problems.append(f"the tokenizers read {len(texts)} of {len(_TEXTS)} texts as other ids (such as {texts[0]!r})")
    return problems


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _added(base: Side, tuned: Side) -> list[str]:
    ours, theirs = set(base.tokenizer.get_vocab()), set(tuned.tokenizer.get_vocab())
    notices = []
    for which, tokens in (("tuned", sorted(theirs - ours)), ("base", sorted(ours - theirs))):
        if tokens:
            names = ", ".join(map(repr, tokens[:8])) + (", ..." if len(tokens) > 8 else "")
            notices.append(f"{len(tokens)} tokens only in the {which} vocabulary: {names}")
    return notices


def _split(base: Side, tuned: Side) -> list[str]:
    """Return a notice on special tokens of both vocabularies that only one of the two reads as one token."""
    both = {*base.tokenizer.get_vocab()} & {*tuned.tokenizer.get_vocab()}
    special = sorted({*base.tokenizer.get_added_vocab(), *tuned.tokenizer.get_added_vocab()} & both)
    notices = []
    for which, one, other in (("base", base, tuned), ("tuned", tuned, base)):
        tokens = [
            token for token in special if len(_ids(one.tokenizer, token)) == 1 < len(_ids(other.tokenizer, token))
        ]
        if tokens:
            names = ", ".join(map(repr, tokens[:8])) + (", ..." if len(tokens) > 8 else "")
            notices.append(
                f"only the {which} tokenizer reads {names} as one token: where a prompt or a chat template holds it, "
                "the two models read other tokens, and what differs there is the reading, not the training"
            )
    return notices


def _habits(base: Side, tuned: Side) -> list[str]:
    notices = []
    templates = [bool(side.tokenizer.chat_template) for side in (base, tuned)]
    if templates[0] != templates[1]:
        notices.append(f"only the {'base' if templates[0] else 'tuned'} tokenizer has a chat template")
    for side in (base, tuned):
        reading = getattr(side.tokenizer, "itlens_reading", "")
        if reading:
            notices.append(f"{side.which} tokenizer: {reading}")
        header = unannounced_turn(side.tokenizer)
        if header:
            notices.append(
                f"the chat template of the {side.which} model writes no generation prompt: with it, the model "
                f"has to write the assistant header {header!r} itself"
            )
    fronts = [side.tokenizer.convert_ids_to_tokens(front_tokens(side.tokenizer)) for side in (base, tuned)]
    if fronts[0] != fronts[1]:
        notices.append(
            f"special tokens in front: {fronts[0]} (base) and {fronts[1]} (tuned); prepend_bos= makes them the same"
        )
    ends = base.tokenizer.eos_token, tuned.tokenizer.eos_token
    if ends[0] != ends[1]:
        notices.append(f"end of text: {ends[0]!r} (base) and {ends[1]!r} (tuned)")
    return notices
