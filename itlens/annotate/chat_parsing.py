"""From a chat model's answer to a label, strictly: what is not exactly as asked is no label."""

from __future__ import annotations

import json
import re
from typing import Any

from itlens.annotate.labels import CANNOT_TELL, LEVELS, TASKS, Label
from itlens.files import visible

_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)
_KEYS = {"agree", "description", "tasks", "level"}
_LONGEST = 200  # characters of a description


def parse(answer: str, words: int) -> Label | None:
    """The label in an answer about so many words; None where the answer is not the JSON object that was asked for.

    The object may stand in a Markdown fence, and nothing may stand around it. `Label.unknown` where the model says
    so, or counts fewer than half of the words.
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


def _is_count(value: Any, words: int) -> bool:
    return type(value) is int and 0 <= value <= words


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= _LONGEST


def _are_tasks(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(task, str) and task in TASKS for task in value)
