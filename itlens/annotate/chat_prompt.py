"""The prompt of the chat labeller, how many tokens it takes, and the strict way from an answer to a label.

An answer that is not exactly the JSON object of the prompt is no label (`parse`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from itlens.annotate.labels import CANNOT_TELL, LEVELS, TASKS, Label, top_words
from itlens.files import visible

_MEANING = {
    "daily": "everyday life: home, food, family, time, travel, small talk",
    "literary": "writing stories, poems and other literature",
    "professional": "business, law, politics, science, medicine, news, education",
    "mathematics": "numbers and solving problems of mathematics",
    "coding": "programs, computers and the web",
    "translation": "languages, countries, words of other languages",
    "phonology": "the words sound or are spelled alike",
    "morphology": "the words share a prefix, an ending or a stem",
    "syntax": "the words play the same grammatical part",
    "semantics": "the words share a topic or a meaning",
}

SYSTEM = f"""You read lists of words and say what the words of a list have in common.

Answer with one JSON object and nothing else. Its keys:
"agree": how many of the words share it, a whole number.
"description": what they share, in at most ten words; "{CANNOT_TELL}" when fewer than half of the words share anything.
"tasks": a list with every one of these that the shared topic is for; [] when it is for none:
{chr(10).join(f'  "{task}": {_MEANING[task]}' for task in TASKS)}
"level": the one of these that fits best:
{chr(10).join(f'  "{level}": {_MEANING[level]}' for level in LEVELS)}

Two examples.
Words: spoon, Fork, plate, kettle, is, cups, saucer, bowl
{{"agree": 7, "description": "things to eat and drink from", "tasks": ["daily"], "level": "semantics"}}
Words: lamp, whether, gravel, Tuesday, sing, of, narrow, Peru
{{"agree": 1, "description": "{CANNOT_TELL}", "tasks": [], "level": ""}}"""

ANSWER_TOKENS = 60  # of a usual answer
LONGEST_ANSWER = 300  # tokens, after which the server stops
_LETTERS_PER_TOKEN = 4.0
_FRAME = 8  # tokens that a chat template puts around two messages, about

_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)
_KEYS = {"agree", "description", "tasks", "level"}
_LONGEST = 200  # characters of a description


@dataclass(frozen=True)
class Cost:
    """What labelling takes: requests, answers that the cache already has, and tokens sent and received, about."""

    calls: int
    cached: int
    tokens_in: int
    tokens_out: int

    def __str__(self) -> str:
        if not self.calls:
            return f"no requests: all {self.cached} answers are in the cache"
        return (
            f"{self.calls} requests ({self.cached} more are in the cache), about {self.tokens_in} tokens to send and "
            f"{self.tokens_out} to receive"
        )


def messages(words: Sequence[str]) -> list[dict[str, str]]:
    """Return the two messages of one request. Raises AnnotateError for anything but a list of words."""
    listed = ", ".join(" ".join(word.split()) for word in top_words(words))
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"Words: {listed}"}]


def tokens_about(request: list[dict[str, str]]) -> int:
    """Return the tokens of the messages, by the rule of thumb of four letters a token: no tokenizer is loaded."""
    return round(sum(len(message["content"]) for message in request) / _LETTERS_PER_TOKEN) + _FRAME


def parse(answer: str, words: int) -> Label | None:
    """Return the label in an answer about `words` words; None where it is not the requested JSON object.

    The object may be in a Markdown fence, with nothing around it. `Label.unknown` where the model says so, or counts
    fewer than half of the words.
    """
    fenced = _FENCE.fullmatch(answer)
    try:
        content = json.loads(fenced.group(1) if fenced else answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or set(content) != _KEYS:
        return None
    if not (_is_count(content["agree"], words) and _is_text(content["description"]) and _are_tasks(content["tasks"])):
        return None
    description = " ".join(visible(content["description"]).split())
    if description.rstrip(".").lower() == CANNOT_TELL or 2 * content["agree"] < words:
        return Label.unknown
    if content["level"] not in LEVELS:  # it may be anything where the model cannot tell
        return None
    tasks = tuple(task for task in TASKS if task in content["tasks"])
    return Label(description, tasks, content["level"], content["agree"] / words)


def _is_count(value: object, words: int) -> bool:
    return type(value) is int and 0 <= value <= words


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= _LONGEST


def _are_tasks(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(task, str) and task in TASKS for task in value)
