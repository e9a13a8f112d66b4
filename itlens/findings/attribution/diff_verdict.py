"""What the paired comparison of instruction scores comes to: a direction with its figures, and what speaks against it.

1. The paired t-test over all prompts decides (Wilcoxon's test where all differences are the same).
2. The interval next to the p-value never contradicts it. Below 30 prompts it is the t-test's own: a bootstrap can only
   redraw the few differences there are, so that its interval of a mean is too narrow (at n = 6 it excluded zero at
   p = 0.12). From 30 prompts it is the table's bootstrap interval, unless this and the test disagree about zero. The
   tables keep their bootstrap intervals.
3. The score depends on the length of a response. Where whole responses and responses of equal length are significant in
   opposite directions, both are said and neither is called the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from itlens.findings.base import Direction, Headline, Tables, Verdict
from itlens.stats.paired import interval_beside_p, p_text

# whose responses the models were read on; own: each model on its own
Writer: TypeAlias = Literal["own", "tuned", "base", "given"]


@dataclass(frozen=True)
class Conclusion(Verdict):
    """A verdict with its claim apart from its doubts, the most important doubt first."""

    claim: str = field(default="", repr=False)
    doubts: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(
        cls,
        claim: str,
        doubts: tuple[str, ...] = (),
        *,
        direction: Direction = "none",
        tested: bool = True,
        numbers: tuple[Headline, ...] = (),
        short: str = "",
    ) -> Conclusion:
        """Return the verdict that says the claim and the first doubt; the other doubts are its caveat."""
        sentence, caveat = " ".join([claim, *doubts[:1]]), " ".join(doubts[1:])
        return cls(sentence, direction, tested, caveat=caveat, numbers=numbers, short=short, claim=claim, doubts=doubts)

    def doubted(self, doubt: str) -> Conclusion:
        """Return the same with the doubt of the faithfulness test, which matters more than the others."""
        doubts = (doubt, *self.doubts)
        short = f"{self.short}, by attributions that did not pass every test of faithfulness"
        sentence, caveat = f"{self.claim} {doubt}", " ".join(doubts[1:])
        return replace(self, sentence=sentence, caveat=caveat, short=short, doubts=doubts)


@dataclass(frozen=True)
class _Test:
    """The row of all prompts of a table of groups, with the interval that belongs to its p-value."""

    n: int
    base: float
    tuned: float
    difference: float
    low: float
    high: float
    p: float
    t: float
    p_ranks: float

    @classmethod
    def of(cls, row: pd.Series) -> _Test:
        values = {name: float(row[name]) for name in ("difference", "ci_low", "ci_high", "t_paired", "p_paired")}
        n, ranks = int(row["n"]), float(row["p_wilcoxon"])
        p = values["p_paired"] if np.isfinite(values["p_paired"]) else ranks
        low, high = interval_beside_p(n, p, *(values[name] for name in ("difference", "ci_low", "ci_high")))
        means = float(row["base_mean"]), float(row["tuned_mean"])
        return cls(n, *means, values["difference"], low, high, p, values["t_paired"], ranks)

    @property
    def tested(self) -> bool:
        return bool(np.isfinite(self.p))

    @property
    def same(self) -> bool:
        """Whether no prompt differs."""
        return self.difference == 0 and not np.isfinite(self.t)

    @property
    def sign(self) -> float:
        return float(np.sign(self.difference))

    @property
    def change(self) -> str:
        return (
            f"mean difference {_signed(self.difference)}, 95 % interval {_signed(self.low)} to {_signed(self.high)}, "
            f"{p_text(self.p)}, {self.n} prompts"
        )

    @property
    def scores(self) -> str:
        return f"{self.tuned:.2f} in the tuned and {self.base:.2f} in the base model ({self.change})"

    @property
    def more(self) -> str:
        return "more" if self.difference > 0 else "less"

    @property
    def direction(self) -> Direction:
        return "higher" if self.difference > 0 else "lower"

    @property
    def figures(self) -> str:
        return f"{_signed(self.difference)}, {p_text(self.p)}"

    def headline(self, name: str) -> Headline:
        return Headline(name, self.difference, self.low, self.high, self.p, self.n)


def conclusion(tables: Tables, alpha: float = 0.05) -> Conclusion:
    """Return what came out.

    tables: those of `itlens.diff.attributions` by name, and "_responses": whose responses were read (default: "own").
    """
    prompts: pd.DataFrame = tables["prompts"]
    writer: Writer = tables.get("_responses", "own")
    whole, equal = (_Test.of(tables[name].iloc[0]) for name in ("groups", "equal_length"))
    numbers = _headlines(whole, equal, writer)
    if not whole.tested:
        return _untested(str(tables["groups"].iloc[0]["note"]), whole, numbers)
    if whole.same:
        short = "the instruction score is the same in every prompt"
        return Conclusion.of(f"No change: {short} ({whole.n} prompts).", numbers=numbers, short=short)
    cut, read = _cut(prompts, writer), _read(prompts, writer)
    if whole.p >= alpha:
        claim = f"No significant change of the instruction score: {whole.scores}."
        short = f"no significant change of the instruction score ({whole.figures})"
        doubts = [cut, _only_at_equal_length(equal, writer, alpha)]
        doubts.append(f"{read[0].upper()}{read[1:]}.")
        return Conclusion.of(claim, _some(doubts), numbers=numbers, short=short)
    if writer == "own" and equal.p < alpha and equal.sign == -whole.sign:
        return _reversed(prompts, whole, equal, cut, numbers)
    claim = f"The tuned model leans {whole.more} on the instruction than the base: instruction score {whole.scores}."
    holds = f"It holds {_holds(tables, whole, equal, writer, alpha)}; {read}."
    doubts = [cut, _fails(tables, whole, equal, writer, alpha), holds]
    short = f"the tuned model leans {whole.more} on the instruction ({whole.figures})"
    return Conclusion.of(claim, _some(doubts), direction=whole.direction, numbers=numbers, short=short)


def _untested(why: str, whole: _Test, numbers: tuple[Headline, ...]) -> Conclusion:
    size = f"; mean difference {_signed(whole.difference)}" if np.isfinite(whole.difference) else ""
    return Conclusion.of(
        f"Not tested: {why}{size}.", numbers=numbers, tested=False, short=f"the instruction score was not tested: {why}"
    )


def _reversed(prompts: pd.DataFrame, whole: _Test, equal: _Test, cut: str, numbers: tuple[Headline, ...]) -> Conclusion:
    """Return what is said where equally long responses differ significantly the other way round."""
    claim = (
        "Whether the tuned model leans more on the instruction depends on how much the models write "
        f"({_lengths(prompts)}): its instruction score is {whole.direction} over whole responses ({whole.change}) and "
        f"{equal.direction} over the same number of tokens ({equal.change})."
    )
    remedy = 'With responses="tuned" both models are read on the same responses, and length makes no difference.'
    short = (
        f"the instruction score depends on how much the models write: {whole.figures} over whole responses, "
        f"{equal.figures} over the same number of tokens"
    )
    return Conclusion.of(claim, _some([cut, remedy]), direction="changed", numbers=numbers, short=short)


def _headlines(whole: _Test, equal: _Test, writer: Writer) -> tuple[Headline, ...]:
    headlines = [
        whole.headline("difference of the instruction score"),
        Headline("instruction score of the base model", whole.base, n=whole.n),
        Headline("instruction score of the tuned model", whole.tuned, n=whole.n),
    ]
    if writer == "own":
        headlines.insert(1, equal.headline("difference of the instruction score at equal response length"))
    return tuple(headlines)


def _cut(prompts: pd.DataFrame, writer: Writer) -> str:
    """Return whose responses were all cut at the limit, so that none of them ends where the model would end it."""
    writers = ("base", "tuned") if writer == "own" else (writer,)
    for side in writers:
        if side != "given" and len(prompts) and (prompts[f"{side}_finish"] == "length").all():
            most = int(prompts[f"{side}_targets"].max())
            return f"All responses of the {side} model were cut at {most} tokens, and its score depends on this limit."
    return ""


def _read(prompts: pd.DataFrame, writer: Writer) -> str:
    """Return on which responses the models were read, and what follows from it, as a clause."""
    if writer == "own":
        return f"each model was read on its own responses ({_lengths(prompts)}), which differ in length and content"
    if writer == "given":
        return "both models were read on the responses that came with the prompts"
    return (
        f"both models were read on the {writer} model's responses, which are likely under the {writer} model by "
        "construction; that need not raise its instruction score"
    )


def _lengths(prompts: pd.DataFrame) -> str:
    lengths = prompts[["base_targets", "tuned_targets"]].mean()
    return f"base {lengths['base_targets']:.1f} tokens, tuned {lengths['tuned_targets']:.1f} on average"


def _only_at_equal_length(equal: _Test, writer: Writer, alpha: float) -> str:
    if writer != "own" or not equal.p < alpha or equal.same:
        return ""
    return f"Over the same number of tokens it is significantly {equal.direction} in the tuned model ({equal.change})."


def _fails(tables: Tables, whole: _Test, equal: _Test, writer: Writer, alpha: float) -> str:
    """Return under which other analyses a significant difference is not significant, or has the other sign."""
    fails = []
    if whole.p_ranks >= alpha:
        fails.append(f"by ranks ({p_text(whole.p_ranks)})")
    if writer == "own":
        if equal.p >= alpha or equal.sign == -whole.sign:
            fails.append(f"at equal response length ({p_text(equal.p)}, {_signed(equal.difference)})")
        controlled = tables["regression"].iloc[0]
        if controlled["p"] >= alpha or np.sign(controlled["coefficient"]) == -whole.sign:
            size = _signed(float(controlled["coefficient"]))
            fails.append(f"with response lengths as controls ({p_text(controlled['p'])}, {size})")
    return f"It does not hold {' and not '.join(fails)}." if fails else ""


def _holds(tables: Tables, whole: _Test, equal: _Test, writer: Writer, alpha: float) -> str:
    """Return under which other analyses a significant difference is significant too."""
    grid: xr.Dataset = tables["sensitivity"]
    settings = int(((grid.p_paired < alpha) & (np.sign(grid.difference) == whole.sign)).sum())
    holds = [f"at {settings} of {grid.p_paired.size} settings of cut-off and power"]
    if writer == "own" and equal.p < alpha and equal.sign == whole.sign:
        holds.insert(0, "at equal response length")
    return " and ".join(holds)


def _signed(value: float) -> str:
    """Return a number with its sign and two decimals, or more where these would make it zero."""
    return f"{value:+.2f}" if value == 0 or abs(value) >= 0.005 else f"{value:+.1g}"


def _some(sentences: list[str]) -> tuple[str, ...]:
    return tuple(filter(None, sentences))
