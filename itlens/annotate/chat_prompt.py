"""What a chat model is asked, and how long that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from itlens.annotate.labels import CANNOT_TELL, LEVELS, TASKS, top_words

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


@dataclass(frozen=True)
class Cost:
    """What labelling will take: requests to send, answers that the cache has, and tokens sent and received, about."""

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
    """The two messages of one request. Raises AnnotateError for anything but a list of words."""
    listed = ", ".join(" ".join(word.split()) for word in top_words(words))
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"Words: {listed}"}]


def tokens_about(asked: list[dict[str, str]]) -> int:
    """Tokens of the messages, by the rule of thumb of four letters a token: no tokenizer is loaded for it."""
    return round(sum(len(message["content"]) for message in asked) / _LETTERS_PER_TOKEN) + _FRAME
