"""The contract of a finding: one object that holds everything the study, the report, the command line and the terminal
need to know of one question.

Data flows prompt -> probe -> result -> diff -> view. A finding names its results (`units`), computes one (`run`),
compares those of both models (`compare`), says what came out (`verdict`), and shows it as blocks (`show`). It holds no
state. docs/add-a-finding.md writes one from nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

import pandas as pd
import xarray as xr

from itlens.errors import ItlensError
from itlens.files import minus
from itlens.report.blocks import Block, Panel
from itlens.report.explorer_places import Place, places_of_tables

if TYPE_CHECKING:
    from itlens.annotate.chat_prompt import Cost
    from itlens.findings.benchmark import Benchmark
    from itlens.findings.detector import Detector
    from itlens.hooked.tokens import Forced
    from itlens.models import ModelPair
    from itlens.models.compatibility import Side
    from itlens.models.hooked_model import HookedModel
    from itlens.prompts import Prompt
    from itlens.prompts.formats import Framed
    from itlens.tokenization import Response

Result: TypeAlias = xr.Dataset | xr.DataArray | pd.DataFrame
Tables: TypeAlias = Mapping[str, Any]
SideName: TypeAlias = Literal["base", "tuned", "pair"]
Reads: TypeAlias = Literal["prompts", "weights", "weight_pair", "pair"]
Direction: TypeAlias = Literal["higher", "lower", "changed", "none"]
Saved: TypeAlias = Mapping[str, Mapping[str, Any]]
SIDES: tuple[str, str] = ("base", "tuned")
LONGEST_WORD = 30  # characters of an answer that stands in a column of answers


@dataclass(frozen=True)
class Headline:
    """A number that a verdict rests on. low, high: of its 95 % interval; p: after correction where there is one.

    name: what it is, in words ("difference of the instruction score"). unit: "nats", "points", "degrees" or "".
    signed: whether its sign is shown: a difference has one, an overlap or a share has not.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n: int | None = None
    unit: str = ""
    signed: bool = True


@dataclass(frozen=True)
class Verdict:
    """What came out, as data.

    sentence: at most two sentences: what changed (direction, size, interval), and the one caveat that matters most.
    direction: "higher", "lower" or "changed" in the tuned model, or "none" where no change is significant. tested:
    False where it could not be tested; the sentence says why. caveat: what else speaks against it. numbers: the
    figures it rests on, the most important first. short: the same as a clause without a full stop, for a list of
    findings. word: the answer in a word or two, where the words of `direction` do not answer the question ("not
    shown"). Raises ItlensError for a `word` that is no short text.
    """

    sentence: str
    direction: Direction = "none"
    tested: bool = True
    caveat: str = ""
    numbers: tuple[Headline, ...] = ()
    short: str = ""
    word: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.word, str) or len(self.word) > LONGEST_WORD:
            raise ItlensError(
                f"A verdict's word is {self.word!r}; expected a text of at most {LONGEST_WORD} characters: say the "
                "rest in its sentence."
            )
        for name in ("sentence", "caveat", "short", "word"):  # as figures and tables write numbers
            object.__setattr__(self, name, minus(str(getattr(self, name))))

    @property
    def answer(self) -> str:
        """In a word or two: not tested, else `word`, else higher, lower, changed or no significant change."""
        if not self.tested:
            return "not tested"
        if self.word:
            return self.word
        return "no significant change" if self.direction == "none" else self.direction


class Tokens(Protocol):
    """How the study's models read its prompts (`itlens.study.responses`)."""

    format: str
    max_new_tokens: int
    prepend_bos: bool | None
    responses: Literal["own", "tuned", "base"]

    def response(self, model: HookedModel, side: str, number: int) -> Response | None:
        """The response of prompt `number` (from 0) that this side is read on: a text, or ids; generated once."""

    @property
    def pair_writer(self) -> Literal["base", "tuned"]:
        """Whose responses both models read, where they need the same tokens."""

    def forced(self, pair: ModelPair, numbers: Sequence[int] | None = None) -> list[Forced]:
        """The prompts that both models read on the same tokens, as the model reads them that wrote the responses; it is
        loaded for that once."""


