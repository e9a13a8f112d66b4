"""Whether two models can be compared: their shapes, vocabularies and tokenizers, from configs and tokenizers alone.

Results are aligned by layer, head and the characters of the prompt, so the two must have the same shape and read the
same text as the same ids. What differs without touching that is reported, not refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itlens.errors import PairError
from itlens.models.architectures import cfg_facts, config_facts
from itlens.models.checkpoint import resolve_tokenizer
from itlens.models.locate import locate, read_config
from itlens.models.source import object_fingerprint, place_fingerprint, source_of
from itlens.prompts.templates import unannounced_turn
from itlens.tokenization import front_tokens

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
    """One model of a pair, as far as it is known without its weights."""

    which: str
    name: str
    facts: dict[str, Any]
    tokenizer: Any
    revision: str

    @classmethod
    def of(
        cls,
        which: str,
        model: Any,
        *,
        adapter: str | Path | None = None,
        tokenizer: Any = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
    ) -> Side:
        """Make it from a name, a path or a loaded model."""
        if isinstance(model, (str, Path)):
            place = locate(model, revision=revision)
            config = read_config(place, trust_remote_code=trust_remote_code)
            own = resolve_tokenizer(tokenizer, place, trust_remote_code=trust_remote_code)
            return cls(which, str(model), config_facts(config), own, place_fingerprint(place, adapter))
        mark = f"+{adapter}" if adapter is not None else ""
        if hasattr(model, "hook_dict"):
            source = source_of(model)
            own = source.tokenizer if tokenizer is None else resolve_tokenizer(tokenizer, None)
            return cls(which, source.name, cfg_facts(model.cfg), own, source.revision + mark)
        own = resolve_tokenizer(tokenizer, None)
        return cls(which, type(model).__name__, config_facts(model.config), own, object_fingerprint(model) + mark)


@dataclass(frozen=True)
class PairReport:
    """Two comparable models: their shapes, and the differences that do not matter, a sentence each."""

    base: dict[str, Any]
    tuned: dict[str, Any]
    notices: tuple[str, ...] = ()


def compare_sides(base: Side, tuned: Side) -> PairReport:
    """Return the report on a comparable pair. Raises one PairError that names every difference that matters."""
    problems = _shapes(base, tuned)
    notices: list[str] = []
    if base.revision == tuned.revision:
        notices.append("both are the same weights: every difference will be zero")
    if base.tokenizer is None or tuned.tokenizer is None:
        problems += _sizes(base, tuned)
    else:
        problems += _readings(base, tuned)
        # embeddings padded or grown: harmless, since every ordinary token keeps its id
        notices += _sizes(base, tuned) + _added(base, tuned) + _habits(base, tuned)
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


def _sizes(base: Side, tuned: Side) -> list[str]:
    sizes = base.facts["vocabulary"], tuned.facts["vocabulary"]
    return [] if sizes[0] == sizes[1] else [f"vocabulary size {sizes[0]} and {sizes[1]}"]


def _readings(base: Side, tuned: Side) -> list[str]:
    """Return the tokens with two ids, and texts that become other ids."""
    ours, theirs = base.tokenizer.get_vocab(), tuned.tokenizer.get_vocab()
    moved = sorted((token for token, number in ours.items() if theirs.get(token, number) != number), key=ours.get)
    problems = [f"{len(moved)} tokens have other ids (such as {moved[0]!r})"] if moved else []
    texts = [text for text in _TEXTS if _ids(base.tokenizer, text) != _ids(tuned.tokenizer, text)]
    if texts:
        problems.append(f"the tokenizers read {len(texts)} of {len(_TEXTS)} texts as other ids (such as {texts[0]!r})")
    return problems


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _added(base: Side, tuned: Side) -> list[str]:
    ours, theirs = set(base.tokenizer.get_vocab()), set(tuned.tokenizer.get_vocab())
    notices = []
    for which, tokens in (("tuned", sorted(theirs - ours)), ("base", sorted(ours - theirs))):
        if tokens:
            names = ", ".join(map(repr, tokens[:8])) + (", ..." if len(tokens) > 8 else "")
            notices.append(f"{len(tokens)} tokens only in the {which} vocabulary: {names}")
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
