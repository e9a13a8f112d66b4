"""What a comparison leaves in its run folder: tables and the report."""

from __future__ import annotations

from typing import Any

import pandas as pd

from itlens.diff import top_heads, verb_changes
from itlens.files import write_text
from itlens.store import save
from itlens.study.comparison import Comparison
from itlens.study.concept_results import ConceptResults
from itlens.study.folder import RunFolder

_LARGE = ("pair_changes",)  # a row per word pair: of a large model, no spreadsheet could open it


def write_outcome(comparison: Comparison) -> None:
    """Write the tables and the report into the run folder."""
    folder = RunFolder(comparison.out)
    for name, result in _tables(comparison).items():
        if not isinstance(result, pd.DataFrame):
            save(result, folder.tables / f"{name}.nc")
            continue
        save(result, folder.tables / f"{name}.parquet")
        if name not in _LARGE:
            save(result, folder.tables / f"{name}.csv")
    write_text(folder.report, comparison.report().html)


def _tables(comparison: Comparison) -> dict[str, Any]:
    found: dict[str, Any] = {} if comparison.diff is None else comparison.diff._asdict()
    if comparison.words is not None:
        found |= {
            "word_pairs": comparison.words,
            "pair_changes": comparison.changes,
            "verbs": verb_changes(comparison.words),
            "moved_heads": comparison.moved,
        }
    for results in (comparison.concepts or {}).values():
        found |= _concepts(results)
    found |= _running(comparison)
    return {name: result for name, result in found.items() if result is not None}


def _running(comparison: Comparison) -> dict[str, Any]:
    """What came of the running models."""
    found: dict[str, Any] = {}
    if (activation := comparison.activation) is not None:
        found |= {"activations": activation.diff, "shift": activation.summary}
        found |= {"shift_tests": activation.tests, "shifted_heads": activation.heads}
    if (patching := comparison.patching) is not None:
        found |= {"patching": patching.patched, "head_agreement": patching.agreement}
        found |= {"top_heads": None if patching.agreement is None else top_heads(patching.agreement)}
    if (faithful := comparison.faithfulness) is not None:
        found |= {"faithfulness": faithful.table, "faithfulness_curves": faithful.curves}
    return found


def _concepts(results: ConceptResults) -> dict[str, Any]:
    labels = {"base": results.base_labels, "tuned": results.tuned_labels}
    both = pd.concat([table.assign(model=which) for which, table in labels.items()], ignore_index=True)
    both.attrs = dict(results.tuned_labels.attrs)
    named = {"concept_changes": results.changes, "concept_shares": results.shares, "labels": both}
    return {f"{name}_{results.side}": found for name, found in {"turned": results.turned, **named}.items()}
