"""The finding "token_shift": how much of the tuned model's response would the base have written itself?

One result over all prompts (`itlens.token_shift`); shares, tests, kinds of tokens and single tokens come from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.base import Finding, Plan, Saved, Tables, Verdict
from itlens.findings.options import option
from itlens.findings.token_shift.columns import GROUP_COLUMNS, KIND_COLUMNS, TOKEN_COLUMNS, shift_cards
from itlens.findings.token_shift.diff import (
    FIRST,
    shift_depth,
    shift_kinds,
    shift_places,
    shift_shares,
    shifted_tokens,
    token_shift_tests,
)
from itlens.findings.token_shift.diff_verdict import first_row, rows_of_all, token_shift_verdict
from itlens.findings.token_shift.view import token_shift_figure
from itlens.findings.token_shift.view_tokens import shifted_response
from itlens.prompts.formats import EMPTY_FORM
from itlens.report.blocks import Block, Figure, Table, Text
from itlens.stats.groups import rows_as_said

if TYPE_CHECKING:
    from itlens.findings.detector import Detector
    from itlens.models import ModelPair

SHIFT = "shift"  # the one result
_TOKENS, _IN_TERMINAL = 25, 8  # rows of the table of tokens
_LONG = 0.75  # examples are of the longest quarter
_INTRO = (
    "Both models read the same responses, token by token. The base ranks every token that could come next: a token of "
    "the response is unshifted where it is the base's first choice, marginal where it is the second or third, and "
    "shifted beyond that. The divergence compares the whole distributions."
)
_KINDS = (
    "shifted more or less often than the other tokens of the same prompts; function words are those of English, and a "
    "piece of a word has the kind of the word"
)
_SINGLE = (
    "tokens that occur in at least 5 prompts: how often they are shifted, next to the other tokens of the same "
    "prompts (the largest difference first), and what the base would most often have written instead"
)


@dataclass(frozen=True)
class TokenShiftOptions:
    """first_tokens: of a response, that count as its beginning."""

    first_tokens: int = option(
        FIRST, help="Tokens of a response that count as its beginning, for their share of the divergence.", at_least=1,
        identity=False,
    )  # fmt: skip


class TokenShift(Finding):
    """How the base ranks the tokens of the tuned model's responses."""

    name = "token_shift"
    question = "How much of the tuned model's response would the base have written?"
    topic = "the choice of the response's tokens"
    reads = "pair"
    order = 45
    shortcut_names = ("token_shift",)
    Options = TokenShiftOptions

    def units(self, plan: Plan) -> Sequence[str]:
        """Return the name of the one result."""
        return (SHIFT,)

    def run(self, source: ModelPair, unit: str, plan: Plan) -> xr.Dataset:
        """Let both models read the responses of the study."""
        from itlens.findings.token_shift.probe import token_shift

        if plan.reading is None:
            raise ProbeError("The finding 'token_shift' needs prompts that both models read; plan.reading is None.")
        prompts = plan.reading.forced(source)
        return token_shift(
            source, prompts, plan.reading.max_new_tokens, responses=plan.reading.pair_writer, progress=plan.tell
        )

    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Return shares by prompt, their tests, and tables of places, kinds and tokens."""
        shift, seed, first = saved["pair"][SHIFT], plan.seed, plan.options.first_tokens
        return {
            "token_shift": shift,
            "token_shift_tests": token_shift_tests(shift, seed=seed),
            "shift_shares": shift_shares(shift, first=first),
            "shift_depth": shift_depth(shift, first=first, seed=seed),
            "shift_places": shift_places(shift, seed=seed),
            "shift_kinds": shift_kinds(shift, seed=seed),
            "shifted_tokens": shifted_tokens(shift, seed=seed),
        }

    def verdict(self, tables: Tables) -> Verdict:
        """Say how much of the response is the base's own choice, and whether its beginning diverges most."""
        return token_shift_verdict(tables)

    def show(self, tables: Tables) -> Sequence[Block]:
        """Return cards, the figure by place, tables by group, kind and token, and responses in colour."""
        tests, depth = tables["token_shift_tests"], tables["shift_depth"]
        first = int(depth.attrs["first"])
        kinds, tokens = tables["shift_kinds"], tables["shifted_tokens"]
        blocks: list[Block] = [
            *shift_cards(rows_of_all(tests), first_row(depth), tables["shift_shares"], first),
            Text(_INTRO),
            Figure(token_shift_figure(tables["shift_places"]), wide=True),
            Table(rows_as_said(kinds), KIND_COLUMNS, "Which kinds of tokens are shifted", _KINDS),
        ]
        if len(tokens):
            title = f"Which single tokens are shifted: {min(len(tokens), _TOKENS)} of {len(tokens)}"
            rows = rows_as_said(tokens.head(_TOKENS))
            blocks.append(
                Table(rows, TOKEN_COLUMNS, title, _SINGLE, sortable=True, terminal_rows=_IN_TERMINAL)
            )  # fmt: skip
        groups = rows_as_said(tests[tests["statistic"] == "unshifted"].drop(columns="statistic"))
        if len(groups) > 2:
            text = "response tokens that are the model's own first choice, mean over prompts"
            folded = not np.isfinite(groups["p_holm"].to_numpy(float)).any()
            title = "First choices, group by group"
            blocks.append(Table(groups, GROUP_COLUMNS, title, text, folded=folded, terminal=False))
        return [*blocks, *_examples(tables["token_shift"], tables["shift_shares"])]

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Say which prompts were left out, what is not compared, and whose responses were read."""
        shift = tables["token_shift"]
        read, every = shift.sizes["prompt"], len(plan.prompts)
        notes = []
        if every and read < every:
            notes.append(
                f"Token shift covers {read} of {every} prompts: the response to the others is empty ({EMPTY_FORM})."
            )
        note = str(shift.attrs.get("note", ""))
        return [*notes, *([f"Token shift: {note}."] if note else [])]

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Define shifts and the divergence."""
        return {
            "Unshifted, marginal, shifted": "The rank of the response's token among all tokens by the base's "
            "probability at that place: 1, 2 or 3, and beyond 3 (Lin et al. 2023).",
            "KL(tuned || base)": "How far the tuned model's distribution of the next token is from the base's, in "
            "nats: 0 where they are the same. An even spread would give the first k of M tokens k / M of its sum.",
            "Others": "For a kind of token, or a token: the share of shifted ones among the other tokens of the same "
            "prompts. The difference from it is tested over prompts.",
        }

    def per_prompt(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """First choices and log-probability by model and prompt; tokens: the digest of what was read."""
        shares, digests = tables["shift_shares"], tables["token_shift"]["tokens_digest"].values.astype(str)
        sides = [
            pd.DataFrame(
                {
                    "model": side,
                    "id": shares["id"],
                    "group": shares["group"],
                    "first_choice": shares[f"unshifted{end}"],
                    "response_logprob": shares[f"logprob{end}"],
                    "tokens": digests,
                }
            )
            for side, end in (("base", ""), ("tuned", "_tuned"))
        ]
        return pd.concat(sides, ignore_index=True)

    def changes(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """Return the changes of `per_prompt`, and what both models have together: shifted tokens and KL."""
        own, shares = super().changes(tables, plan), tables["shift_shares"]
        return None if own is None else own.merge(shares[["id", "shifted", "kl"]], on="id", how="left")

    def distances(self, tables: Tables) -> Mapping[str, float]:
        """shifted: share of tokens beyond the first model's third choice; token_kl: nats a token."""
        shares = tables["shift_shares"]
        return {"shifted": float(shares["shifted"].mean()), "token_kl": float(shares["kl"].mean())}

    def detectors(self) -> Sequence[type[Detector]]:
        """Return the detector of tokens that became more probable."""
        from itlens.findings.token_shift.detectors import ResponseTokens

        return (ResponseTokens,)

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """Return `Comparison.token_shift`: the result by prompt and position."""
        return {"token_shift": tables["token_shift"]}


def _examples(shift: xr.Dataset, shares: pd.DataFrame) -> list[Block]:
    """Return longer responses in colour: a typical one, open, then those that are shifted most and least."""
    shifted, length = shares["shifted"].to_numpy(float), shares["length"].to_numpy()
    long = np.flatnonzero(length >= np.quantile(length, _LONG))
    order = long[np.argsort(shifted[long], kind="stable")]
    chosen = dict.fromkeys([int(order[order.size // 2]), int(order[-1]), int(order[0])])
    return [shifted_response(shift, number, folded=place > 0) for place, number in enumerate(chosen)]


FINDING = TokenShift()
