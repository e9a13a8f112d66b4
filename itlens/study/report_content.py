"""What a comparison's report shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from itlens.diff import pairs_verdict
from itlens.study.concept_results import ConceptResults
from itlens.study.parts import WHICH
from itlens.views import (
    ActivationContent,
    ConceptContent,
    Example,
    FaithfulnessContent,
    PatchContent,
    ReportContent,
    WordContent,
)

if TYPE_CHECKING:
    from itlens.study.comparison import Comparison

EXAMPLES = 4
_TITLES = {
    "attribution": "Does tuning make the model lean on the instruction?",
    "attention": "Does tuning make attention heads relate the verbs of instructions?",
    "mlp": "Does tuning turn what feed-forward layers know toward user tasks?",
    "activation": "Where do the tuned model's activations differ?",
    "patching": "Which heads carry what tuning did?",
    "faithfulness": "Are the attributions faithful to the models?",
    "several": "What did instruction tuning change?",
}


def content(comparison: Comparison) -> ReportContent:
    """Everything the page needs, from the comparison's results."""
    study = comparison.study
    models = study["models"]
    parts: dict[str, Any] = {"attribution": comparison.diff, "attention": comparison.words, "mlp": comparison.concepts}
    parts |= {"activation": comparison.activation, "patching": comparison.patching}
    parts |= {"faithfulness": comparison.faithfulness}
    held = [name for name, found in parts.items() if found is not None]
    return ReportContent(
        title=_TITLES[held[0] if len(held) == 1 else "several"],
        base=models["base"]["label"],
        tuned=models["tuned"]["label"],
        verdict=comparison.verdict,
        diff=comparison.diff,
        compared=_compared(comparison),
        examples=_examples(comparison)[:EXAMPLES],
        parameters=study["settings"],
        versions=study["versions"],
        notes=comparison.notes,
        created=study["created"],
        words=_words(comparison),
        concepts=[_concepts(results) for results in (comparison.concepts or {}).values()],
        activation=_activation(comparison),
        patching=_patching(comparison),
        faithfulness=_faithfulness(comparison),
    )


def _compared(comparison: Comparison) -> dict[str, Any]:
    study = comparison.study
    facts: dict[str, Any] = {}
    for which in WHICH:
        facts |= {
            f"{which} {name}": value for name, value in study["models"][which].items() if name != "name" and value
        }
    if comparison.diff is not None:
        facts |= {"prompts": f"{len(comparison.base)} of {study['prompts']}"}
    if comparison.prompts:
        facts |= {"prompt format": study["settings"]["format"]}
    if comparison.words is not None:
        settings = study["settings"]
        facts |= {"vocabulary": settings["vocabulary"], "word vectors": settings["vectors"]}
    if comparison.concepts is not None:
        names = {"concept_vocabulary": "concept vocabulary", "labeller": "labels of concepts"}
        facts |= {shown: study["settings"][name] for name, shown in names.items()}
    return facts


def _examples(comparison: Comparison) -> list[Example]:
    return [
        Example(prompt, comparison.base[prompt.id], comparison.tuned[prompt.id])
        for prompt in comparison.prompts
        if prompt.id in comparison.base
        and comparison.base[prompt.id].sizes["target"]
        and comparison.tuned[prompt.id].sizes["target"]
    ]


def _words(comparison: Comparison) -> WordContent | None:
    words, pairs, changes, moved = comparison.words, comparison.pairs, comparison.changes, comparison.moved
    if words is None or pairs is None or changes is None or moved is None:
        return None
    base, tuned = (_of_heads(pairs[which], moved) for which in WHICH)
    return WordContent(words, changes, moved, base, tuned, pairs_verdict(words))


def _concepts(results: ConceptResults) -> ConceptContent:
    return ConceptContent(
        side=results.side,
        turned=results.turned,
        base=results.cards["base"],
        tuned=results.cards["tuned"],
        base_labels=results.base_labels,
        tuned_labels=results.tuned_labels,
        changes=results.changes,
        shares=results.shares,
        verdict=results.answer,
    )


def _activation(comparison: Comparison) -> ActivationContent | None:
    found = comparison.activation
    return None if found is None else ActivationContent(found.diff, found.summary, found.heads, found.verdict)


def _patching(comparison: Comparison) -> PatchContent | None:
    found = comparison.patching
    return None if found is None else PatchContent(found.patched, found.agreement, found.verdict)


def _faithfulness(comparison: Comparison) -> FaithfulnessContent | None:
    found = comparison.faithfulness
    return None if found is None else FaithfulnessContent(found.table, found.curves, found.verdict)


def _of_heads(pairs: pd.DataFrame, heads: pd.DataFrame) -> pd.DataFrame:
    """The rows of these heads only: the pairs of a large model fill a gigabyte, and a page shows a few heads."""
    wanted = set(zip(heads["layer"], heads["head"], strict=True))
    count = int(pairs.attrs["n_heads"])
    cells = np.array([layer * count + head for layer, head in wanted])
    return pairs[np.isin(pairs["layer"].to_numpy(np.int32) * count + pairs["head"].to_numpy(), cells)]
