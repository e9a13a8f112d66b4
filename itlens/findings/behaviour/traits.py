"""What a response looks like from outside: numbers of its tokens and of its text, without any model.

1. LENGTH: generated tokens. 2. ENDED: whether the model ended it itself (an empty response was ended at once).
3. REPETITION: the share of the response's 4-grams of tokens that occurred in it before; 0 where there are fewer than
four tokens. 4. HAS_LIST: two lines or more that begin with a bullet or a number. 5. HAS_CODE: a fenced block, or two
lines or more that look like code (keywords of common languages at the beginning, or braces and semicolons at the end).
6. HAS_QUESTION: a sentence that ends with a question mark. 7. FIRST_WORDS: its first three words, in small letters.

What a response looks like is no measure of its quality.
"""

from __future__ import annotations

import re

import pandas as pd

from itlens.tokenization import Response

NUMBERS = ("length", "ended", "repetition", "has_list", "has_code", "has_question")
YES_OR_NO = ("ended", "has_list", "has_code", "has_question")  # 0 or 1
GIVEN = "given"  # the writer of a response that came with its prompt
_GRAM = 4
_OPENING = 3  # words
_ITEM = re.compile(r"^\s*(?:[-*•·–]|\(?\d{1,3}[.):]|\(?[a-zA-Z][.)])\s+\S")
_FENCE = "```"
_CODE = re.compile(
    r"^\s*(?:def |class |import |from \w[\w.]* import|#include|public |private |function |return\b|for \(|while \(|"
    r"if \(|print\(|var |let |const |SELECT |</?[a-z]+[^>]*>\s*$)|[;{}]\s*$"
)
_QUESTION = re.compile(r"\?(?:[\"')\]”’]*)(?:\s|$)")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def response_traits(response: Response | None, writer: str) -> pd.DataFrame:
    """Return one row: NUMBERS, first_words and writer.

    response: as generated; None for one that came with its prompt, of which nothing is measured (NaN). writer: the side
    that wrote it.
    """
    if response is None or response.source == GIVEN:
        row: dict[str, object] = dict.fromkeys(NUMBERS, float("nan"))
        return pd.DataFrame([row | {"first_words": "", "writer": GIVEN}])
    lines = response.text.splitlines()
    numbers = {
        "length": len(response.ids),
        "ended": response.finish in ("eos", "empty"),
        "repetition": repeated_share(response.ids),
        "has_list": sum(bool(_ITEM.match(line)) for line in lines) > 1,
        "has_code": _FENCE in response.text or sum(bool(_CODE.search(line)) for line in lines) > 1,
        "has_question": bool(_QUESTION.search(response.text)),
    }
    words = _WORD.findall(response.text.lower())[:_OPENING]
    row = {name: float(value) for name, value in numbers.items()}
    return pd.DataFrame([row | {"first_words": " ".join(words), "writer": writer}])


def repeated_share(ids: tuple[int, ...]) -> float:
    """Return the share of the 4-grams that occurred before; 0 for fewer than four tokens."""
    grams = [ids[start : start + _GRAM] for start in range(len(ids) - _GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
