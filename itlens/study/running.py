"""`compare`: the same questions to a base and a tuned model, one model in memory at a time, into a run folder.

1. Check everything that can be checked without weights: probes, prompts, words, labeller, shapes and tokenizers of the
pair, lengths, the folder. 2. For each model in turn: attribute the prompts and probe the layers that are not finished
yet, and write each when it is done. 3. What needs both models on the same tokens. 4. Compare, write tables and report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from itlens.annotate import Labeller
from itlens.errors import ItlensError, ProbeError, PromptError
from itlens.models import ModelPair, load_pair
from itlens.models.compatibility import compare_sides
from itlens.progress import Reporter, reporter
from itlens.prompts import Prompt
from itlens.study.asked import asked_probes, refuse_unknown
from itlens.study.asked_concepts import AskedConcepts
from itlens.study.asked_words import asked_vocabulary
from itlens.study.attention_runs import AttentionRuns
from itlens.study.attribution_runs import AttributionRuns
from itlens.study.comparison import Comparison, compared
from itlens.study.folder import RunFolder
from itlens.study.mlp_runs import MlpRuns
from itlens.study.outcome import write_outcome
from itlens.study.pair_runs import finish, unfinished
from itlens.study.parts import READING, WHICH
from itlens.study.ranges import refuse_numbers
from itlens.study.read_prompts import ReadPrompts
from itlens.study.reading_runs import PairRuns, Runs, reading_runs
from itlens.study.same_tokens import SameTokens
from itlens.study.shared_base import take_base
from itlens.study.study_record import load_settings, study_record
from itlens.vocabulary import Vocabulary, WordVectors


def compare(
    base: Any,
    tuned: Any = None,
    prompts: str | Path | Iterable[Prompt] = "builtin",
    probes: str | Sequence[str] = "all",
    out: str | Path = "runs/comparison",
    resume: bool = True,
    executor: str = "local",
    *,
    adapter: str | Path | None = None,
    labels: tuple[str, str] | None = None,
    format: str = "raw",
    limit: int | None = None,
    max_new_tokens: int = 200,
    method: str = "input_x_gradient",
    objective: str = "prob",
    batch_size: int | None = None,
    prepend_bos: bool | None = None,
    levels: int = 10,
    threshold: int = 7,
    p: float = 4,
    vocabulary: str | Path | Vocabulary = "builtin",
    vectors: str | Path | WordVectors = "builtin",
    top_k: int = 100,
    sides: str | Sequence[str] = ("value", "key"),
    components: int | None = None,
    resamples: int = 10,
    concept_words: int = 50,
    labeller: str | Labeller = "lexicon",
    labelled: int = 50,
    announce: Callable[[Any], None] | None = None,
    sample: int = 16,
    base_from: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    **load: Any,
) -> Comparison:
    """Compare a pre-trained model with its tuned self, into a run folder with tables and `report.html`.

    base, tuned: whatever `load_model` takes; adapter: merged into the tuned model (tuned may then be left out).
    probes: "attribution" (what each prompt token does for the response), "attention" (which words each head relates),
    "mlp" (the concepts of feed-forward layers), "activation" (what runs through layers and heads while both models
    read the tuned model's responses), "patching" (how much of those responses each head carries), "faithfulness" (of
    the attributions), a list, or "all"; attention and mlp need no prompts. out: a new folder, or that of the same
    study, where everything finished is kept (resume=False computes it again) and a probe that was left out can be
    added. labels: how to call the two models.

    prompts: "builtin", "demo", a JSONL or TSV file, or Prompts; every prompt needs an instruction. A prompt's own
    `response` is used where it has one, else each model answers greedily with at most `max_new_tokens` tokens. format:
    "raw", "chat" (the tuned tokenizer's template, for both models) or a text with {prompt}. levels, threshold, p: of
    the importance density.

    vocabulary: the words of heads and concepts: "builtin", a text or TSV file, or a Vocabulary. vectors: tell which of
    them are related: "builtin", a file, or WordVectors. top_k: words per head dimension, as queries and as keys.

    sides: whose concepts: "value" (what neurons write), "key" and in gated layers "gate" (what they look for).
    components: of each layer, from high to low variance; default 300, or all there are. resamples: draws of neurons
    for the noise floor. concept_words: kept of each concept. labeller: "lexicon", `itlens.annotate.chat(...)`, or a
    function of a list of words that returns an `itlens.annotate.Label`. labelled: how many concepts of each layer are
    labelled, from the first. announce: called before anything is loaded or sent with what a chat labeller will take at
    most, about (a `Cost`: requests and tokens, no price); what it raises stops all.

    sample: how many prompts, drawn at random, patching and faithfulness run on: both take a hundred passes a prompt.

    base_from: a run folder with the same base model, whose finished results of the base are taken over.

    load: further arguments of `load_model` (device, dtype, backend, tokenizer, trust_remote_code, revision, check).

    Ctrl-C keeps every finished prompt and layer. Raises a subclass of ItlensError for anything wrong with the input.
    """
    named = asked_probes(probes)
    refuse_unknown(executor, method, objective, labels)
    refuse_numbers(levels=levels, threshold=threshold, p=p, seed=seed, limit=limit)
    refuse_numbers(max_new_tokens=max_new_tokens, batch_size=batch_size, top_k=top_k, components=components)
    refuse_numbers(resamples=resamples, concept_words=concept_words, labelled=labelled, sample=sample)
    pair = load_pair(base, tuned, adapter=adapter, **load)
    models = {which: pair.side(which) for which in WHICH}
    checked = compare_sides(models["base"], models["tuned"])
    read = None
    if {*READING} & {*named}:
        read = ReadPrompts.of(prompts, limit, format, models, max_new_tokens, prepend_bos)
    options = {"method": method, "objective": objective, "batch_size": batch_size}
    scoring = {"levels": levels, "threshold": threshold, "p": p}
    runs, of_pair = reading_runs(named, read, options, scoring, sample, seed)
    words = asked_vocabulary(vocabulary) if {"attention", "mlp"} & {*named} else vocabulary
    if "attention" in named:
        runs.append(AttentionRuns.of(words, vectors, top_k, models))
    if "mlp" in named:
        asked_concepts = AskedConcepts.of(words, sides, components, concept_words, models["base"])
        concepts = MlpRuns.of(asked_concepts, models["base"], resamples, seed, labeller, labelled)
        runs.append(concepts)
        if announce is not None and (cost := concepts.cost()) is not None:
            announce(cost)
    pair.check_files()
    asked = next((run for run in runs if isinstance(run, AttributionRuns)), None)
    prompts_asked = None if read is None else read.prompts
    common = {"seed": seed, **load_settings(load)}
    parts = [*([] if read is None else [read]), *runs, *of_pair]
    study = study_record(models, labels, checked, parts, len(prompts_asked or []), common, adapter)
    folder = RunFolder(out)
    with folder.opened(study, prompts_asked, resume=resume) as whole, reporter(progress) as tell:
        if base_from is not None:
            take_base(base_from, folder, study)
        for which in WHICH:
            _run(pair, which, runs, folder, tell)
            if which == "base" or not of_pair:
                pair.release(which)  # the tuned model is needed first, of what needs both
        if read is not None:
            failed = _run_pair(pair, SameTokens(pair, read, folder), of_pair, folder, tell)
            if failed and not folder.with_results():
                raise failed[0]
            folder.note(whole, [str(error) for error in failed])
    comparison = compared(folder, whole, prompts_asked, asked.found if asked else None)
    write_outcome(comparison)
    return comparison


def _run(pair: ModelPair, which: str, runs: Sequence[Runs], folder: RunFolder, tell: Reporter) -> None:
    """Do what is not finished for one model; a model that has nothing to do is not loaded."""
    todo = [(run, run.unfinished(folder, which)) for run in runs]  # also reads what is finished
    everything, left = sum(run.units(which) for run in runs), sum(len(numbers) for _, numbers in todo)
    tell.start(f"{which} model", everything - left, everything)
    if not left:
        return
    model = pair.base if which == "base" else pair.tuned
    for run, numbers in todo:
        for _ in run.run(model, folder, which, numbers) if numbers else ():
            tell.advance(f"{which} model")


def _run_pair(
    pair: ModelPair, tokens: SameTokens, runs: Sequence[PairRuns], folder: RunFolder, tell: Reporter
) -> list[ItlensError]:
    """Do what needs both models and is not finished; the errors of parts that these models or prompts do not allow.

    Such a part becomes a note of the study: hours of other parts must not be without tables and report for it.
    """
    failed: list[ItlensError] = []
    for run in runs:
        try:
            finish(run, unfinished(run, folder), pair, tokens, folder, tell)
        except (PromptError, ProbeError) as error:
            failed.append(error)
    for which in WHICH:
        pair.release(which)
    return failed
