"""What a comparison of concepts says about rotation, and about rotation toward user tasks.

ROTATION is significant where more layers are below the noise floor of their rows than chance puts there: one in 1 +
draws each, layers taken as independent, one-sided binomial test. USER TASKS: the share of concepts that serve any user
task changed where its permutation test is significant and its bootstrap interval excludes 0. A rotation TOWARD user
tasks is claimed only where both are significant and the share rose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from itlens.errors import ResultError
from itlens.findings.base import Headline, Verdict
from itlens.findings.mlp.diff_labels import ANY, KNOWN, NONE
from itlens.findings.mlp.vectors import quoted_k
from itlens.stats.paired import p_text

ALPHA = 0.05
SAME = 1e-6  # radians; directions are stored with 7 digits
_FEW = 2  # kinds of vectors that a sentence of the verdict has room for with all their figures
Outcome: TypeAlias = Literal["same", "unrelated", "not tested", "rotated", "within noise"]


class Rotation(NamedTuple):
    """One kind of vectors at one k: means over layers, and how many layers are below the noise floor.

    outcome: "same" (no angle at all), "unrelated" (in every layer no more alike than random subspaces), "not tested"
    (no noise floor), "rotated" or "within noise". angle: degrees. lowest: the layer of the least overlap, and that
    overlap. floor, p: NaN without a noise floor. least_p: where all layers are below it. without_gap: layers whose
    spectrum is degenerate at k.
    """

    vectors: str
    k: int
    outcome: Outcome
    layers: int
    overlap: float
    angle: float
    random: float
    floor: float
    lowest: tuple[int, float]
    below: int
    by_chance: float
    p: float
    least_p: float
    without_gap: int
    alpha: float = ALPHA

    @property
    def changed(self) -> bool:
        """Whether the subspaces rotated beyond the noise, where it is known."""
        return self.outcome == "rotated" or (self.outcome == "unrelated" and not self.p >= self.alpha)


class TaskShare(NamedTuple):
    """The share of one kind's concepts that serve any user task, 0 to 1, with interval and tests of tuned - base.

    concepts: what the shares of base and tuned are out of. reason: why there is no test, "" where there is one.
    """

    base: float
    tuned: float
    difference: float
    low: float
    high: float
    p: float
    p_seeds: float
    concepts: tuple[float, float]
    out_of: str
    reason: str
    alpha: float = ALPHA

    @property
    def changed(self) -> bool:
        """Whether both the permutation test and the bootstrap interval say so."""
        return not self.reason and self.p < self.alpha and not self.low <= 0 <= self.high

    @property
    def disputed(self) -> bool:
        """Whether only one of the two says so."""
        return not self.reason and (self.p < self.alpha) == (self.low <= 0 <= self.high)


def read_rotation(ds: xr.Dataset, k: int | None = None, alpha: float = ALPHA) -> Rotation:
    """Return what `itlens.diff.concepts` found at one k (None: the quoted one). Raises ResultError."""
    if not isinstance(ds, xr.Dataset) or ds.attrs.get("probe") != "diff.concepts":
        raise ResultError("concepts_verdict takes the Dataset of itlens.diff.concepts; got something else.")
    known = ds["k"].values.tolist()
    if k is not None and k not in known:
        raise ResultError(f"k={k!r} was not compared; there are {', '.join(map(str, known))}.")
    size = quoted_k(ds) if k is None else k
    at_k = ds.sel(k=size)
    overlap, layers = at_k["overlap"], at_k.sizes["layer"]
    floors = np.concatenate([at_k[f"floor_{side}"].values for side in ("base", "tuned")])
    floor = float(floors[np.isfinite(floors)].mean()) if np.isfinite(floors).any() else np.nan
    below, chance = int(at_k["below_floor"].sum()), float(ds.attrs["chance_below"])
    p = float(stats.binom.sf(below - 1, layers, chance)) if np.isfinite(floor) else np.nan
    lowest = int(np.argmin(overlap.values))
    outcome: Outcome = "rotated" if p < alpha else "within noise" if np.isfinite(floor) else "not tested"
    if float(ds["angle"].max()) < SAME:
        outcome = "same"
    elif bool((overlap <= at_k["random_high"]).all()):
        outcome = "unrelated"
    return Rotation(
        vectors=str(ds.attrs["vectors"]),
        k=int(size),
        outcome=outcome,
        layers=layers,
        overlap=float(overlap.mean()),
        angle=float(np.degrees(float(at_k["mean_angle"].mean()))),
        random=float(at_k["random_overlap"]),
        floor=floor,
        lowest=(int(overlap["layer"][lowest]), float(overlap[lowest])),
        below=below,
        by_chance=layers * chance,
        p=p,
        least_p=chance**layers,
        without_gap=int(at_k["degenerate"].sum()),
        alpha=alpha,
    )


def read_task_share(shares: pd.DataFrame, alpha: float = ALPHA) -> TaskShare:
    """Return what `itlens.diff.concept_shares` found for any user task. Raises ResultError for another table."""
    table = _all_layers(shares)
    row = table[(table["kind"] == "task") & (table["category"] == ANY)].iloc[0]
    out_of = "labelled concepts" if shares.attrs.get("of", KNOWN) == KNOWN else "concepts"
    concepts = (float(row["base_concepts"]), float(row["tuned_concepts"]))
    reason = ""
    if not np.isfinite(row["p"]):
        reason = str(row["note"])
    elif row["base"] == 0 and row["tuned"] == 0:  # two empty shares are no evidence that nothing rotated
        counts = f"{concepts[0]:.0f} and {concepts[1]:.0f} {out_of}"
        reason = f"none of {counts} serves a user task in either model"
    base, tuned, difference, low, high, p, p_seeds = (
        float(row[name]) for name in ("base", "tuned", "difference", "ci_low", "ci_high", "p", "p_seeds")
    )
    return TaskShare(
        base, tuned, difference, low, high, p, p_seeds, concepts=concepts, out_of=out_of, reason=reason, alpha=alpha
    )


def concepts_verdict(
    ds: xr.Dataset, shares: pd.DataFrame | None = None, *, k: int | None = None, alpha: float = ALPHA
) -> str:
    """Return finding 3 in plain words: how far the concept subspaces rotated, and whether toward user tasks.

    ds: the result of `itlens.diff.concepts`. shares: of `itlens.diff.concept_shares`. k: the size that is quoted (None:
    100, or the largest below). Rotation toward user tasks needs both: more layers below the noise floor of their rows
    than chance puts there (one in 1 + draws each; binomial, layers taken as independent, p below alpha), and a share of
    concepts that serve any user task that rose (permutation p below alpha, and a 95 % bootstrap interval above 0).

    Raises ResultError for other results, and for a k that was not compared.
    """
    rotation = read_rotation(ds, k, alpha)
    sentences = [_same(ds) if rotation.outcome == "same" else _rotated(rotation)]
    if shares is not None:
        task = read_task_share(shares, alpha)
        sentences.append(_toward_tasks(task, rotation))
        sentences += [_single(shares, alpha)] if np.isfinite(task.p) else []
    return " ".join(sentences)


def _count(number: int) -> str:
    return f"{number} layer{'' if number == 1 else 's'}"


def _same(ds: xr.Dataset) -> str:
    sizes = ", ".join(map(str, ds["k"].values))
    return (
        f"No rotation: the {ds.attrs['vectors']} subspaces of base and tuned model are the same "
        f"({_count(ds.sizes['layer'])}, k = {sizes}, no principal angle above {SAME:g} rad)."
    )


def _rotated(rotation: Rotation) -> str:
    nulls = f"random subspaces {rotation.random:.3f}"
    nulls += f", resampled rows of one model {rotation.floor:.3f}" if np.isfinite(rotation.floor) else ""
    figures = (
        f"the spans of the first {rotation.k} {rotation.vectors} components overlap by {rotation.overlap:.3f} on "
        f"average over {_count(rotation.layers)} ({nulls}; mean angle {rotation.angle:.1f} degrees), least in layer "
        f"{rotation.lowest[0]} ({rotation.lowest[1]:.3f})"
    )
    gap = ""
    if rotation.without_gap:
        gap = (
            f" In {rotation.without_gap} of {_count(rotation.layers)} the spectrum has no gap there, so that the "
            "largest angles mean little."
        )
    return f"{_outcome(rotation)}: {figures}.{gap}"


def _outcome(rotation: Rotation) -> str:
    if rotation.outcome == "unrelated":
        return "The concept subspaces of the two models are no more alike than random ones"
    if rotation.outcome == "not tested":
        return "Not tested whether they rotated more than row noise (no resampled rows: `resamples`)"
    if not rotation.below:
        return f"No significant rotation: no layer of {rotation.layers} rotated more than resampled rows of one model"
    head = "Significant rotation" if rotation.outcome == "rotated" else "No significant rotation"
    return (
        f"{head}: {rotation.below} of {_count(rotation.layers)} rotated more than resampled rows of one model "
        f"({rotation.by_chance:.1f} expected by chance, {p_text(rotation.p)})"
    )


def _toward_tasks(task: TaskShare, rotation: Rotation) -> str:
    if task.reason:
        return f"Rotation toward user tasks was not tested: {task.reason}."
    seeds = ""
    if np.isfinite(task.p_seeds) and (task.p_seeds < task.alpha) != (task.p < task.alpha):
        seeds = f", but {p_text(task.p_seeds)} by the paper's t-test over seeds"
    return (
        f"{_direction(task, rotation)}: of the {task.out_of}, {100 * task.base:.1f} % serve a user task in the base "
        f"model and {100 * task.tuned:.1f} % in the tuned one (difference {_points(task.difference)} points, 95 % "
        f"interval {_points(task.low)} to {_points(task.high)}, permutation {p_text(task.p)}{seeds})."
    )


def _direction(task: TaskShare, rotation: Rotation) -> str:
    if not task.changed:
        return "No significant rotation toward user tasks"
    if task.difference < 0:
        return "Significantly fewer concepts serve user tasks"
    if rotation.changed:
        return "Significant rotation toward user tasks"
    if rotation.outcome == "not tested":
        return "More concepts serve user tasks; not tested whether by a rotation (no resampled rows)"
    return "More concepts serve user tasks, but without a significant rotation"


def _single(shares: pd.DataFrame, alpha: float) -> str:
    """The single tasks and levels that changed significantly."""
    table = _all_layers(shares)
    single = table[~table["category"].isin([ANY, NONE, KNOWN]) & (table["p_holm"] < alpha)]
    if single.empty:
        return "No single task or level changed significantly (Holm)."
    changes = [
        f"{row['category']} {'rose' if row['difference'] > 0 else 'fell'} from {100 * row['base']:.1f} % to "
        f"{100 * row['tuned']:.1f} %"
        for row in single.to_dict("records")
    ]
    return f"Single ones that changed significantly (Holm): {', '.join(changes)}."


def _all_layers(shares: object) -> pd.DataFrame:
    if not isinstance(shares, pd.DataFrame) or not {"group", "kind", "category", "p_holm"} <= {*shares.columns}:
        raise ResultError("shares is no result of itlens.diff.concept_shares.")
    return shares[shares["group"] == "all"]


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def concept_verdict(rotations: Sequence[Rotation], tasks: Mapping[str, TaskShare]) -> Verdict:
    """Return one verdict on all kinds of vectors. tasks: by kind of vectors, of those that were labelled."""
    changed = [rotation for rotation in rotations if rotation.changed]
    tested = any(rotation.outcome != "not tested" for rotation in rotations)
    return Verdict(
        sentence=f"{_first_sentence(rotations, changed, tested)} {_second_sentence(rotations, tasks)}".strip(),
        direction="changed" if changed else "none",
        tested=tested,
        caveat=_caveat(rotations, tasks, bool(changed)),
        numbers=tuple(_headlines(rotations, tasks)),
        short=_short(rotations, changed, tested),
    )


def _first_sentence(rotations: Sequence[Rotation], changed: Sequence[Rotation], tested: bool) -> str:
    if all(rotation.outcome == "same" for rotation in rotations):
        return f"No change: the {_listed(rotations)} subspaces of base and tuned model are the same."
    figures = "; ".join(_figures(rotation, full=len(rotations) <= _FEW) for rotation in rotations)
    if not tested:
        return f"Not tested: without resampled neurons there is no noise floor; {figures}."
    if not changed:
        return f"No significant change of the subspaces of feed-forward concepts: {figures}."
    return f"The {_listed(changed)} subspaces of feed-forward concepts rotated: {figures}."


def _listed(rotations: Sequence[Rotation]) -> str:
    names = [rotation.vectors for rotation in rotations]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _figures(rotation: Rotation, *, full: bool) -> str:
    if rotation.outcome == "same":
        return f"{rotation.vectors}s are the same"
    overlap = f"{rotation.vectors}s overlap by {rotation.overlap:.3f} at k = {rotation.k}"
    if not np.isfinite(rotation.floor):
        return f"{overlap} (random ones by {rotation.random:.3f})"
    chance = f"{rotation.by_chance:.1f} expected by chance, " if full else ""
    return (
        f"{overlap} (noise floor {rotation.floor:.3f}; {rotation.below} of {_count(rotation.layers)} below it, {chance}"
        f"{p_text(rotation.p)})"
    )


def _second_sentence(rotations: Sequence[Rotation], tasks: Mapping[str, TaskShare]) -> str:
    if not tasks:
        return ""
    tested = {name: task for name, task in tasks.items() if not task.reason}
    if not tested:
        return f"Whether more concepts serve user tasks was not tested: {next(iter(tasks.values())).reason}."
    figures = "; ".join(_task_figures(name, task, full=len(tasks) <= _FEW) for name, task in tested.items())
    changed = [name for name, task in tested.items() if task.changed]
    if not changed:
        return f"No significant change of the share of concepts that serve a user task: {figures}."
    rotated = {rotation.vectors for rotation in rotations if rotation.changed}
    toward = [name for name in changed if name in rotated and tested[name].difference > 0]
    head = "The rotation is toward user tasks" if toward else "The share of concepts that serve a user task changed"
    return f"{head}: {figures}."


def _task_figures(name: str, task: TaskShare, *, full: bool) -> str:
    interval = f"95 % interval {_points(task.low)} to {_points(task.high)}, " if full else ""
    return f"{name}s {_points(task.difference)} points ({interval}{p_text(task.p)})"


def _caveat(rotations: Sequence[Rotation], tasks: Mapping[str, TaskShare], changed: bool) -> str:
    """The first that applies: no power, interval against test, undefined spans, what the noise floor leaves out."""
    moving = [rotation for rotation in rotations if rotation.outcome != "same"]
    powerless = [rotation for rotation in moving if rotation.least_p >= rotation.alpha]
    if powerless and not changed and np.isfinite(powerless[0].p):
        return (
            f"With {_count(powerless[0].layers)} and so few draws of the neurons no rotation could be significant: "
            "more `resamples` are needed."
        )
    disputed = [name for name, task in tasks.items() if task.disputed]
    if disputed:
        return (
            f"Permutation test and bootstrap interval of the share of user tasks disagree for {disputed[0]} concepts: "
            "the evidence is borderline."
        )
    flat = [rotation for rotation in moving if rotation.without_gap]
    if flat:
        return (
            f"In {flat[0].without_gap} of {_count(flat[0].layers)} the spectrum of {flat[0].vectors} vectors has no "
            f"gap at k = {flat[0].k}: the largest angles mean little there."
        )
    if changed:
        return "The noise floor resamples neurons; it is not a second training run, which would rotate subspaces too."
    return ""


def _headlines(rotations: Sequence[Rotation], tasks: Mapping[str, TaskShare]) -> list[Headline]:
    numbers = []
    for rotation in rotations:
        p = rotation.p if np.isfinite(rotation.p) else None
        nulls = f"random {rotation.random:.3f}"
        nulls += f", noise floor {rotation.floor:.3f}" if np.isfinite(rotation.floor) else ""
        name = f"{rotation.vectors} subspaces"
        numbers.append(
            Headline(
                f"overlap of {name}, k = {rotation.k} ({nulls})", rotation.overlap, p=p, n=rotation.layers, signed=False
            )
        )
        if p is not None:
            text = f"layers whose {name} are below the noise floor ({rotation.by_chance:.1f} by chance)"
            numbers.append(Headline(text, rotation.below, p=p, n=rotation.layers))
        numbers.append(Headline(f"mean angle of {name}", rotation.angle, n=rotation.layers, unit="degrees"))
    for name, task in tasks.items():
        tested = not task.reason
        numbers.append(
            Headline(
                f"{name} concepts that serve a user task, tuned - base",
                100 * task.difference if np.isfinite(task.difference) else None,
                low=100 * task.low if tested else None,
                high=100 * task.high if tested else None,
                p=task.p if tested else None,
                n=round(sum(task.concepts)),
                unit="points",
            )
        )
    return numbers


def _short(rotations: Sequence[Rotation], changed: Sequence[Rotation], tested: bool) -> str:
    if not tested:
        return "rotation of concepts, without a noise floor"
    if not changed:
        return "no significant rotation of concept subspaces"
    overlaps = " and ".join(f"{rotation.overlap:.2f}" for rotation in changed)
    return f"{_listed(changed)} subspaces rotated (overlap {overlaps})"
