"""What the tests of the feed-forward part share: what is asked, a labeller with seeds, a planted turn, counting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file

from itlens.annotate import Label
from itlens.models import pair as pair_module
from itlens.study import Comparison, mlp_runs
from tests.study.word_runs import vocabulary
from tests.tiny import tiny_folder

COMPONENTS, KEPT, LABELLED, DRAWS, SEED = 8, 6, 4, 3, 3
READ = 15  # words that a label is made of


def asked(**changes: Any) -> dict[str, Any]:
    """The arguments of `compare` for the feed-forward part alone."""
    options: dict[str, Any] = {"probes": "mlp", "vocabulary": vocabulary(), "components": COMPONENTS}
    options |= {"concept_words": KEPT, "resamples": DRAWS, "labelled": LABELLED, "seed": SEED, "progress": False}
    return options | changes


def concept_files(folder: Path) -> list[str]:
    """The files of finished layers of a run folder, relative to its `concepts`."""
    return sorted(str(path.relative_to(folder / "concepts")) for path in folder.glob("concepts/*/*"))


def same_concepts(found: Comparison, expected: Comparison) -> None:
    """The same concepts and labels on all sides, and the same figures made of them."""
    assert found.concepts is not None and expected.concepts is not None
    assert list(found.concepts) == list(expected.concepts)
    for one, other in zip(found.concepts.values(), expected.concepts.values(), strict=True):
        for name in ("turned", "base", "tuned"):
            xr.testing.assert_identical(getattr(one, name), getattr(other, name))
        for name in ("base_labels", "tuned_labels", "changes", "shares"):
            pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).attrs == getattr(other, name).attrs
    assert found.verdict == expected.verdict


class CountedConcepts:
    """What a study did: `probed` as (model, side, layer), and the models it `loaded`, by the folder's name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None, error: Any = None) -> None:
        self.probed: list[tuple[str, str, int]] = []
        self.loaded: list[str] = []
        mlp_layers, load_model = mlp_runs.mlp_layers, pair_module.load_model

        def counted_layers(model: Any, *args: Any, **options: Any) -> Iterator[xr.Dataset]:
            for found in mlp_layers(model, *args, **options):
                if stop_at is not None and len(self.probed) == stop_at:
                    raise error
                self.probed.append((Path(model.itlens_source.name).name, options["side"], int(found["layer"][0])))
                yield found

        @wraps(load_model)
        def counted_load(name: Any, **options: Any) -> Any:
            self.loaded.append(Path(name).name)
            return load_model(name, **options)

        monkeypatch.setattr(mlp_runs, "mlp_layers", counted_layers)
        monkeypatch.setattr(pair_module, "load_model", counted_load)


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


def turned_pair(root: Path, angle: float, planes: int) -> tuple[Path, Path]:
    """A pair of which the tuned half's values of layer 1 are turned by `angle` in `planes` planes, and nothing else.

    The first 8 components of both layers' values are far larger than the rest, so that resampled rows hardly turn
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
    turn = torch.eye(len(axes), dtype=torch.float64)
    for one in range(planes):
        other = one + 2 * COMPONENTS
        turn[one, one] = turn[other, other] = math.cos(angle)
        turn[one, other], turn[other, one] = math.sin(angle), -math.sin(angle)
    weights[names[1]] = (rows @ axes.T @ turn @ axes).T.float().contiguous()
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    return base, tuned
