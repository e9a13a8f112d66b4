"""What the tests of studies share: six prompts, copies of finished runs, and counting what is computed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from itlens.models import pair as pair_module
from itlens.prompts import Prompt
from itlens.study import Comparison, attribution_runs

NEW_TOKENS = 4
_WORDS = ("cat", "dog", "horse", "mouse", "apple", "pear")


def six_prompts() -> list[Prompt]:
    """Six short prompts in two groups."""
    return [
        Prompt(
            f"Translate the word: {word}.",
            instruction="Translate the word",
            id=f"p{n}",
            group="even" if n % 2 else "odd",
        )
        for n, word in enumerate(_WORDS, start=1)
    ]


def copied(run: Comparison, target: Path) -> Path:
    """A copy of a run folder, for a test that changes it."""
    return Path(shutil.copytree(run.out, target))


def result_files(folder: Path) -> list[str]:
    """The finished results of a run folder, relative to its `attributions`."""
    return sorted(str(path.relative_to(folder / "attributions")) for path in folder.glob("attributions/*/*.nc"))


def same_results(found: Mapping[str, xr.Dataset], expected: Mapping[str, xr.Dataset]) -> None:
    """The same prompts in the same order, and every number and text bit by bit the same."""
    assert list(found) == list(expected)
    for name, result in found.items():
        xr.testing.assert_identical(result, expected[name])
        assert result.score.values.tobytes() == expected[name].score.values.tobytes()


def same_tables(found: Comparison, expected: Comparison) -> None:
    """The same attributions on both sides, and the same figures made of them."""
    same_results(found.base, expected.base)
    same_results(found.tuned, expected.tuned)
    assert found.verdict == expected.verdict
    assert found.diff.prompts.equals(expected.diff.prompts) and found.diff.groups.equals(expected.diff.groups)
    xr.testing.assert_identical(found.diff.sensitivity, expected.diff.sensitivity)


class Counted:
    """What a study did: `attributed` as (model, prompt id), and the models it `loaded`, by the folder's name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None, error: Any = None) -> None:
        self.attributed: list[tuple[str, str]] = []
        self.loaded: list[str] = []
        attribute, load_model = attribution_runs.attribute, pair_module.load_model

        def counted_attribute(model: Any, prompt: Prompt, **options: Any) -> xr.Dataset:
            if stop_at is not None and len(self.attributed) == stop_at:
                raise error
            self.attributed.append((Path(model.itlens_source.name).name, prompt.id))
            return attribute(model, prompt, **options)

        @wraps(load_model)
        def counted_load(name: Any, **options: Any) -> Any:
            self.loaded.append(Path(name).name)
            return load_model(name, **options)

        monkeypatch.setattr(attribution_runs, "attribute", counted_attribute)
        monkeypatch.setattr(pair_module, "load_model", counted_load)
