"""Labels for lists of words: a description, the users' tasks that it serves, and a linguistic level.

A labeller is a function of a list of words. `lexicon()` needs neither network nor model; `chat(model)` asks a server.
Names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.lazy import lazy_names

_HOME = {
    "LEVELS": "itlens.annotate.labels",
    "TASKS": "itlens.annotate.labels",
    "Label": "itlens.annotate.labels",
    "Labeller": "itlens.annotate.labels",
    "annotate_concepts": "itlens.annotate.concept_labels",
    "chat": "itlens.annotate.chat_labels",
    "lexicon": "itlens.annotate.lexicon_labels",
}

__all__ = [
    "LEVELS",
    "TASKS",
    "Label",
    "Labeller",
    "annotate_concepts",
    "chat",
    "lexicon",
]


__getattr__, __dir__ = lazy_names(__name__, _HOME)

if TYPE_CHECKING:
    from itlens.annotate.chat_labels import chat
    from itlens.annotate.concept_labels import annotate_concepts
    from itlens.annotate.labels import LEVELS, TASKS, Label, Labeller
    from itlens.annotate.lexicon_labels import lexicon