@dataclass(frozen=True)
class Plan:
    """What was asked, checked and immutable.

    options: this finding's `Options`, loaded. models: base and tuned as far as they are known without their weights
    (`facts`, `tokenizer`, `name`). prompts: as the models read them. layers, heads: the models' own, all of them.
    side: whose result is computed ("base", "tuned", "pair"; "" in `compare`). tell: called with (done, all) within one
    unit. settings: what people are told of the study (its `settings`), without the options of findings.
    """

    options: Any
    models: Mapping[str, Side]
    prompts: Sequence[Prompt] = ()
    layers: tuple[int, ...] = ()
    heads: int = 0
    seed: int = 0
    side: str = ""
    reading: Tokens | None = None
    frames: Sequence[Framed] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    tell: Callable[[int, int], None] = lambda done, everything: None
    find_tables: Callable[[str], Tables | None] = lambda name: None
    find_saved: Callable[[str, str, str], Any] = lambda name, side, unit: None
    find_changes: Callable[[], Mapping[str, pd.DataFrame]] = dict

    def tables(self, name: str) -> Tables | None:
        """The tables of a finding that was compared before this one (see `Finding.uses`); None where it was not."""
        return self.find_tables(name)

    def saved(self, name: str, unit: str, side: str = "") -> Any:
        """A finished result of another finding, of this side or of the one given; None where there is none."""
        return self.find_saved(name, side or self.side, unit)

    def changes(self) -> Mapping[str, pd.DataFrame]:
        """The changes by prompt of every finding that was compared before this one and has some (`Finding.changes`)."""
        return self.find_changes()

    def sample(self, count: int) -> list[int]:
        """Draw the numbers (from 0, ascending) of `count` prompts by the seed: all where there are fewer."""
        import numpy as np

        every = len(self.prompts)
        drawn = np.random.default_rng(self.seed).choice(every, size=min(count, every), replace=False)
        return sorted(int(number) for number in drawn)

    def prompt_units(self, numbers: Sequence[int] | None = None) -> list[str]:
        """A unit's name for each prompt, or for those with these numbers (from 0)."""
        wanted = range(len(self.prompts)) if numbers is None else numbers
        return [unit_of_prompt(number, self.prompts[number]) for number in wanted]

    def number_of(self, unit: str) -> int:
        """The number (from 0) of the prompt that a unit of `prompt_units` is of."""
        return number_of_unit(unit)


def unit_of_prompt(number: int, prompt: Prompt) -> str:
    """The name of the result file of one prompt; number counts from 0, the name from 1."""
    import re

    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", prompt.id).strip("-.")[:60]
    return f"{number + 1:04d}-{readable or 'prompt'}"


def number_of_unit(unit: str) -> int:
    """The number (from 0) of the prompt that a unit named by `unit_of_prompt` is of."""
    return int(unit.split("-", 1)[0]) - 1


@dataclass(frozen=True)
class NoOptions:
    """The options of a finding that has none."""


