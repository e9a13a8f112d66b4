"""Whether a tokenizer reads text as its own tokenizer.json says.

transformers 5 rebuilds many tokenizers by the class that tokenizer_config.json names: vocabulary and merges come from
tokenizer.json, and how text is split, normalised and prefixed comes from the class. A model that was trained with
another splitting then reads other ids, and nothing says so. Here twenty texts are read by the tokenizers library from
the file itself. Where the two differ, the file is right: the tokenizer is loaded as the file says, and notes it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from itlens.errors import ModelError
from itlens.foreign import foreign
from itlens.models.locate import Located
from itlens.tokenization import Tokenizer

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "In 1987 there were 12345678 of 3.14159e-10, 1,234,567.89 and 007.",
    "2+2=4; 10% of 50 is 5; ½ + ¼",
    "  two spaces,   three, and a trailing one ",
    "\ta tab\tand a\nnew line\r\nand\n\nan empty one",
    "it's, don't, WE'LL, I'd've, o'clock",
    "UPPER lower CamelCase snake_case kebab-case",
    "Ça, c'est déjà vu; Größe, niño, Żółć, e\u0301",
    "Привет, мир! Καλημέρα. שלום مرحبا",
    "今天天气很好。日本語のテキスト。한국어 문장",
    "ภาษาไทย हिन्दी বাংলা",
    "🙂👍🏽 👩‍👩‍👧 🇫🇷 x² ≤ ∑ αβγ",
    "def add(a: int, b: int) -> int:\n    return a + b  # sum",
    "for (int i = 0; i < n; ++i) { x[i] *= 2; }",
    '<a href="b">&nbsp;</a> {"key": [1, 2, null]}',
    "https://example.org/a_b?c=d&e=%20f user@example.org",
    "...!!! ??? -- --- __init__ #hash @at $5 ~/path\\to",
    "“quoted” ‘single’ «guillemets» — dash – en…",
    "ﬁ ligature ①②③ ＦＵＬＬ width\u00a0nbsp\u200bzero",
    "a",
)


def as_its_file_says(tokenizer: Tokenizer, place: Located) -> Any:
    """Return the tokenizer, or the one that tokenizer.json describes where the two read a text as different ids.

    The latter says so in its `itlens_reading`. Raises ModelError for a file that is broken, or that transformers cannot
    load as it is.
    """
    path = place.folder / "tokenizer.json"
    if place.gguf is not None or not path.is_file() or not getattr(tokenizer, "is_fast", False):
        return tokenizer
    expected = _file_ids(path, path.stat().st_mtime_ns)
    other = _differing(tokenizer, expected)
    if not other:
        return tokenizer
    from transformers import PreTrainedTokenizerFast

    told = (
        f"{type(tokenizer).__name__}, the class that tokenizer_config.json names, reads {len(other)} of {len(TEXTS)} "
        f"texts as other ids than tokenizer.json (such as {other[0]!r})"
    )
    with foreign(ModelError, f"The tokenizer of {place.name} cannot be read from tokenizer.json"):
        plain: Any = PreTrainedTokenizerFast.from_pretrained(place.folder, local_files_only=True)
    if _differing(plain, expected):
        raise ModelError(f"{told}, and transformers cannot read {place.name} as the file says; pass tokenizer=.")
    plain.itlens_reading = f"{told}; the file is used"
    return plain


@lru_cache(maxsize=8)
def _file_ids(path: Path, changed: int) -> tuple[tuple[int, ...], ...]:
    """Return the ids of each text by the file alone; `changed` tells apart what one path held."""
    from tokenizers import Tokenizer

    with foreign(ModelError, f"The tokenizer file {path} cannot be read"):
        reader = Tokenizer.from_file(str(path))
        reader.no_padding()
        reader.no_truncation()
        return tuple(tuple(reader.encode(text, add_special_tokens=False).ids) for text in TEXTS)


def _differing(tokenizer: Tokenizer, expected: tuple[tuple[int, ...], ...]) -> list[str]:
    with foreign(ModelError, "The tokenizer cannot read a plain text"):
        read = [tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS]
    return [text for text, got, ids in zip(TEXTS, read, expected, strict=True) if got != ids]
