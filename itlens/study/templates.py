"""`compare_templates`: the same comparison without and with the chat template, and the 2 x 2 of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from itlens.errors import ProbeError
from itlens.models import load_pair
from itlens.prompts import Prompt
from itlens.prompts.formats import frame_prompts
from itlens.study.asked import asked_probes, asked_prompts
from itlens.study.parts import READING
from itlens.study.running import compare
from itlens.study.several import SeveralFolder
from itlens.study.several_pages import template_page
from itlens.study.template_comparison import STATES, TemplateComparison, open_templates

LOAD = ("device", "dtype", "backend", "tokenizer", "trust_remote_code", "revision", "check")


def compare_templates(
    base: Any,
    tuned: Any = None,
    prompts: str | Path | Iterable[Prompt] = "builtin",
    probes: str | Sequence[str] = "all",
    out: str | Path = "runs/template",
    resume: bool = True,
    *,
    adapter: str | Path | None = None,
    limit: int | None = None,
    **options: Any,
) -> TemplateComparison:
    """Tell what comes from the weights from what comes from the chat template (the tuned tokenizer's, for both models).

    Two comparisons, in `out`/off (the prompts as they are) and `out`/on (in the template), and over both the main
    effects of weights and template and their interaction, per statistic (`itlens.diff.template_effects`). What needs no
    prompts runs in off only. Everything else is as in `itlens.compare`, whose options these are, without format.

    Raises PromptError where the tuned tokenizer has no chat template, ProbeError for a format and for probes without
    attribution, and what `compare` raises.
    """
    if "format" in options:
        raise ProbeError("Both formats are compared, without and with the chat template; leave format out.")
    named = asked_probes(probes)
    if "attribution" not in named:
        raise ProbeError("Template against weights is told from attributions; add attribution to the probes.")
    load = {name: options[name] for name in LOAD if name in options}
    tokenizer = load_pair(base, tuned, adapter=adapter, **load).side("tuned").tokenizer
    given = asked_prompts(prompts, limit)
    framed = frame_prompts(given, "chat", tokenizer)
    folder = SeveralFolder(out, "template")
    folder.open({"frames": {one.prompt.id: [*one.body, one.cut] for one in framed}}, list(STATES))
    reading = tuple(name for name in named if name in READING)
    for state, asked, form in zip(STATES, (named, reading), ("raw", "chat"), strict=True):
        compare(base, tuned, given, asked, folder.path / state, resume, adapter=adapter, format=form, **options)
    found = open_templates(folder.path)
    folder.write(found.tables, template_page(found))
    return found
