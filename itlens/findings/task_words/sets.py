"""Sets of words that stand for tasks: the built-in ones (itlens/data/task_words.tsv), or somebody's own.

The built-in sets are of the six tasks of Wu et al. 2024: daily, literary and professional writing, mathematics, coding
and translation; WordNet's words and words written by hand (`scripts/build_task_words.py`). A file of one's own is JSON,
{"name": ["word", ...], ...}, or text with a set in each line: the name, a colon, and words separated by spaces or
commas.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itlens.errors import ProbeError, StoreError
from itlens.files import read_bytes, read_json

BUILTIN = "builtin"
FEWEST = 10  # known words of a set
_FILE = Path(__file__).parents[2] / "data" / "task_words.tsv"
_EXPECTED = (
    'expected {"name": ["word", ...]} in a .json file, or a text file with a line "name: word word ..." for each set'
)


@dataclass(frozen=True)
class TaskSets:
    """Words by task. name: "builtin", the file's name, or "given". fingerprint: of names and words."""

    words: Mapping[str, tuple[str, ...]]
    name: str

    @property
    def fingerprint(self) -> str:
        """ "sha256:" and 16 hexadecimal digits."""
        held = json.dumps({task: list(words) for task, words in self.words.items()}, ensure_ascii=False)
        return f"sha256:{hashlib.sha256(held.encode()).hexdigest()[:16]}"

    def __repr__(self) -> str:
        return f"TaskSets({', '.join(f'{task} ({len(words)})' for task, words in self.words.items())})"


def loaded_task_sets(given: Any) -> TaskSets:
    """Return sets of words: "builtin", a file (see the module), a mapping of names to words, or `TaskSets`.

    Raises StoreError for a file that is missing or holds no sets, and ProbeError for anything else that holds none.
    """
    if isinstance(given, TaskSets):
        return given
    if isinstance(given, Mapping):
        return _checked(given, "given", "task_words", ProbeError)
    if not isinstance(given, (str, Path)):
        raise ProbeError(f"task_words is a {type(given).__name__}; expected builtin, a file, or words by name.")
    if str(given) == BUILTIN:
        return _builtin()
    path = Path(given)
    held = read_json(path) if path.suffix.lower() == ".json" else _lines(path)
    if not isinstance(held, Mapping):
        raise StoreError(f"{path} holds no sets of words; {_EXPECTED}.")
    return _checked(held, path.name, str(path), StoreError)


def _builtin() -> TaskSets:
    found: dict[str, tuple[str, ...]] = {}
    for line in _FILE.read_text(encoding="utf-8").splitlines()[1:]:
        task, _, words = line.split("\t")
        found[task] = (*found.get(task, ()), *words.split())
    return TaskSets(found, BUILTIN)


def _lines(path: Path) -> dict[str, list[str]]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StoreError(f"{path} is no UTF-8 text; {_EXPECTED}.") from error
    found: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, colon, words = line.partition(":")
        if not colon:
            raise StoreError(f"{path}, line {number} is {line[:40]!r}; expected a name, a colon, and words.")
        found.setdefault(name.strip(), []).extend(re.split(r"[\s,]+", words.strip()))
    return found


def _checked(held: Mapping[Any, Any], name: str, where: str, kind: type[ProbeError] | type[StoreError]) -> TaskSets:
    found = {}
    for task, words in held.items():
        if isinstance(words, str) or not isinstance(words, Sequence) or not all(isinstance(w, str) for w in words):
            raise kind(f"The set {task!r} of {where} is no list of words; {_EXPECTED}.")
        found[str(task)] = tuple(dict.fromkeys(word for word in words if word.strip()))
    if not found or any(not task.strip() for task in found):
        raise kind(f"{where} holds no sets of words, or one without a name; {_EXPECTED}.")
    return TaskSets(found, name)


def known_sets(sets: TaskSets, known: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the sets' words that are among the known ones: in the vocabulary, and known to the tokenizer.

    Built-in sets of fewer than FEWEST known words are left out. Raises ProbeError for such a set of one's own, and
    where no set is left.
    """
    there = set(known)
    found = {task: tuple(word for word in words if word in there) for task, words in sets.words.items()}
    small = [task for task, words in found.items() if len(words) < FEWEST]
    if small and sets.name != BUILTIN:
        task = small[0]
        raise ProbeError(
            f"The set {task!r} has {len(found[task])} known words (of {len(sets.words[task])}); expected at least "
            f"{FEWEST} that are in the vocabulary and known to the tokenizer: add words, or give vocabulary= with them."
        )
    kept = {task: words for task, words in found.items() if task not in small}
    if not kept:
        raise ProbeError(
            f"None of the built-in word sets has {FEWEST} words of this vocabulary; give your own sets (task_words=)."
        )
    return kept
