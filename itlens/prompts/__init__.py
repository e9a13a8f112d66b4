"""Prompts: texts whose instruction and context are marked by character ranges, and the ways to load and wrap them."""

from __future__ import annotations

from itlens.prompts.formats import Framed, format_prompts, frame_prompts
from itlens.prompts.loaders import PromptsLike, as_prompts, load_prompts, save_prompts
from itlens.prompts.prompt import Prompt

__all__ = [
    "Framed",
    "Prompt",
    "PromptsLike",
    "as_prompts",
    "format_prompts",
    "frame_prompts",
    "load_prompts",
    "save_prompts",
]
