"""`compare`: the same questions to a base and a tuned model, one model in memory at a time, into a run folder.

1. Check everything that can be checked without weights: findings, options, prompts, shapes and tokenizers of the pair,
lengths, the folder. 2. For each model in turn: compute what is not finished yet of every finding that reads one model,
unit by unit, and write each when it is done. 3. The same for findings that read both models on the same tokens.
4. Compare, and write tables, findings.json and the report.

`compare_own_responses` adds what each model's own responses give: with responses held equal, length and content of the
answers do not differ between the models, while the paper reads each model on its own answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from itlens.errors import ProbeError, PromptError
from itlens.files import visible
from itlens.findings import findings
from itlens.findings.base import SIDES, Finding, Plan
from itlens.models import load_pair
from itlens.models.compatibility import Side, compare_sides
from itlens.progress import Reporter, reporter
from itlens.prompts import Prompt
from itlens.prompts.control_tokens import control_token_notices
from itlens.study.comparison import Comparison, compared
from itlens.study.executors import executor_of
from itlens.study.folder import RunFolder, take_side
from itlens.study.lock import locked
from itlens.study.outcome import topic_of, write_outcome, write_page
from itlens.study.prompts import RESPONSES, Responses, StudyPrompts, refuse_unshared, study_prompts
from itlens.study.record import load_settings, prompt_ids, rendering_of, study_record
from itlens.study.request import checked_options, chosen_findings, option_records
from itlens.study.run import Run

OWN_RESPONSES = "own-responses"  # the folder of that comparison, in the run folder
_NUMBERS = {"seed": 0, "limit": 1, "max_new_tokens": 1}


def compare(
    base: Any,
    tuned: Any = None,
    prompts: str | Path | Iterable[Prompt] = "builtin",
    probes: str | Sequence[str] = "all",
    out: str | Path = "runs/comparison",
    resume: bool = True,
    executor: str = "local",
    *,
    ray_address: str | None = None,
    ray_cpus: int | None = None,
    adapter: str | Path | None = None,
    labels: tuple[str, str] | None = None,
    format: str = "raw",
    limit: int | None = None,
    max_new_tokens: int = 200,
    prepend_bos: bool | None = None,
    responses: Responses = "own",
    base_from: str | Path | None = None,
    tuned_from: str | Path | None = None,
    rendered_at: datetime | None = None,
    announce: Callable[[Any], None] | None = None,
    seed: int = 0,
    progress: bool | Reporter = True,
    **options: Any,
) -> Comparison:
    """Compare a pre-trained model with its tuned version, into a run folder with tables and `report.html`.

    base, tuned: whatever `load_model` takes; adapter: merged into the tuned model (tuned may then be left out).
    probes: a finding's name, several, or "all" (`itlens.findings()` lists them); those that read weights need no
    prompts. out: a new folder, or that of the same study, where everything finished is kept (resume=False computes it
    again), and to which a finding that was left out and more prompts can be added. labels: what to call the two models.

    prompts: "builtin", "demo", a JSONL or TSV file, or Prompts; every prompt needs an instruction. A prompt's own
    `response` is used where it has one. responses: "own": each model answers greedily with at most `max_new_tokens`
    tokens and is read on its own answer (the paper's way); "tuned" or "base": both are read on that model's answers, so
    that length and content of the answers do not differ. format: "raw", "chat" (the tuned tokenizer's template, for
    both models) or a text with {prompt}. prepend_bos: None keeps the tokenizer's own rule.

    base_from, tuned_from: a run folder with the same base (tuned) model, whose finished results of that model are taken
    over. rendered_at: the time that a chat template with a clock writes; default when the study was begun. announce:
    called before anything is loaded or sent with what a remote labeller will take, about (a `Cost`); what it raises
    stops all. seed: of intervals, permutations and random draws.

    executor: "local" (this process, one model at a time) or "ray": the units are computed on the workers of a Ray
    cluster (extra [ray]; docs/cluster.md), with the same results. ray_address: of the cluster ("host:port", "auto",
    "ray://host:port"); default RAY_ADDRESS, else one that runs on this machine, else one that is started for this run.
    ray_cpus: CPUs, and threads, of each worker; default 1.

    options: those of the findings (`itlens findings` and docs/command-line.md list them), such as method, levels,
    vocabulary, top_k, components or sample; and of `load_model` (device, dtype, backend, tokenizer, trust_remote_code,
    revision, check).

    Ctrl-C keeps every finished unit. Raises a subclass of ItlensError for anything wrong with the input. A finding that
    these models or prompts do not allow becomes a caveat; the others are computed all the same.
    """
    if isinstance(progress, Reporter):
        progress.opening("reading models and prompts")
    chosen = chosen_findings(probes)
    _refuse(labels, responses, {"seed": seed, "limit": limit, "max_new_tokens": max_new_tokens})
    checked = checked_options(chosen, options)
    open_executor = executor_of(executor, (base, tuned), ray_address, ray_cpus)
    pair = load_pair(base, tuned, adapter=adapter, **checked.load)
    models = {side: pair.side(side) for side in SIDES}
    report = compare_sides(models["base"], models["tuned"])
    folder, sources = RunFolder(out), {"base": base_from, "tuned": tuned_from}
    held = folder.held_study()
    read, said = None, list[str]()
    if any(finding.reads_prompts for finding in chosen):
        earlier = [held, *(RunFolder(source).held_study() for source in sources.values() if source is not None)]
        read = study_prompts(
            *(prompts, limit, format, models, max_new_tokens, prepend_bos, responses),
            held=next((ids for study in earlier if study and (ids := prompt_ids(study))), ()),
            rendered=rendered_at or next((moment for study in earlier if (moment := rendering_of(study))), None),
        )
        sides = {f"the {side} model": models[side].tokenizer for side in SIDES}
        report = replace(report, notices=(*report.notices, *control_token_notices(read.given, sides)))
        chosen, said = _readable(chosen, probes, read, models)
    common = {"seed": seed, **load_settings(dict(checked.load))}
    plans = {finding.name: _plan(checked.of[finding.name], models, read, seed, common) for finding in chosen}
    for finding in chosen:
        finding.check(plans[finding.name])
        cost = finding.cost(plans[finding.name])
        if announce is not None and cost is not None:
            announce(cost)
    pair.check_files()
    asked = study_record(models, labels, report, _records(chosen, plans), read, common, adapter)
    asked["notices"] += said
    before = {**asked, "findings": _records(chosen, plans, prompt_ids(held))} if held else None
    with folder.opened(asked, None if read is None else read.prompts, resume=resume, before=before) as study:
        units = {finding.name: list(finding.units(plans[finding.name])) for finding in chosen}
        folder.put_damaged_aside(units)
        for side, source in sources.items():
            if source is not None:
                take_side(side, source, folder, study, units)
        with reporter(progress) as tell:
            for sentence in said:
                tell.say(visible(sentence))
            failed = Run(pair, folder, study, chosen, plans, read, tell, open_executor).all_units()
        if failed and not folder.with_results(list(study["findings"])):
            raise failed[0].raised() from failed[0].error
        study = folder.note(study, folder.told) if folder.told else study
        with reporter(progress) as tell, tell.busy("writing tables and report"):
            comparison = compared(folder, study, failed)
            write_outcome(comparison)
    return comparison


def _readable(
    chosen: Sequence[Finding], probes: str | Sequence[str], read: StudyPrompts, models: Mapping[str, Side]
) -> tuple[list[Finding], list[str]]:
    """Return the findings that can read the prompts, and a sentence on those that cannot.

    Raises PromptError where one of these was asked for by its name.
    """
    of_pair = [finding.name for finding in chosen if finding.reads == "pair"]
    try:
        if of_pair:
            refuse_unshared(read.prompts, models, read.responses, read.prepend_bos)
    except PromptError as error:
        if "all" not in ([probes] if isinstance(probes, str) else probes) or len(of_pair) == len(chosen):
            raise PromptError(
                f"{str(error).removesuffix('.')}; or leave out the probes {', '.join(of_pair)}, which show both models "
                "the same tokens."
            ) from error
        return [finding for finding in chosen if finding.reads != "pair"], [f"Left out: {', '.join(of_pair)}. {error}"]
    return list(chosen), []


def _plan(
    options: Any, models: Mapping[str, Side], read: StudyPrompts | None, seed: int, common: Mapping[str, Any]
) -> Plan:
    facts = models["base"].facts
    return Plan(
        options=options,
        models=models,
        prompts=() if read is None else tuple(read.prompts),
        layers=tuple(range(int(facts.get("layers") or 0))),
        heads=int(facts.get("heads") or 0),
        seed=seed,
        settings={**common, **({} if read is None else read.settings)},
    )


def _records(chosen: Sequence[Finding], plans: Mapping[str, Plan], ids: Sequence[str] = ()) -> dict[str, Any]:
    """Return what study.json keeps of the findings. ids: as if there were these prompts only; empty: all."""
    found, known = {}, {*ids}
    for finding in chosen:
        plan = plans[finding.name]
        prompts = tuple(prompt for prompt in plan.prompts if prompt.id in known) if ids else plan.prompts
        found[finding.name] = _record(finding, replace(plan, prompts=prompts))
    return found


def _record(finding: Finding, plan: Plan) -> dict[str, dict[str, Any]]:
    records = option_records(finding, plan.options)
    follows = dict(finding.describe(plan))
    # what the result of one prompt depends on does not count the others
    of_unit = finding.describe(replace(plan, prompts=plan.prompts[:1])) if finding.by_prompt else follows
    return {
        "identity": {**records["identity"], **of_unit},
        "settings": {**records["settings"], **follows},
        "options": records["options"],
    }


def _refuse(labels: Any, responses: str, numbers: Mapping[str, Any]) -> None:
    """Raise ProbeError for what no study can do."""
    if responses not in RESPONSES:
        raise ProbeError(f"responses={responses!r}; expected one of {', '.join(RESPONSES)}.")
    if labels is not None and (len(labels) != 2 or not all(isinstance(label, str) for label in labels)):
        raise ProbeError(f"labels is {labels!r}; expected two names, for the base and for the tuned model.")
    if labels is not None and (len({*labels}) < 2 or not all(label.strip() for label in labels)):
        raise ProbeError(f"labels is {list(labels)!r}; expected two different names that are not empty.")
    for name, value in numbers.items():
        least = _NUMBERS[name]
        if value is None and name == "limit":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ProbeError(f"{name}={value!r}; expected a whole number of at least {least}.")


def compare_own_responses(comparison: Comparison, base: Any, tuned: Any, prompts: Any, **options: Any) -> Comparison:
    """Compare the findings of `comparison` whose answer depends on whose responses are read, on each model's own.

    The folder is `own-responses` in the run folder; the side that was read on its own responses before is taken over.
    Returns the comparison with a caveat that says what came out there. A finding that reads one model at a time on
    prompts, and is named first, stands for them: the others build on it.
    """
    known = findings()
    names = [name for name in comparison.verdicts if known[name].reads == "prompts" and not known[name].uses]
    if not names:
        return comparison
    options |= {"responses": "own", "base_from": comparison.out, "tuned_from": comparison.out}
    folder = RunFolder(comparison.out)
    with locked(folder.path):
        own = compare(base, tuned, prompts, names, Path(comparison.out) / OWN_RESPONSES, **options)
        notices = [_note(name, own) for name in names if name in own.verdicts]
        again = comparison.noted(folder.note(dict(comparison.study), notices))
        write_page(again)
    return again


def _note(name: str, own: Comparison) -> str:
    return (
        f"On each model's own responses, as in the paper ({topic_of(findings()[name])}): {own.verdicts[name].sentence} "
        f"See {OWN_RESPONSES}/report.html."
    )
