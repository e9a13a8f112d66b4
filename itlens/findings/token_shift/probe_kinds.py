"""What kind of token each token of a response is, by its characters and the word that it is part of.

The first that applies:
1. end of text  the token that ended the response
2. format       it holds a line break or nothing but white space, or marks up what follows: signs of Markdown, and
                bullets, dashes, numbers ("2.") and quotes at the beginning of a line
3. function word, 4. content word: letters or digits; function words are the closed classes of English (articles,
                pronouns, prepositions, conjunctions, auxiliaries, particles), whatever their case, contractions
                included. A piece of a word has the kind of the whole word. Words of other languages count as content
5. punctuation  the rest
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

Kind: TypeAlias = Literal["function word", "content word", "punctuation", "format", "end of text"]
TOKEN_KINDS: tuple[Kind, ...] = get_args(Kind)

_CLOSED = """
a an the this that these those each every either neither both all any some no none another other others such
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
it its itself they them their theirs themselves one oneself who whom whose which what whoever whatever whichever
somebody someone something anybody anyone anything nobody nothing everybody everyone everything
of in on at by for from to with without within into onto upon about above below under over between among through during
before after since until till against along across around behind beside besides beyond near off out up down toward
towards via per despite except like unlike than as
and or but nor so yet if unless because although though while whereas whether when where why how
be am is are was were been being have has had having do does did doing done will would shall should can could may might
must ought cannot not there here then too also very just only even still again
s t d ll m re ve n don doesn didn isn aren wasn weren won wouldn shouldn couldn hasn haven hadn ain mustn needn shan
"""  # single letters and "don" are what apostrophes leave of contractions
FUNCTION_WORDS = frozenset(_CLOSED.split())
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_MARKS = frozenset("*#`|_~=>+-\u2022\u00b7\u2013\u2014\u25aa\u25cf")
_MARKDOWN = frozenset("*#`|_~")  # wherever they stand
_NUMBER = re.compile(r"\(?\d{1,3}[.)]?")


def token_kinds(text: str, ranges: Sequence[tuple[int, int]], *, ended: bool = False) -> list[Kind]:
    """Return the kind of each token of a response.

    text: the response. ranges: the characters of it that each token stands for. ended: one more token ends the text.
    """
    words = [(match.start(), match.end(), match.group()) for match in _WORD.finditer(text)]
    kinds = [_kind(text, start, stop, words) for start, stop in ranges]
    return [*kinds, "end of text"] if ended else kinds


def _kind(text: str, start: int, stop: int, words: Sequence[tuple[int, int, str]]) -> Kind:
    core = text[start:stop].strip()
    if not core or "\n" in text[start:stop]:
        return "format"
    first = start + text[start:stop].index(core)
    begins_line = not text[text.rfind("\n", 0, first) + 1 : first].strip()
    if not any(letter.isalnum() for letter in core):
        marks = {*core} <= _MARKDOWN or (begins_line and {*core} <= _MARKS)
        numbers = core[0] in ".)" and _numbers_line(text, first)
        return "format" if marks or numbers else "punctuation"
    if _NUMBER.fullmatch(core) and begins_line and text[first + len(core.rstrip(".)")) :][:1] in (".", ")"):
        return "format"
    word = next((word for begin, end, word in words if begin < stop and end > first), core)
    parts = re.split(r"['\u2019]", word.lower())
    return "function word" if all(part in FUNCTION_WORDS for part in parts) else "content word"


def _numbers_line(text: str, place: int) -> bool:
    """Whether the sign at `place` follows a number at the beginning of its line: that of "2." in a list."""
    before = text[text.rfind("\n", 0, place) + 1 : place].strip()
    return bool(before) and _NUMBER.fullmatch(before) is not None
