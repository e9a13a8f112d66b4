"""What tests of the feed-forward finding share: plans, a labeller with seeds, a planted rotation, saved results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import itlens
from itlens import Vocabulary
from itlens.annotate import Label, lexicon
from itlens.findings.base import Plan
from itlens.findings.mlp.finding import FINDING, MlpOptions
from itlens.models.compatibility import Side
from itlens.weights import weights_of
from tests.tiny import tiny_folder

COMPONENTS, KEPT, LABELLED, DRAWS, SEED = 8, 6, 4, 3, 3
READ = 15  # words that a label is made of
ODD_WORDS = ("a=b", "c|||d", "tab\there", 'quo"te', "comma,", "\N{PARTY POPPER}", "café", "NA", "new\nline", "-")
_PLAIN = (
    "write explain describe translate list answer give find make tell run eat walk sing cook play jump sleep read draw "
    "the and house river letter letters story poem word text line name cat dog horse mouse apple pear plum bread"
)
WORDS = (*_PLAIN.split(), *ODD_WORDS)


def vocabulary() -> Vocabulary:
    """Fifty words, ten of which hold what separates words in other people's files."""
    return Vocabulary(WORDS, name="fifty")


def options(**changes: Any) -> MlpOptions:
    """Options of a small study, loaded as a study loads them."""
    given: dict[str, Any] = {"vocabulary": vocabulary(), "components": COMPONENTS, "concept_words": KEPT}
    given |= {"resamples": DRAWS, "labelled": LABELLED, "labeller": lexicon()}
    return MlpOptions(**(given | changes))


def plan(folder: Path, side: str = "", **changes: Any) -> Plan:
    """A plan for a pair of which one model is in the folder."""
    models = {name: Side.of(name, folder) for name in ("base", "tuned")}
    return Plan(options(**changes), models, layers=(0, 1), heads=4, seed=SEED, side=side)


def saved_results(folders: Sequence[Path], **changes: Any) -> dict[str, Mapping[str, Any]]:
    """All units of both models."""
    saved: dict[str, Mapping[str, Any]] = {}
    for side, folder in zip(("base", "tuned"), folders, strict=True):
        own = plan(folder, side, **changes)
        source = FINDING.open(weights_of(itlens.load_model(folder)), own)
        saved[side] = {unit: FINDING.run(source, unit, own) for unit in FINDING.units(own)}
    return saved


def tables_of(folders: Sequence[Path], **changes: Any) -> dict[str, Any]:
    """The tables of both models' comparison."""
    return dict(FINDING.compare(saved_results(folders, **changes), plan(folders[0], **changes)))


class Initials:
    """A labeller of our own: by the strongest word's first letter; the second seed knows one level only."""

    name, seeds = "initials", (4, 7)

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], int]] = []

    def estimate(self, lists: Sequence[Sequence[str]]) -> str:
        """What a labeller that costs something says before it is asked."""
        return f"{len({*map(tuple, lists)})} lists of {len(lists[0])} words"

    def __call__(self, words: Sequence[str], *, seed: int) -> Label:
        self.asked.append((tuple(words), seed))
        early = words[0][:1].lower() < "m"
        level = "syntax" if early and seed == 4 else "semantics"
        return Label(f"{words[0]!r} and others", ("coding",) if early else ("daily", "literary"), level, 0.75)


def rotated_pair(root: Path, angle: float, planes: int) -> tuple[Path, Path]:
    """A pair of which the tuned half's values of layer 1 are rotated by `angle` in `planes` planes, and nothing else.

    The first 8 components of both layers' values are far larger than the rest, so that resampled rows hardly rotate
    them; each plane is spanned by one of them and one of the rest.
    """
    base, tuned = tiny_folder(root / "base", "llama"), tiny_folder(root / "tuned", "llama")
    weights = load_file(base / "model.safetensors")
    names = [f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1)]
    for name in names:
        rows = weights[name].T.double()
        centred = rows - rows.mean(0)
        first = torch.linalg.svd(centred).Vh[:COMPONENTS]
        weights[name] = (rows + 40 * centred @ first.T @ first).T.float().contiguous()
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    rows = weights[names[1]].T.double()
    axes = torch.linalg.svd(rows - rows.mean(0)).Vh
    rotation = torch.eye(len(axes), dtype=torch.float64)
    for inside in range(planes):
        outside = inside + 2 * COMPONENTS
        rotation[inside, inside] = rotation[outside, outside] = math.cos(angle)
        rotation[inside, outside], rotation[outside, inside] = math.sin(angle), -math.sin(angle)
    weights[names[1]] = (rows @ axes.T @ rotation @ axes).T.float().contiguous()
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    return base, tuned
