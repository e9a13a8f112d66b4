"""What a reader must know before believing the figures of the running models, a sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from itlens.probes.deletion.numbers import LEAST_GAP
from itlens.study.parts import parts_of

if TYPE_CHECKING:
    from itlens.study.comparison import Comparison

_PARTS = ("activation", "patching", "faithfulness")


def running_notes(comparison: Comparison) -> list[str]:
    """Parts that are not finished, prompts left out, and what the probes themselves say."""
    found: dict[str, Any] = {name: getattr(comparison, name) for name in _PARTS}
    asked = parts_of(comparison.study["identity"])
    notes = [
        f"The part {name!r} is not finished; run the same comparison to go on."
        for name in _PARTS
        if name in asked and found[name] is None
    ]
    notes += _left_out(comparison) + _whose(comparison)
    if (patching := comparison.patching) is not None and patching.patched.attrs.get("note"):
        notes.append(f"Of patching: {patching.patched.attrs['note']}.")
    return notes + _faithful(comparison.study, comparison)


def _left_out(comparison: Comparison) -> list[str]:
    """Prompts that neither model was read on."""
    if comparison.activation is None:
        return []
    read, every = comparison.activation.base.sizes["prompt"], len(comparison.prompts)
    if read == every:
        return []
    return [f"Activations are of {read} of {every} prompts: the tuned model's response to the others is empty."]


def _whose(comparison: Comparison) -> list[str]:
    """Who wrote what both models read."""
    if comparison.activation is None or all(prompt.response for prompt in comparison.prompts):
        return []
    return [
        "Activations and patching read the tuned model's own responses with both models: whatever says how likely they "
        "are (logit lens, log-probability) favours the tuned model by construction."
    ]


def _faithful(study: Mapping[str, Any], comparison: Comparison) -> list[str]:
    if comparison.faithfulness is None:
        return []
    used, asked = int(comparison.faithfulness.table["n"].min()), int(study["settings"]["deletion_prompts"])
    if used == asked:
        return []
    return [
        f"Faithfulness is told from {used} of the {asked} prompts drawn for it: of the others a response is empty or "
        f"not finished, or removing the whole prompt lowers it by less than {LEAST_GAP:g} nats."
    ]
