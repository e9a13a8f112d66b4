"""What is asked of a study, checked before any weights are loaded: hours of work must not end in a wrong argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from itlens.errors import ProbeError, PromptError
from itlens.models.compatibility import Side
from itlens.probes.attribution import METHODS
from itlens.probes.gradient.objectives import objective_function
from itlens.prompts import Prompt, load_prompts
from itlens.study.parts import PROBES
from itlens.tokenization import encode


def asked_probes(probes: str | Sequence[str]) -> tuple[str, ...]:
    """The probes asked for, each once, in the order in which they run. Raises ProbeError for names there are not."""
    named = [probes] if isinstance(probes, str) else list(probes or ())
    unknown = [name for name in named if name not in (*PROBES, "all")]
    if unknown or not named:
        shown = ", ".join(map(repr, unknown)) or "(none)"
        raise ProbeError(f"Unknown probe {shown}; known are {', '.join(PROBES)} and all.")
    return PROBES if "all" in named else tuple(name for name in PROBES if name in named)


def refuse_unknown(executor: str, method: str, objective: str, labels: Sequence[str] | None) -> None:
    """Raise ProbeError for names of executors, methods and objectives that there are not, and for odd labels."""
    if executor != "local":
        raise ProbeError(f"Unknown executor {executor!r}; known is 'local' (this machine, one model at a time).")
    if method not in METHODS:
        raise ProbeError(f"Unknown method {method!r}; known are {', '.join(METHODS)}.")
    objective_function(objective)
    if labels is not None and (len(labels) != 2 or not all(isinstance(label, str) for label in labels)):
        raise ProbeError(f"labels is {labels!r}; expected two names, for the base and for the tuned model.")
    if labels is not None and (len({*labels}) < 2 or not all(label.strip() for label in labels)):
        raise ProbeError(f"labels is {list(labels)!r}; expected two different names that are not empty.")


def asked_prompts(prompts: str | Path | Iterable[Prompt], limit: int | None) -> list[Prompt]:
    """The prompts as they were written, each with an id and an instruction. Raises PromptError."""
    given = load_prompts(prompts, limit=limit) if isinstance(prompts, (str, Path)) else _listed(prompts)[:limit]
    if not given:
        raise PromptError('There are no prompts; give "builtin", a file, or a list of itlens.Prompt.')
    given = [prompt if prompt.id else prompt.replace(id=f"prompt-{n:04d}") for n, prompt in enumerate(given, start=1)]
    twice = [id for id, count in Counter(prompt.id for prompt in given).items() if count > 1]
    if twice:
        raise PromptError(f"Two prompts have the id {twice[0]!r}; give every prompt its own id.")
    bare = [prompt.id for prompt in given if not prompt.instruction]
    if bare:
        shown = ", ".join(bare[:5]) + (" ..." if len(bare) > 5 else "")
        raise PromptError(f'{len(bare)} prompts have no instruction ({shown}); add the field "instruction" to each.')
    return given


def _listed(prompts: Any) -> list[Prompt]:
    if isinstance(prompts, Prompt):
        return [prompts]
    if not isinstance(prompts, Iterable) or isinstance(prompts, Mapping):
        raise PromptError(
            f"prompts is a {type(prompts).__name__}; expected a file, a name, or a list of itlens.Prompt."
        )
    given = list(prompts)
    wrong = next((prompt for prompt in given if not isinstance(prompt, Prompt)), None)
    if wrong is not None:
        raise PromptError(f"prompts holds a {type(wrong).__name__}; expected itlens.Prompt objects.")
    return given


def refuse_long(prompts: Sequence[Prompt], sides: Mapping[str, Side], prepend_bos: bool | None) -> None:
    """Raise PromptError for a prompt (with its given response) that one of the models cannot read."""
    for which, side in sides.items():
        context = side.facts.get("context")
        if side.tokenizer is None or not context:
            continue
        for prompt in prompts:
            encoded = encode(side.tokenizer, prompt.text, prompt.response, prepend_bos=prepend_bos)
            length = len(encoded.ids) - bool(encoded.response_ids)
            room = context - (prompt.response is None)  # for the first token of the model's own response
            if length > room:
                raise PromptError(
                    f"Prompt {prompt.id!r} is {length} tokens long; the {which} model reads at most {context}"
                    f"{'' if length > context else ', so there is no room for a response'}: shorten it or leave it out."
                )
