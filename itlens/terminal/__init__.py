"""What the command line prints: results as tables and coloured text. No other part prints."""

from __future__ import annotations

from itlens.study.comparison import Comparison
from itlens.terminal.attribution import attribution_table, print_attribution, save_attribution
from itlens.terminal.comparison import print_comparison
from itlens.terminal.concepts import concept_table, print_concepts, save_concepts
from itlens.terminal.facts import print_facts
from itlens.terminal.selftest import print_selftest
from itlens.terminal.several import print_several
from itlens.terminal.words import head_table, print_words, save_words

__all__ = [
    "Comparison",
    "attribution_table",
    "concept_table",
    "head_table",
    "print_attribution",
    "print_comparison",
    "print_concepts",
    "print_facts",
    "print_selftest",
    "print_several",
    "print_words",
    "save_attribution",
    "save_concepts",
    "save_words",
]
