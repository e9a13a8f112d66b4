"""Commands on a base and a tuned model: `itlens demo | compare | report`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from itlens.cli.options import (
    AdapterOption,
    Backend,
    BackendOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    NewTokensOption,
    ProbesOption,
    RemoteOption,
    Template,
    TopKOption,
    VectorsOption,
    VocabularyOption,
)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for results and report.")] = Path("runs/demo"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")] = None,
    probes: ProbesOption = "all",
    resume: Annotated[bool, typer.Option(help="Keep what is finished in --out.")] = True,
) -> None:
    """Compare the embedded pair on its own prompts; needs no network."""
    from itlens import demo as pair
    from itlens.cli.comparing import run_comparison

    # models of three million parameters only get slower with more threads; torch reads this when it is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_comparison(
        [str(pair.base_path()), str(pair.tuned_path())],
        "demo",
        out,
        probes=probes,
        limit=limit,
        resume=resume,
        max_new_tokens=16,
        labels=("demo base", "demo tuned"),
    )


def compare(
    base: Annotated[str, typer.Argument(help="The pre-trained model: hub id, folder or .gguf file.")],
    tuned: Annotated[
        list[str] | None,
        typer.Argument(help="Its tuned self, or several in order; may be left out with --adapter.", show_default=False),
    ] = None,
    prompts: Annotated[str, typer.Option(help="builtin, demo, or a .jsonl or .tsv file.")] = "builtin",
    out: Annotated[Path, typer.Option(help="Folder for results and report.")] = Path("runs/comparison"),
    probes: ProbesOption = "all",
    dtype: DtypeOption = Dtype.float32,
    device: DeviceOption = None,
    backend: BackendOption = Backend.hooked,
    adapter: AdapterOption = None,
    template: Annotated[
        Template | None, typer.Option(help="Chat template: off, on (for both models), or both: template x weights.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="What to call the models, by commas, in order.")] = None,
    prompt_format: Annotated[str, typer.Option("--format", help="raw, chat, or a text with {prompt}.")] = "raw",
    method: Annotated[
        str, typer.Option(help="input_x_gradient, saliency or integrated_gradients.")
    ] = "input_x_gradient",
    objective: Annotated[str, typer.Option(help="prob, logprob, logit or contrastive.")] = "prob",
    max_new_tokens: NewTokensOption = 200,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Derivatives at a time; default: by memory.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")] = None,
    vocabulary: VocabularyOption = "builtin",
    vectors: VectorsOption = "builtin",
    top_k: TopKOption = 100,
    side: Annotated[
        str, typer.Option(help="Whose concepts: value (what neurons write), key, gate (what they look for); by commas.")
    ] = "value,key",
    components: Annotated[int | None, typer.Option(min=1, help="Concepts of a layer; default: 300, or all.")] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Draws of neurons for the concepts' noise floor.")] = 10,
    concept_words: Annotated[int, typer.Option(min=1, help="Words kept of each concept.")] = 50,
    labelled: Annotated[int, typer.Option(min=1, help="Concepts of a layer that are labelled, by word lists.")] = 50,
    sample: Annotated[int, typer.Option(min=1, help="Prompts, drawn at random, for patching and faithfulness.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of intervals, permutations and random draws.")] = 0,
    resume: Annotated[bool, typer.Option(help="Keep what is finished in --out.")] = True,
    trust_remote_code: RemoteOption = False,
) -> None:
    """Compare two models (or a series of them), and write tables and report.html into --out."""
    from itlens.cli.comparing import run_comparison

    run_comparison(
        [base, *(tuned or [])],
        prompts,
        out,
        probes=probes,
        template=template.value if template is not None else None,
        labels=None if labels is None else tuple(name.strip() for name in labels.split(",")),
        dtype=dtype.value,
        device=device,
        backend=backend.value,
        adapter=adapter,
        format=prompt_format,
        method=method,
        objective=objective,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        limit=limit,
        vocabulary=vocabulary,
        vectors=vectors,
        top_k=top_k,
        sides=[name.strip() for name in side.split(",")],
        components=components,
        resamples=resamples,
        concept_words=concept_words,
        labelled=labelled,
        sample=sample,
        seed=seed,
        resume=resume,
        trust_remote_code=trust_remote_code,
    )


def report(folder: Annotated[Path, typer.Argument(help="A folder that `itlens compare` wrote.")]) -> None:
    """Write tables and report.html again, from what is finished in a run folder."""
    from itlens.cli.comparing import report_again

    report_again(folder)
