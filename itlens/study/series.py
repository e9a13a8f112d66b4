"""`compare_series`: any number of models of one shape, each compared with the first, and all of them in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from itlens.errors import PairError, ProbeError, StoreError
from itlens.findings import findings
from itlens.findings.base import Finding
from itlens.prompts import Prompt
from itlens.report.page_data import Page
from itlens.results.provenance import short_name
from itlens.stats.linearity import linearity_sentence, linearity_table
from itlens.stats.series import ModelSeries, series, series_verdict
from itlens.study.comparison import Comparison, open_comparison, plan_of
from itlens.study.failure import Failure, guarded, let_go
from itlens.study.folder import RunFolder
from itlens.study.numbers import PromptNumbers, numbers_of_finding
from itlens.study.request import LOAD, chosen_findings
from itlens.study.results import SavedResults
from itlens.study.several import SeveralFolder, notices

_ALPHAS = "alphas"


@dataclass(frozen=True)
class SeriesComparison:
    """Several tuned models compared with one base, and what the comparisons say along the series.

    out: the folder. labels: of the models, in order. folders: the run folder of each model after the first. first,
    neighbours: `itlens.diff.series` of each prompt's numbers, against the first model and against the one before; None
    where no finding has numbers for all models. distances: how far apart weights and activations of each pair are.
    """

    out: Path
    labels: tuple[str, ...]
    folders: tuple[Path, ...]
    first: ModelSeries | None
    neighbours: ModelSeries | None
    distances: pd.DataFrame
    notes: list[str]
    alphas: tuple[float, ...] = ()
    linearity: pd.DataFrame | None = None

    @property
    def report_path(self) -> Path:
        """The page of the whole series; each pair has its own next to it."""
        return SeveralFolder(self.out, "series").page

    @property
    def page(self) -> Page:
        """What the page and the terminal draw."""
        from itlens.study.several_outcome import series_page

        return series_page(self)

    def comparison(self, label: str) -> Comparison:
        """Return the comparison of a model with the first. Raises StoreError for a label that there is not."""
        if label not in self.labels[1:]:
            raise StoreError(f"There is no comparison {label!r}; there are {', '.join(map(repr, self.labels[1:]))}.")
        return open_comparison(self.folders[self.labels.index(label) - 1])

    @cached_property
    def answers(self) -> list[str]:
        """What came out, a sentence or two for each statistic."""
        if self.first is None:
            return [f"{len(self.labels)} models: {', '.join(self.labels)}; see the distances between them."]
        names = list(dict.fromkeys(self.first.trend["statistic"]))
        said = [series_verdict(self.first, statistic=name) for name in names]
        if self.linearity is None:
            return said
        lines = [linearity_sentence(self.linearity, name) for name in names]
        return [f"{each} {line}" for each, line in zip(said, lines, strict=True)]

    @property
    def verdict(self) -> str:
        """The first answer."""
        return self.answers[0]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """By name, as they are written."""
        tables: dict[str, pd.DataFrame] = {"distances": self.distances} if len(self.distances.columns) > 3 else {}
        if self.first is not None and self.neighbours is not None:
            tables |= {"models": self.first.models, "trend": self.first.trend}
            both = {"first": self.first.differences, "neighbour": self.neighbours.differences}
            tables["differences"] = pd.concat([t.assign(against=name) for name, t in both.items()], ignore_index=True)
        if self.linearity is not None:
            tables["linearity"] = self.linearity
        return tables

    def __repr__(self) -> str:
        tables = [f"{name}\n{table.to_string(index=False)}" for name, table in self.tables.items() if name != "models"]
        notes = [f"Note: {note}" for note in self.notes]
        return "\n\n".join([*self.answers, *tables, *notes, f"Report: {self.report_path}"])


def compare_series(
    models: Sequence[Any] | Mapping[str, Any],
    prompts: str | Path | Iterable[Prompt] = "builtin",
    probes: str | Sequence[str] = "all",
    out: str | Path = "runs/series",
    resume: bool = True,
    *,
    labels: Sequence[str] | None = None,
    limit: int | None = None,
    interpolate: Sequence[float] | None = None,
    parts: Any = None,
    **options: Any,
) -> SeriesComparison:
    """Compare a base with every model that came of it, in order: base, fine-tuned, after preference tuning ...

    models: in order, or by label. labels: what to call them; default their short names. A folder per model after the
    first holds its comparison with the first, whose results are computed once; `out` holds the series: differences
    against the first and between neighbours, and the trend along all. Everything else is as in `itlens.compare`.

    interpolate: alphas of a series between two models (base and tuned, or a base and adapter=): each model is
    W_base + alpha (W_tuned - W_base) (`itlens.interpolate`), made when it is its turn; 0 and 1 are always among them.
    parts: what is interpolated. With responses="base" (or prompts with responses) all models read the same tokens.

    Raises PairError (fewer than two models, labels that are not one for each, models of different shape), and what
    `compare` raises.
    """
    from itlens.models import load_pair
    from itlens.models.compatibility import compare_sides
    from itlens.study.pair import compare
    from itlens.study.prompts import listed_prompts
    from itlens.study.several_outcome import write_several

    load = {name: options[name] for name in LOAD if name in options}
    alphas: list[float] = []
    if interpolate is not None:
        alphas = checked_alphas(interpolate)
        listed = _between_two(models, alphas, parts, options.pop("adapter", None), load)
        names = _named(listed, labels or [f"alpha {alpha:g}" for alpha in alphas])[1]
    elif parts is not None:
        raise ProbeError("parts is of an interpolation; give interpolate=, such as [0, 0.5, 1].")
    else:
        listed, names = _named(models, labels)
    if "adapter" in options:
        raise ProbeError("A series takes whole models; merge the adapter into its model first.")
    chosen = chosen_findings(probes)
    for label, model in zip(names[1:], listed[1:], strict=True):  # all, before hours are spent on the first
        pair = load_pair(listed[0], model, **load)
        try:
            compare_sides(pair.side("base"), pair.side("tuned"))
        except PairError as error:
            raise PairError(f"{names[0]} and {label}: {error}") from error
        pair.check_files()
    given = listed_prompts(prompts, limit) if any(finding.reads_prompts for finding in chosen) else []
    folder = SeveralFolder(out, "series")
    inside = [f"{place}-{_readable(label)}" for place, label in enumerate(names[1:], start=2)]
    runs = [folder.path / name for name in inside]
    tuned = dict(zip(runs, zip(names[1:], listed[1:], strict=True), strict=True))

    def compared_in(run: Path) -> Comparison:
        label, model = tuned[run]
        first = None if run == runs[0] else runs[0]
        return compare(
            listed[0], model, given, probes, run, resume, labels=(names[0], label), base_from=first, **options
        )

    asked: dict[str, Any] = {"labels": names, "folders": inside} | ({_ALPHAS: alphas} if alphas else {})
    with folder.opened(asked, inside):
        comparison = open_series(folder.path, compared_in)
        write_several(folder, comparison)
    return comparison


def open_series(path: str | Path, read: Callable[[Path], Comparison] = open_comparison) -> SeriesComparison:
    """Read the folder of a series. Raises StoreError where it is none, or a pair of it has nothing finished.

    read: how the run folder of a pair becomes a comparison; each is let go before the next, since the word pairs of a
    large model fill a gigabyte.
    """
    folder = SeveralFolder(path, "series")
    asked = folder.read()
    named, names = (value if isinstance(value := asked.get(key), list) else [] for key in ("labels", "folders"))
    if not len(named) == len(names) + 1 > 1 or not all(isinstance(label, str) for label in named):
        raise StoreError(f"{folder.file} does not name the models of a series; run the same command again.")
    labels = tuple(named)
    folders = tuple(folder.run_folder(name) for name in names)
    numbers = PromptNumbers(labels)
    notes: dict[str, list[str]] = {}
    rows = []
    for place, run in enumerate(folders, start=1):
        found, apart, said = _numbers_of_pair(read(run))
        for note in said:
            notes.setdefault(note, []).append(labels[place])
        numbers.add(found, ({labels[0]: "base"} if place == 1 else {}) | {labels[place]: "tuned"})
        rows.append({"against": "first", "reference": labels[0], "model": labels[place], **apart})
    for place, apart in enumerate(_between_neighbours(folders), start=2):
        if apart:
            rows.append({"against": "neighbour", "reference": labels[place - 1], "model": labels[place], **apart})
    distances = pd.DataFrame(rows).dropna(axis="columns", how="all")
    shared = _shared(numbers)
    seed = int(RunFolder(folders[0]).read_study()["settings"]["seed"])
    first, neighbours = _along(shared, seed)
    alphas = tuple(float(alpha) for alpha in asked.get(_ALPHAS) or ())
    curves = linearity_table(shared, alphas, seed=seed) if shared and len(alphas) == len(labels) else None
    said = [*notices(asked), *numbers.notes, *(f"{', '.join(models)}: {note}" for note, models in notes.items())]
    return SeriesComparison(folder.path, labels, folders, first, neighbours, distances, said, alphas, curves)


def checked_alphas(given: Any) -> list[float]:
    """Return the alphas of a series, ascending, 0 and 1 among them.

    Raises ModelError for one that is no finite number, and ProbeError for none, or one below 0: the first model of a
    series is the base.
    """
    from itlens.models.interpolation import checked_alpha

    if isinstance(given, (str, Mapping)) or not isinstance(given, Iterable):
        raise ProbeError(f"interpolate={given!r}; expected a list of numbers, such as [0, 0.5, 1].")
    found = {checked_alpha(alpha) for alpha in given}
    if not found or min(found) < 0:
        raise ProbeError(
            f"interpolate={sorted(found)}; expected numbers of at least 0: a series begins with the base (alpha 0)."
        )
    return sorted(found | {0.0, 1.0})


def _between_two(models: Any, alphas: Sequence[float], parts: Any, adapter: Any, load: Mapping[str, Any]) -> list[Any]:
    """Return the models of an interpolation, each as a way to make it; base and tuned themselves are as given."""
    from itlens.models import load_pair
    from itlens.models.interpolation import Interpolation

    given = list(models.values()) if isinstance(models, Mapping) else list(models)
    if len(given) != (1 if adapter is not None else 2):
        raise PairError(
            f"interpolate goes from one model to another, and got {len(given)}; give base and tuned, or a base and "
            "adapter=."
        )
    pair = load_pair(*given, adapter=adapter, **load)
    whole = parts is None and adapter is None
    rest = [given[-1] if alpha == 1 and whole else Interpolation(pair, alpha, parts) for alpha in alphas[1:]]
    return [given[0], *rest]


def _shared(numbers: PromptNumbers) -> dict[str, pd.DataFrame]:
    """Return each model's numbers of the prompts that all models have finished; empty without any numbers."""
    tables = numbers.joined()
    if not tables:
        return {}
    shared = set.intersection(*(set(table["id"]) for table in tables.values()))
    if not shared:
        raise StoreError("No prompt is finished by every model of the series; run the same command again.")
    return {str(label): table[table["id"].isin(shared)] for label, table in tables.items()}


