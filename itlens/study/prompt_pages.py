"""The chapter of prompts of a comparison: texts and responses of the run folder, numbers and panels of findings.

Whose responses a folder holds depends on the study: both models' own; only one model's, on which both were read; or
none, where the prompts brought theirs. The chapter shows what there is, and says what there is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from itlens.errors import StoreError
from itlens.files import read_json
from itlens.findings import findings
from itlens.findings.base import SIDES, unit_of_prompt
from itlens.prompts import Prompt
from itlens.report.blocks import Panel
from itlens.report.environment import pieces
from itlens.report.prompts import PromptAnswer, PromptEntry, PromptNumber, PromptsChapter, numbers_by_prompt
from itlens.study.comparison import Comparison, plan_of
from itlens.study.failure import Failure, guarded
from itlens.study.folder import RunFolder
from itlens.study.index import State
from itlens.study.record import response_digest
from itlens.tokenization import Response

_ENDS = {
    "eos": "ended by itself",
    "length": "cut at the length limit",
    "empty": "empty: the model ended at once",
    "given": "given",
}


def prompts_chapter(comparison: Comparison, failed: list[Failure], first: Sequence[str] = ()) -> PromptsChapter | None:
    """Return the chapter; None for a study without prompts. failed: gets findings that could not be shown.
    first: prompts whose panels other parts of the page need."""
    prompts = comparison.prompts
    if not prompts:
        return None
    folder, study = RunFolder(comparison.out), comparison.study
    written = {side: _responses(folder, study, prompts, side) for side in SIDES}
    entries = [
        PromptEntry(prompt.id, prompt.group, list(pieces(prompt)), _answers(prompt, number, written))
        for number, prompt in enumerate(prompts)
    ]
    return PromptsChapter(
        entries,
        _numbers(comparison, failed),
        base=study["models"]["base"]["label"],
        tuned=study["models"]["tuned"]["label"],
        note=_note(prompts, written),
        panels=lambda id: _panels(comparison, id, failed),
        first=first,
    )


def _responses(
    folder: RunFolder, study: Mapping[str, object], prompts: Sequence[Prompt], side: str
) -> dict[int, Response]:
    """Return what a model answered, by the prompt's number; a response that is missing or damaged is left out."""
    found = {}
    for number, prompt in enumerate(prompts):
        if prompt.response is not None:
            continue
        file = folder.responses / side / f"{unit_of_prompt(number, prompt)}.json"
        if folder.index.state(file, response_digest(dict(study), side, number)) is not State.GOOD:
            continue
        try:
            found[number] = Response.from_json(read_json(file))
        except StoreError:  # the page is of what can be read
            continue
    return found


def _answers(prompt: Prompt, number: int, written: Mapping[str, Mapping[int, Response]]) -> dict[str, PromptAnswer]:
    if prompt.response is not None:
        return {"given": PromptAnswer(prompt.response)}
    return {
        side: PromptAnswer(responses[number].text, _ENDS.get(responses[number].finish, ""))
        for side, responses in written.items()
        if number in responses
    }


def _note(prompts: Sequence[Prompt], written: Mapping[str, Mapping[int, Response]]) -> str:
    """Say whose answers there are not, and why."""
    own = [number for number, prompt in enumerate(prompts) if prompt.response is None]
    if not own:
        return "The responses were given with the prompts; both models were read on them."
    with_any = [side for side in SIDES if written[side]]
    if not with_any:
        return "No model wrote a response in this study."
    if len(with_any) == 1:
        return f"Only the {with_any[0]} model wrote responses in this study; both models were read on them."
    counts = {side: len(own) - len(written[side]) for side in SIDES}
    missing = " and ".join(f"{count} of the {side} model" for side, count in counts.items() if count)
    return f"Responses that are not finished or cannot be read: {missing}." if missing else ""


def _numbers(comparison: Comparison, failed: list[Failure]) -> list[PromptNumber]:
    found: list[PromptNumber] = []
    for name, tables in comparison.tables.items():
        finding = findings()[name]
        plan = plan_of(finding, dict(comparison.study), comparison.prompts, comparison.tables)
        with guarded(name, "show", failed):
            table = finding.prompt_numbers(tables, plan)
            if table is not None:
                found += numbers_by_prompt(table, finding.topic or name)
    return found


def _panels(comparison: Comparison, id: str, failed: list[Failure]) -> list[Panel]:
    found: list[Panel] = []
    for name, tables in comparison.tables.items():
        if any(each.finding == name and each.stage == "show" for each in failed):
            continue
        with guarded(name, "show", failed):
            found += findings()[name].prompt_panels(tables, id)
    return found
