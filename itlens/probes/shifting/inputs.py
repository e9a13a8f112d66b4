"""What `activation_shift` is asked for, checked."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from itlens.errors import ProbeError, PromptError
from itlens.models.compatibility import PairReport
from itlens.probes.running.forced import Forced
from itlens.probes.running.pair_inputs import RESPONSES
from itlens.probes.shifting.record import KINDS


def asked_kinds(asked: Any) -> tuple[str, ...]:
    """The hooks= of a call, in the order of KINDS. Raises ProbeError for unknown ones."""
    single = isinstance(asked, str) or not isinstance(asked, Iterable)
    listed = (asked,) if single else tuple(asked)
    unknown = [kind for kind in listed if kind not in KINDS]
    if asked is None or not listed:
        raise ProbeError(f"hooks={asked!r}: nothing was asked; expected some of {', '.join(KINDS)}.")
    if unknown:
        near = get_close_matches(str(unknown[0]).lower(), KINDS, n=1)
        raise ProbeError(
            f"hooks={asked!r}: {unknown[0]!r} is unknown; expected some of {', '.join(KINDS)}"
            f"{f' (the nearest is {near[0]!r})' if near else ''}; for hook points of your own use "
            "itlens.activations(hooks=...)."
        )
    return tuple(kind for kind in KINDS if kind in listed)


def asked_order(responses: Any) -> tuple[str, str]:
    """Which model runs first: the one that generates, so that each is loaded once. Raises ProbeError."""
    if responses not in RESPONSES:
        raise ProbeError(f"responses={responses!r} is unknown; expected one of {', '.join(map(repr, RESPONSES))}.")
    return ("tuned", "base") if responses == "tuned" else ("base", "tuned")


def refuse_unreadable(prompts: list[Forced], report: PairReport) -> None:
    """Raise PromptError for what one of the two models cannot read, before hours are spent on the other."""
    vocabulary = min(report.base["vocabulary"], report.tuned["vocabulary"])
    context = min(report.base["context"], report.tuned["context"])
    for one in prompts:
        highest = max(*one.read, *one.targets)
        if highest >= vocabulary:
            raise PromptError(
                f"Prompt {one.id!r} holds token {highest}, but one of the two models has only {vocabulary} tokens; use "
                'format="raw" or another prompt.'
            )
        if len(one.read) > context:
            raise PromptError(
                f"Prompt {one.id!r} is {len(one.read)} tokens long with its response; one of the two models reads at "
                f"most {context}: shorten it."
            )


def said_responses(prompts: Any, read: list[Forced], asked: str) -> str:
    """Whose responses were read; "forced" where the caller brought tokens."""
    return "forced" if isinstance(prompts, (list, tuple)) and any(one is read[0] for one in prompts) else asked
