"""Prompts: texts whose instruction and context are marked by character ranges, and the ways to load and wrap them."""

from __future__ import annotations

from itlens.prompts.formats import Framed, format_prompts, frame_prompts
from itlens.prompts.loaders import PromptsLike, as_prompts, load_prompts, save_prompts
from itlens.prompts.prompt import Prompt
from itlens.prompts.texts import Texts, TextsLike, load_texts

__all__ = [
    "Framed",
    "Prompt",
    "PromptsLike",
    "Texts",
    "TextsLike",
    "as_prompts",
    "format_prompts",
    "frame_prompts",
    "load_prompts",
    "load_texts",
    "save_prompts",
]