def _along(tables: Mapping[str, pd.DataFrame], seed: int) -> tuple[ModelSeries | None, ModelSeries | None]:
    """Compare with the first model and with the neighbour."""
    if not tables:
        return None, None
    return series(tables, "first", seed=seed), series(tables, "neighbour", seed=seed)


def _numbers_of_pair(comparison: Comparison) -> tuple[dict[str, pd.DataFrame], dict[str, float], list[str]]:
    """Return numbers by finding and prompt, distances between a model and the first one, and caveats: a finding that
    raises here costs the later models nothing."""
    failed: list[Failure] = []
    numbers: dict[str, pd.DataFrame] = {}
    apart: dict[str, float] = {}
    for name, tables in comparison.tables.items():
        with guarded(name, "compare", failed):
            apart |= findings()[name].distances(tables)
        with guarded(name, "compare", failed):
            if (table := numbers_of_finding(comparison, name)) is not None:
                numbers[name] = table
    for failure in failed:
        let_go(failure.error)
    return numbers, apart, [*comparison.notes, *(failure.sentence for failure in failed)]


def _between_neighbours(folders: Sequence[Path]) -> Iterator[dict[str, float]]:
    """Distances between each model after the second and the one before it, from what is read off the weights."""
    models = [(folder := RunFolder(path), folder.read_study()) for path in folders]
    for earlier, later in pairwise(models):
        apart: dict[str, float] = {}
        for name, finding in findings().items():
            if finding.reads == "weights" and all(name in study["findings"] for _, study in (earlier, later)):
                apart |= _between(finding, earlier, later)
        yield apart


