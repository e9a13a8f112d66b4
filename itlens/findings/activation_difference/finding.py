"""The finding "activation_difference": does every text carry a trace of the tuning, before it has asked anything?

Two results of both models: the mean difference at the first positions of unrelated texts with its words, and its dial
on drawn prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.activation_difference.columns import (
    DIAL_COLUMNS,
    PLACE_COLUMNS,
    SPECTRUM_COLUMNS,
    WORD_COLUMNS,
    difference_cards,
)
from itlens.findings.activation_difference.diff import (
    dial_effects,
    difference_places,
    difference_spectrum,
    difference_words,
)
from itlens.findings.activation_difference.diff_verdict import difference_verdict, mean_row, strongest, words_of
from itlens.findings.activation_difference.view import dial_figure, difference_figure
from itlens.findings.base import Finding, Plan, Saved, Tables, Verdict
from itlens.findings.options import option
from itlens.findings.shared import SAMPLE
from itlens.prompts.texts import loaded_texts
from itlens.report.blocks import Block, Figure, Table, Text
from itlens.report.explorer_places import Place, PlaceNumber
from itlens.stats.groups import rows_as_said

if TYPE_CHECKING:
    from itlens.findings.detector import Detector
    from itlens.models import ModelPair

DIFFERENCE, DIAL = "difference", "dial"  # the two results
_INTRO = (
    "Both models read the beginning of texts that have nothing to do with the tuning. The mean difference of their "
    "residual streams there is what tuning adds whatever the text says. It is read by the logit lens of both models, "
    "and by putting it into a prompt that asks the tuned model to repeat a word (patchscope); each next to random "
    "directions of the same length, and to differences between halves of the texts within the base."
)
_WORDS = "the strongest words of each direction; whether instruction words rank higher there than under both nulls"
_DIAL = (
    "log-probability of the study's responses (nats a token): the difference added to the base, or subtracted from the "
    "tuned model, at every position"
)
_SCORE = (
    "how much of the response's attributions lies on the instruction (0 to 1), with the difference added to the base "
    "or subtracted from the tuned model"
)


@dataclass(frozen=True)
class ActivationDifferenceOptions:
    """texts: that are read. text_limit: so many of them. difference_layer, difference_positions: where streams are
    compared. dial_scores: prompts of which the dial reads the instruction score. sample: prompts of the dial."""

    texts: object = option(
        "builtin", help="Unrelated texts: builtin, or a file with a text a line.",
        load=lambda given, options: loaded_texts(given),
        describe=lambda texts: f"{texts.name}, {len(texts):,} texts",
    )  # fmt: skip
    text_limit: int = option(200, help="Texts that are read, from the first.", at_least=1)
    difference_layer: int | None = option(
        None, help="Block in front of which streams are compared; default: half of the depth.", at_least=0
    )
    difference_positions: int = option(5, help="First positions of a text that are compared.", at_least=1)
    dial_scores: int = option(
        0, help="Prompts of which the dial reads the instruction score too: 26 attributions each.", at_least=0
    )
    sample: int = SAMPLE


class ActivationDifference(Finding):
    """What tuning adds to the residual stream of unrelated texts."""

    name = "activation_difference"
    question = "Does every text carry a trace of the tuning?"
    topic = "the activation difference on unrelated texts"
    reads = "pair"
    order = 57
    shortcut_names = ("activation_difference",)
    Options = ActivationDifferenceOptions

    def units(self, plan: Plan) -> Sequence[str]:
        """Return the names of the two results."""
        return (DIFFERENCE, DIAL)

    def describe(self, plan: Plan) -> Mapping[str, object]:
        """Return how many prompts the dial draws, and by which seed."""
        return {"dial_prompts": len(plan.sample(plan.options.sample)), "difference_seed": plan.seed}

    def check(self, plan: Plan) -> None:
        """Raise ProbeError for a layer that the models do not have."""
        layer = plan.options.difference_layer
        if layer is not None and plan.layers and layer not in plan.layers:
            raise ProbeError(f"difference_layer={layer} is not there; the models have layers 0 to {plan.layers[-1]}.")

    def run(self, source: ModelPair, unit: str, plan: Plan) -> xr.Dataset:
        """Compare the models on the texts, or turn the dial on the drawn prompts."""
        from itlens.findings.activation_difference.probe import activation_difference
        from itlens.findings.activation_difference.probe_dial import difference_dial

        if plan.reading is None:
            raise ProbeError(
                "The finding 'activation_difference' needs prompts that both models read; plan.reading is None."
            )
        options = plan.options
        if unit == DIFFERENCE:
            return activation_difference(
                source, options.texts[: options.text_limit], options.difference_layer, options.difference_positions,
                seed=plan.seed, prepend_bos=plan.reading.prepend_bos, progress=plan.tell,
            )  # fmt: skip
        known = plan.saved(self.name, DIFFERENCE)
        if known is None:
            raise ProbeError("The dial needs the difference, which failed; see there, and run the comparison again.")
        drawn = plan.sample(options.sample)
        prompts = plan.reading.forced(source, drawn)
        return difference_dial(
            source, known, prompts, plan.reading.max_new_tokens, scores=options.dial_scores,
            responses=plan.reading.pair_writer, seed=plan.seed, progress=plan.tell,
        )  # fmt: skip

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Return the difference, its tests by position, its words, its spectrum, and the dial."""
        results = saved["pair"]
        ad = results[DIFFERENCE]
        tables: dict[str, xr.Dataset | pd.DataFrame] = {
            "activation_difference": ad,
            "difference_places": difference_places(ad, seed=plan.seed),
            "difference_words": difference_words(ad),
            "difference_spectrum": difference_spectrum(ad),
        }
        if DIAL in results:
            tables |= {"difference_dial": results[DIAL], "dial_effects": dial_effects(results[DIAL], seed=plan.seed)}
        return tables

    def verdict(self, tables: Tables) -> Verdict:
        """Say how large and constant the difference is, what it reads as, and what it does."""
        return difference_verdict(tables)

    def show(self, tables: Tables) -> Sequence[Block]:
        """Return cards, the figures, and tables of words, positions, directions and the dial."""
        places, words, spectrum = (tables[f"difference_{name}"] for name in ("places", "words", "spectrum"))
        dial = tables.get("dial_effects")
        if dial is not None:
            dial = rows_as_said(dial, p="change_p", difference="change", low="change_low", high="change_high")
        lens, patched = words_of(words, "tuned", "mean"), words_of(words, "patchscope", "mean")
        blocks: list[Block] = [
            *difference_cards(mean_row(places), spectrum, lens, patched, strongest(dial)),
            Text(_INTRO),
            Figure(difference_figure(places, spectrum), wide=True),
            Table(_first_words(words), WORD_COLUMNS, "The mean difference in words", _WORDS),
        ]
        if dial is not None:
            logprobs, scores = (dial[dial["statistic"] == name] for name in ("logprob", "score"))
            blocks += [
                Figure(dial_figure(dial), wide=True),
                Table(logprobs, DIAL_COLUMNS, "Adding and subtracting the difference", _DIAL),
            ]
            if len(scores):
                blocks.append(Table(scores, DIAL_COLUMNS, "The instruction score under the difference", _SCORE))
        return [
            *blocks,
            Table(rows_as_said(places), PLACE_COLUMNS, "The difference by position", terminal=False, folded=True),
            Table(words, WORD_COLUMNS, "All directions in words", _WORDS, terminal=False, folded=True),
            Table(spectrum, SPECTRUM_COLUMNS, "The first directions", terminal=False, folded=True),
        ]

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Say which texts were left out, that instruction words cannot be looked for, and what else is missing."""
        ad = tables["activation_difference"]
        notes = [f"Activation difference: {ad.attrs['note']}."] if ad.attrs.get("note") else []
        if not int(ad["instruction_tokens"]):
            notes.append(
                "Activation difference: no instruction verb is one token of this tokenizer, so that directions are not "
                "searched for them."
            )
        dial = tables.get("difference_dial")
        if dial is not None and dial.attrs.get("note"):
            notes.append(f"Activation difference, dial: {dial.attrs['note']}.")
        return notes

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Define the difference and how it is read."""
        return {
            "Mean difference": "The tuned model's residual stream minus the base's at one position, averaged over "
            "texts: what tuning adds there whatever the text says.",
            "Constant part": "What the mean differences of two halves of the texts have in common: the square root of "
            "their product. The length of the mean difference also holds what each text adds by itself.",
            "Projection": "Of both models' streams on the direction that one half of the texts gives, for the texts of "
            "the other half, which did not choose it. Paired over these texts.",
            "Patchscope": "The tuned model reads “a -> a”, “b -> b”, “c -> c”, “x ->”; the stream at the last token is "
            "replaced by the direction. What comes next is what it stands for.",
            "Percentile of instruction words": "Mean place of the paper's instruction verbs among all tokens, from 0 "
            "(lowest) to 100 (highest).",
        }

    def places(self, tables: Tables) -> Sequence[Place]:
        """Return the size of the difference, at the layer where it was taken."""
        row = mean_row(tables["difference_places"])
        what = "What tuning adds before this block on unrelated texts"
        number = PlaceNumber(
            "constant part, share of the base's stream", 100 * row["constant"], unit="%", p=row["p_paired"]
        )
        return [Place(int(tables["difference_places"].attrs["layer"]), what=what, numbers=[number])]

    def distances(self, tables: Tables) -> Mapping[str, float]:
        """text_difference: length of the constant part of the difference, share of the first model's stream."""
        return {"text_difference": float(mean_row(tables["difference_places"])["constant"])}

    def detectors(self) -> Sequence[type[Detector]]:
        """Return the detector of layers that write a constant vector."""
        from itlens.findings.activation_difference.detectors import LayerDifference

        return (LayerDifference,)

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """Return `Comparison.activation_difference`: the mean difference with its words."""
        return {"activation_difference": tables["activation_difference"]}


def _first_words(words: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the mean direction, and of the last position without the mean."""
    directions = words["direction"].to_numpy(str)
    chosen = np.isin(directions, ["mean", directions[-1]])
    return words[chosen].reset_index(drop=True)


FINDING = ActivationDifference()
