"""`compare`: the same prompts through a base and a tuned model, one model in memory at a time, into a run folder.

1. Check everything that can be checked without weights: probes, prompts, formats, shapes and tokenizers of the pair,
lengths, the folder. 2. For each model in turn: attribute the prompts that are not finished yet, and write each when it
is done. 3. Compare, write tables and report.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import xarray as xr

from itlens.models import ModelPair, load_pair
from itlens.models.compatibility import PairReport, Side, compare_sides
from itlens.probes.attribution import attribute
from itlens.progress import Reporter, reporter
from itlens.prompts import Prompt
from itlens.provenance import provenance, short_name
from itlens.study.asked import asked_prompts, refuse_long, refuse_unknown
from itlens.study.comparison import Comparison, compared, write_outcome
from itlens.study.folder import WHICH, RunFolder, save_result
from itlens.study.ranges import refuse_numbers


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
    seed: int = 0,
    progress: bool = True,
    **load: Any,
) -> Comparison:
    """Compare a pre-trained model with its tuned self on prompts, into a run folder with tables and `report.html`.

    base, tuned: whatever `load_model` takes; adapter: merged into the tuned model (tuned may then be left out).
    prompts: "builtin", "demo", a JSONL or TSV file, or Prompts; every prompt needs an instruction. A prompt's own
    `response` is used where it has one, else each model answers greedily with at most `max_new_tokens` tokens.
    probes: "all" or "attribution". out: a new folder, or that of the same study, whose finished prompts are kept
    (resume=False computes them again). format: "raw", "chat" (the tuned tokenizer's template, for both models) or a
    text with {prompt}. labels: how to call the two. levels, threshold, p: of the importance density. load: further
    arguments of `load_model` (device, dtype, backend, tokenizer, trust_remote_code, revision, check).

    Ctrl-C keeps every finished prompt. Raises a subclass of ItlensError for anything wrong with the input.
    """
    refuse_unknown(probes, executor, method, objective, labels)
    refuse_numbers(levels=levels, threshold=threshold, p=p, seed=seed, limit=limit)
    refuse_numbers(max_new_tokens=max_new_tokens, batch_size=batch_size)
    pair = load_pair(base, tuned, adapter=adapter, **load)
    sides = {which: pair.side(which) for which in WHICH}
    checked = compare_sides(sides["base"], sides["tuned"])
    asked = asked_prompts(prompts, limit, format, sides["tuned"].tokenizer)
    refuse_long(asked, sides, prepend_bos)
    pair.check_files()
    results = {"format": format, "max_new_tokens": max_new_tokens, "method": method, "objective": objective}
    results |= {"prepend_bos": "" if prepend_bos is None else prepend_bos, **_shown(load)}
    scoring = {"levels": levels, "threshold": threshold, "p": p, "seed": seed}
    study = _study(sides, labels, checked, asked, results, scoring, adapter)
    folder = RunFolder(out)
    options = {
        "method": method,
        "objective": objective,
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "prepend_bos": prepend_bos,
    }
    with folder.opened(study, asked, resume=resume), reporter(progress) as tell:
        found = {which: _run(pair, which, asked, folder, options, tell) for which in WHICH}
    comparison = compared(folder, study, asked, found["base"], found["tuned"])
    write_outcome(comparison)
    return comparison


def _run(
    pair: ModelPair, which: str, prompts: Sequence[Prompt], folder: RunFolder, options: dict[str, Any], tell: Reporter
) -> dict[str, xr.Dataset]:
    """Attribute the prompts that are not finished; a model that has nothing to do is not loaded."""
    finished = folder.finished(which, prompts)
    todo = [(number, prompt) for number, prompt in enumerate(prompts, start=1) if prompt.id not in finished]
    tell.start(which, len(finished), len(prompts))
    if not todo:
        return finished
    model = pair.base if which == "base" else pair.tuned
    for number, prompt in todo:
        result = attribute(model, prompt, progress=False, **options)
        finished[prompt.id] = save_result(result, folder.result(which, number, prompt))
        tell.advance(which)
    del model
    pair.release(which)
    return {prompt.id: finished[prompt.id] for prompt in prompts}


def _study(
    sides: dict[str, Side],
    labels: tuple[str, str] | None,
    checked: PairReport,
    prompts: Sequence[Prompt],
    results: dict[str, Any],
    scoring: dict[str, Any],
    adapter: str | Path | None,
) -> dict[str, Any]:
    """What study.json holds."""
    content = json.dumps([asdict(prompt) for prompt in prompts], sort_keys=True, default=str)
    own = (short_name(sides["base"].name), _tuned_label(sides["tuned"], adapter))
    named = dict(zip(WHICH, labels or own, strict=True))
    models = {
        which: {"label": named[which], "name": side.name, "revision": side.revision, **side.facts}
        for which, side in sides.items()
    }
    marks = {f"{which} model": side.revision for which, side in sides.items()}
    digest = hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    versions = {name: value for name, value in provenance("compare").items() if name.endswith("_version")}
    return {
        "identity": {**marks, "prompts": f"{len(prompts)} (sha256 {digest})", **results},
        "models": models,
        "prompts": len(prompts),
        "settings": results | scoring,
        "notices": list(checked.notices),
        "versions": {name.removesuffix("_version"): value for name, value in versions.items()},
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _tuned_label(side: Side, adapter: str | Path | None) -> str:
    return short_name(side.name) if adapter is None else f"{short_name(side.name)} + {short_name(str(adapter))}"


def _shown(load: dict[str, Any]) -> dict[str, Any]:
    """The loading options that results depend on, as text."""
    defaults = {"dtype": "float32", "backend": "hooked"}
    shown = {name: str(load.get(name, default)).removeprefix("torch.") for name, default in defaults.items()}
    if (tokenizer := load.get("tokenizer")) is not None:
        shown["tokenizer"] = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
        shown["tokenizer"] = str(tokenizer) if isinstance(tokenizer, (str, Path)) else shown["tokenizer"]
    return shown