class Finding(ABC):
    """One question to a base and a tuned model, from its options to what is shown. A subclass per finding, no state.

    name: of --probes, of the folder in the run, the key in `Comparison.results`, the anchor in the report. question:
    the heading of its section. label: its name in menus ("": the name in words). topic: what it is about, as a noun
    phrase ("the instruction score"). reads: "prompts" (run gets a loaded model), "weights" (an
    `itlens.weights.Weights`), "weight_pair" (an `itlens.weights.WeightPair`: both models' weights, without prompts) or
    "pair" (the `ModelPair`). Options: a frozen
    dataclass of `option`s. uses: findings whose tables or results it reads where they are there. unit: what a unit
    is, in the plural ("prompts", "layers"). by_prompt: whether its units are those of `Plan.prompt_units` and the
    result of each depends on its own prompt alone: then more prompts leave them finished, and one that fails is left
    out.

    A result is an xarray object or a DataFrame, with provenance in `.attrs`. Names of tables that begin with "_" stay
    in memory, for `show` and `per_prompt`; the others are written to tables/.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    reads: ClassVar[Reads]
    label: ClassVar[str] = ""
    topic: ClassVar[str] = ""
    Options: ClassVar[type] = NoOptions
    uses: ClassVar[tuple[str, ...]] = ()
    # names under which a Comparison offers parts of this finding's tables (`shortcuts`); None where it was not compared
    shortcut_names: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = "results"
    by_prompt: ClassVar[bool] = False
    order: ClassVar[int] = 100  # among the package's own findings, in which they run and are shown
    # tables that no spreadsheet could open (a row per word pair of a large model): Parquet only, no CSV
    large: ClassVar[tuple[str, ...]] = ()

    # ---- what every finding has

    @abstractmethod
    def units(self, plan: Plan) -> Sequence[str]:
        """Names of the result files that make one model (or the pair) finished."""

    @abstractmethod
    def run(self, source: Any, unit: str, plan: Plan) -> Result | Mapping[str, Result]:
        """Compute one unit. source: what `open` returned: by default what `reads` says."""

    @abstractmethod
    def compare(self, saved: Saved, plan: Plan) -> Tables:
        """Compare what is finished: `saved["base"][unit]` and `saved["tuned"][unit]`, or
        `saved["pair"][unit]`.

        Only units that both sides have are in `saved`, in the order of `units`. Returns tables by name.
        """

    @abstractmethod
    def verdict(self, tables: Tables) -> Verdict:
        """Say what came out."""

    @abstractmethod
    def show(self, tables: Tables) -> Sequence[Block]:
        """Return the blocks of its section, in the order of the page."""

    @property
    def reads_prompts(self) -> bool:
        """Whether its results depend on the study's prompts."""
        return self.reads in ("prompts", "pair")

    @property
    def reads_both(self) -> bool:
        """Whether a unit reads both models: its results are of the side "pair"."""
        return self.reads in ("weight_pair", "pair")

    # ---- with working defaults

    def notes(self, tables: Tables, plan: Plan) -> Sequence[str]:
        """Caveats: what a reader must know before believing the figures, a sentence each."""
        return ()

    def check(self, plan: Plan) -> None:
        """Raise an ItlensError for options that the models or prompts do not allow; called before weights load."""
        return

    def leaves_out(self, error: ItlensError) -> bool:
        """Return whether a unit that fails like this is left out, and the others go on."""
        return self.by_prompt

    def open(self, source: Any, plan: Plan) -> Any:
        """Prepare what all units of one model share (the vectors of words); its return value is `run`'s source."""
        return source

    def cost(self, plan: Plan) -> Cost | None:
        """What a remote labeller will take, about (a `Cost`), announced before anything is loaded; None: nothing."""
        return None

    def describe(self, plan: Plan) -> Mapping[str, object]:
        """Settings that results depend on and that follow from the options ("prompts_drawn": 16): identity too."""
        return {}

    def reconsider(self, verdict: Verdict, others: Mapping[str, Verdict]) -> Verdict:
        """Return the verdict in the light of the other findings' verdicts: doubt belongs where a claim is made."""
        return verdict

    def terms(self, tables: Tables) -> Mapping[str, str]:
        """Words of the section that need a definition."""
        return {}

    def places(self, tables: Tables) -> Sequence[Place]:
        """What is known of single heads and layers, for the panels of the page; by default, the numbers of tables
        with a row for each layer or head (`itlens.report.explorer_places.places_of_tables`)."""
        return places_of_tables(tables)

    def per_prompt(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """Numbers by model and prompt, for template x weights and for series: columns model, id, group, then numbers.

        A text column "tokens" (a digest of what was read) restricts the numbers to prompts that all models read alike.
        """
        return None

    def prompt_numbers(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """Numbers by model and prompt for the page's chapter of prompts, as `per_prompt` has them: by default, those.

        Further ones are of the page only: of a sample of the prompts, or of responses that no other study shares.
        """
        return self.per_prompt(tables, plan)

    def changes(self, tables: Tables, plan: Plan) -> pd.DataFrame | None:
        """How much each prompt changed, for findings that relate others to their own: columns id, then numbers.

        By default the differences, tuned - base, of `per_prompt`; numbers of both models together belong here too.
        """
        numbers = self.per_prompt(tables, plan)
        if numbers is None:
            return None
        base, tuned = (numbers[numbers["model"] == side].set_index("id").select_dtypes("number") for side in SIDES)
        return (tuned - base).reindex(base.index).reset_index()

    def prompt_panels(self, tables: Tables, prompt_id: str) -> Sequence[Panel]:
        """Panels of one prompt, for the page's chapter of prompts: coloured tokens, attention patterns."""
        return ()

    def distances(self, tables: Tables) -> Mapping[str, float]:
        """How far apart two models are, a few numbers for the table of a series."""
        return {}

    def detectors(self) -> Sequence[type[Detector]]:
        """Classes of `itlens.findings.detector.Detector` that read this finding in `itlens selftest`."""
        return ()

    def benchmarks(self) -> Sequence[type[Benchmark]]:
        """Classes of `itlens.findings.benchmark.Benchmark` that measure its cost in `itlens bench`."""
        return ()

    def shortcuts(self, tables: Tables) -> Mapping[str, object]:
        """Return, by the names of `shortcut_names`, what a `Comparison` offers of these tables as attributes."""
        return {}
