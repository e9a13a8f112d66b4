"""Text that somebody else wrote (tokens, prompts, model names) made visible, and safe in each place it is put.

A token may hold anything: markup, control characters, half of a surrogate pair, a right-to-left override. Two steps,
always in this order: `visible` gives every character a printable sign, then the escape of the place it goes to:
`html` for element text and attributes, `plotly` for plotly's own mark-up, `json_in_script` for data in a page.
(circuitsvis writes tokens as mark-up; assets/tokens.js hands it tokens that are text there too, and says how.)
"""

from __future__ import annotations

import html as _html
import unicodedata

_SIGNS = {"\n": "↵", "\t": "⇥"}
_JOINERS = "\u200c\u200d"  # they shape emoji and several scripts, and hide nothing
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp", "Co")  # private use: in no font


def with_signs(text: object) -> str:
    """`text` with a sign for each character that prints nothing or moves others: ↵ ⇥ <0x1F> ⟨U+202E⟩; spaces stay.

    Control characters are written as vocabularies write bytes: fonts rarely have their pictures (␟).
    """
    whole = str(text)
    return whole if whole.isprintable() else "".join(map(_sign, whole))


def _sign(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    if character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    return f"<0x{code:02X}>" if code < 0x80 else f"⟨U+{code:04X}⟩"


def html(text: object) -> str:
    """`text`, visible, as HTML element text or a quoted attribute."""
    return _html.escape(with_signs(text), quote=True)


def plotly(text: object) -> str:
    """`text`, visible, where plotly reads mark-up: `<b>`, entities, and `$...$` (typeset when a page has MathJax)."""
    return with_signs(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")


def json_in_script(text: str) -> str:
    """JSON text made safe inside a `<script>` element (`<` occurs in JSON only within strings)."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def short(text: object, length: int = 60) -> str:
    """`text` cut to `length` characters, with an ellipsis when something was cut."""
    whole = str(text)
    return whole if len(whole) <= length else whole[: length - 1].rstrip() + "…"
