"""What a reader must know before believing a comparison's figures, a sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.study.concept_notes import concept_notes
from itlens.study.concept_results import sides_of
from itlens.study.parts import layers_wanted, parts_of
from itlens.study.running_notes import running_notes

if TYPE_CHECKING:
    from itlens.study.comparison import Comparison


def notes_on(comparison: Comparison) -> list[str]:
    """All notes, those of the pair first."""
    notes = [*comparison.study.get("notices", []), *_unfinished(comparison), *_coarse(comparison)]
    if comparison.diff is not None:
        notes += [*_empty(comparison), *_cut(comparison)]
    notes += _words(comparison) if comparison.words is not None else []
    notes += concept_notes(comparison.study, comparison.concepts) if comparison.concepts is not None else []
    return notes + running_notes(comparison)


def _unfinished(comparison: Comparison) -> list[str]:
    study = comparison.study
    layers = 0 if comparison.words is None else comparison.words.sizes["layer"]
    done: dict[str, tuple[int, int]] = {}
    if "attribution" in parts_of(study["identity"]):
        done |= {"prompts": (len(comparison.base), len(comparison.prompts))}
    done |= {"layers": (layers, layers_wanted(study, "attention"))}
    wanted, found = layers_wanted(study, "mlp"), comparison.concepts or {}
    for side in sides_of(study):
        there = found[side].turned.sizes["layer"] if side in found else 0
        done[f"layers of {side} vectors"] = (there, wanted)
    return [
        f"Only {number} of {all_} {unit} are finished; run the same comparison to go on."
        for unit, (number, all_) in done.items()
        if number < all_
    ]


def _coarse(comparison: Comparison) -> list[str]:
    dtype = comparison.study["settings"].get("dtype", "float32")
    if dtype not in ("float16", "bfloat16"):
        return []
    moved = "importance levels" if comparison.diff is not None else "words between the top of a list and the rest"
    return [f"Computed in {dtype}, whose rounding moves {moved}; quote figures of a float32 run."]


def _empty(comparison: Comparison) -> list[str]:
    notes = []
    for which, side in (("base", comparison.base), ("tuned", comparison.tuned)):
        empty = [id for id, result in side.items() if not result.sizes["target"]]
        if empty:
            shown = ", ".join(empty[:5]) + (" ..." if len(empty) > 5 else "")
            count = f"{len(empty)} of {len(side)} prompts"
            notes.append(f"The {which} model gave an empty response to {count} (scored 0): {shown}.")
    return notes


def _cut(comparison: Comparison) -> list[str]:
    notes = []
    for which, side in (("base", comparison.base), ("tuned", comparison.tuned)):
        cut = sum(result.attrs.get("finish") == "length" for result in side.values())
        if cut:
            length = comparison.study["settings"]["max_new_tokens"]
            notes.append(
                f"{cut} of {len(side)} responses of the {which} model did not end by themselves and were cut at "
                f"{length} tokens (or at the model's context)."
            )
    return notes


def _words(comparison: Comparison) -> list[str]:
    """How many words could not be paired, and groups of layers without a test."""
    assert comparison.pairs is not None and comparison.words is not None
    attrs = comparison.pairs["base"].attrs
    unknown = {
        "the models' tokenizer": attrs.get("unknown_to_tokenizer", 0),
        "the word vectors": attrs.get("unknown_to_vectors", 0),
    }
    notes = [
        f"{number:,} of {attrs.get('vocabulary_size', 0):,} words are unknown to {who}, and are never paired."
        for who, number in unknown.items()
        if number
    ]
    names = {"all": "all layers together"}
    groups = [names.get(str(group), str(group)) for group, note in comparison.words.note.to_series().items() if note]
    return notes + ([f"The verbs of {', '.join(groups)} were not tested: too few changed."] if groups else [])
