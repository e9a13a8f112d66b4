"""The prompts of a study: as they were written, as the models read them, and what that reading depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from itlens.models.compatibility import Side
from itlens.prompts import Prompt, format_prompts
from itlens.study.asked import asked_prompts, refuse_long


class ReadPrompts:
    """given: the prompts as they were written. prompts: the same in the study's format. tokenizer: the tuned model's.

    format, max_new_tokens, prepend_bos: how every part of the study that needs prompts reads them.
    """

    def __init__(
        self, given: Sequence[Prompt], format: str, tokenizer: Any, max_new_tokens: int, prepend_bos: bool | None
    ) -> None:
        self.given, self.format, self.tokenizer = list(given), format, tokenizer
        self.prompts = format_prompts(given, format, tokenizer)
        self.max_new_tokens, self.prepend_bos = max_new_tokens, prepend_bos
        content = json.dumps([asdict(prompt) for prompt in self.prompts], sort_keys=True, default=str)
        digest = hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()[:16]
        front = "" if prepend_bos is None else prepend_bos
        self.settings: dict[str, Any] = {"format": format, "max_new_tokens": max_new_tokens, "prepend_bos": front}
        self.identity = {"prompts": f"{len(self.prompts)} (sha256 {digest})", **self.settings}

    @classmethod
    def of(
        cls,
        prompts: str | Path | Iterable[Prompt],
        limit: int | None,
        format: str,
        sides: Mapping[str, Side],
        max_new_tokens: int,
        prepend_bos: bool | None,
    ) -> ReadPrompts:
        """Load the prompts and check them against both models. Raises PromptError."""
        read = cls(asked_prompts(prompts, limit), format, sides["tuned"].tokenizer, max_new_tokens, prepend_bos)
        refuse_long(read.prompts, sides, prepend_bos)
        return read

    def sample(self, count: int, seed: int) -> list[int]:
        """The numbers (from 1, ascending) of `count` prompts drawn at random: all of them when there are fewer."""
        every = len(self.prompts)
        drawn = np.random.default_rng(seed).choice(every, size=min(count, every), replace=False)
        return sorted(int(number) + 1 for number in drawn)
