"""The finding "logit_diff": which tokens does tuning raise and lower at every position, whatever was asked?

One result over all texts (`itlens.logit_diff`): the study's prompts with the responses that both models read, or texts
of your own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.base import Finding, Plan, Saved, Tables, Verdict
from itlens.findings.logit_diff.columns import (
    FALLEN_COLUMNS,
    GROUP_COLUMNS,
    RISEN_COLUMNS,
    THEME_COLUMNS,
    logit_cards,
)
from itlens.findings.logit_diff.diff import group_changes, token_changes, token_themes
from itlens.findings.logit_diff.diff_verdict import logit_verdict, rows_of_change
from itlens.findings.logit_diff.view import logit_figure
from itlens.findings.options import option
from itlens.prompts.formats import EMPTY_FORM
from itlens.prompts.texts import loaded_texts
from itlens.report.blocks import Block, Figure, Table, Text

if TYPE_CHECKING:
    from itlens.findings.detector import Detector
    from itlens.models import ModelPair

TOKENS = "tokens"  # the one result
PROMPTS = "prompts"
_ROWS, _IN_TERMINAL = 25, 8  # of the tables of tokens
_INTRO = (
    "Both models read the same texts, and at every position the logits of all tokens are compared, less their median "
    "over the vocabulary, so that tokens that stay are 0. A token counts as risen at a position where it is among the "
    "100 that rose most. Listed are tokens that a model would say in these texts (among its ten most probable at "
    "0.05 % of the positions at least); the logits of others move as well, without anybody seeing it."
)
_TESTED = "in how many texts is its mean difference above 0, of those in which it is not 0?"
_THEMES = "tokens that rise at the same positions, by non-negative matrix factorisation; read, not tested"
_GROUPS = "what rose in the texts of each group"


@dataclass(frozen=True)
class LogitDiffOptions:
    """corpus: what both models read. themes: groups of tokens that rise together."""

    corpus: object = option(
        PROMPTS, help="What both models read for changes of logits: prompts (with the responses), builtin, or a file.",
        load=lambda given, options: given if given == PROMPTS else loaded_texts(given),
        describe=lambda corpus: corpus if isinstance(corpus, str) else f"{corpus.name}, {len(corpus):,} texts",
    )  # fmt: skip
    themes: int = option(6, help="Themes of tokens that rise together; 0: none.", at_least=0)


class LogitDiff(Finding):
    """Tokens whose logits tuning raises and lowers throughout."""

    name = "logit_diff"
    label = "Logit difference"
    question = "Which tokens does tuning raise, whatever comes before?"
    topic = "the logits of single tokens"
    reads = "pair"
    order = 47
    shortcut_names = ("logit_diff",)
    Options = LogitDiffOptions

    def units(self, plan: Plan) -> Sequence[str]:
        """Return the name of the one result."""
        return (TOKENS,)

    def describe(self, plan: Plan) -> Mapping[str, object]:
        """Return the seed of the themes."""
        return {"themes_seed": plan.seed}

    def run(self, source: ModelPair, unit: str, plan: Plan) -> xr.Dataset:
        """Let both models read the prompts with their responses, or the texts."""
        from itlens.findings.logit_diff.probe import logit_diff

        if plan.reading is None:
            raise ProbeError("The finding 'logit_diff' needs prompts that both models read; plan.reading is None.")
        corpus = plan.options.corpus
        if corpus == PROMPTS:
            corpus = plan.reading.forced(source)
        return logit_diff(
            source, corpus, themes=plan.options.themes, seed=plan.seed, prepend_bos=plan.reading.prepend_bos,
            progress=plan.tell,
        )  # fmt: skip

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Return the numbers of all tokens, the strongest ones, those of groups, and the themes."""
        ld = saved["pair"][TOKENS]
        return {
            "logit_diff": ld,
            "token_changes": token_changes(ld),
            "group_changes": group_changes(ld),
            "token_themes": token_themes(ld),
        }

    def verdict(self, tables: Tables) -> Verdict:
        """Say how many tokens moved throughout, and which moved most."""
        return logit_verdict(tables)

    def show(self, tables: Tables) -> Sequence[Block]:
        """Return cards, the figure, and tables of risen and fallen tokens, themes and groups."""
        changes, themes, groups = (tables[name] for name in ("token_changes", "token_themes", "group_changes"))
        risen, fallen = (changes[changes["change"] == name] for name in ("risen", "fallen"))
        best = [rows_of_change(changes, name) for name in ("risen", "fallen")]
        blocks: list[Block] = [*logit_cards(changes, *best), Text(_INTRO), Figure(logit_figure(changes), wide=True)]
        if len(themes):
            blocks.append(Table(themes, THEME_COLUMNS, "What rises together", _THEMES))
        for rows, columns, words in ((risen, RISEN_COLUMNS, "risen"), (fallen, FALLEN_COLUMNS, "fallen")):
            if len(rows):
                title = f"Tokens that are most often among the {words}: {min(len(rows), _ROWS)} of {len(rows)}"
                blocks.append(
                    Table(rows.head(_ROWS), columns, title, _TESTED, sortable=True, terminal_rows=_IN_TERMINAL)
                )
        if len(groups) > 1:
            blocks.append(Table(groups, GROUP_COLUMNS, "Group by group", _GROUPS, terminal=False))
        return blocks

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Say which texts were left out or cut, and why there are no themes."""
        attrs = tables["logit_diff"].attrs
        said = [f"Logit difference: {attrs[name]}." for name in ("note", "note_themes") if attrs.get(name)]
        read, every = int(attrs["texts"]), len(plan.prompts)
        if plan.options.corpus == PROMPTS and read < every:
            said.append(
                f"Logit difference covers {read} of {every} prompts: the response to the others is empty "
                f"({EMPTY_FORM})."
            )
        return said

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Define risen, likely and themes."""
        top = tables["token_changes"].attrs["top"]
        return {
            "Risen, fallen": f"At a position: among the {top} tokens whose logits (less their median over "
            "the vocabulary) rose or fell most from base to tuned.",
            "Likely": "Among a model's ten most probable tokens at 0.05 % of the positions at least: a smaller share "
            "is printed as 0.0 %. Other tokens are in the data (tables/), not in the tables here.",
            "Theme": "Tokens that rise at the same positions: a component of a non-negative matrix factorisation of "
            "positions × tokens.",
        }

    def per_prompt(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """Return nothing: a difference of both models belongs to neither."""
        return None

    def distances(self, tables: Tables) -> Mapping[str, float]:
        """moved_tokens: share of the likely tokens that rose or fell consistently."""
        attrs = tables["token_changes"].attrs
        tokens = int(attrs["tokens"])
        return {"moved_tokens": (int(attrs["rose"]) + int(attrs["fell"])) / tokens if tokens else float("nan")}

    def detectors(self) -> Sequence[type[Detector]]:
        """Return the detector of tokens whose logit rose."""
        from itlens.findings.logit_diff.detectors import TokenLogits

        return (TokenLogits,)

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """Return `Comparison.logit_diff`: the numbers of every token."""
        return {"logit_diff": tables["logit_diff"]}


FINDING = LogitDiff()