def _between(
    finding: Finding, earlier: tuple[RunFolder, dict[str, Any]], later: tuple[RunFolder, dict[str, Any]]
) -> Mapping[str, float]:
    plan = plan_of(finding, earlier[1], (), {})
    units = list(finding.units(plan))
    done = [set(folder.finished(study, finding.name, "tuned", units)) for folder, study in (earlier, later)]
    both = [unit for unit in units if all(unit in finished for finished in done)]
    if not both:
        return {}
    saved = {
        side: SavedResults(folder, study, finding.name, "tuned", both)
        for side, (folder, study) in zip(("base", "tuned"), (earlier, later), strict=True)
    }
    return finding.distances(finding.compare(saved, plan))


def _named(models: Any, labels: Sequence[str] | None) -> tuple[list[Any], list[str]]:
    if isinstance(models, Mapping):
        if labels is not None:
            raise PairError("The models have labels already; leave labels out, or give the models as a list.")
        listed, names = list(models.values()), [str(label) for label in models]
    elif isinstance(models, Sequence) and not isinstance(models, str):
        listed = list(models)
        names = [str(label) for label in labels] if labels is not None else _short_names(listed)
    else:
        raise PairError(f"models is a {type(models).__name__}; expected a list of models, or models by label.")
    if len(listed) < 2:
        raise PairError(
            f"A series needs two or more models, got {len(listed)}; give the base first, then its tuned versions."
        )
    if len(names) != len(listed):
        raise PairError(f"There are {len(listed)} models and {len(names)} labels; give one label for each.")
    if twice := [name for name in names if names.count(name) > 1 or not name.strip()]:
        raise PairError(f"The label {twice[0]!r} is empty or is given twice; give every model a label of its own.")
    return listed, names


def _short_names(models: list[Any]) -> list[str]:
    """Short names of paths and ids, made different by their place where they are not."""
    names = [short_name(str(model)) if isinstance(model, (str, Path)) else type(model).__name__ for model in models]
    return [name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names, start=1)]


def _readable(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.")[:40] or "model"
