"""The example script of finding 3: its tables hold the angles, shares and concepts of the results that it saves."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import itlens
from tests.example_scripts import ROTATION, called, script, table
from tests.tiny import tiny_folder

pytestmark = pytest.mark.documentation


@pytest.fixture(scope="module")
def rotation(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("finding3") / "run"
    return script("--out", out, path=ROTATION), out


def test_the_rotation_script_prints_angles_with_their_nulls(
    rotation: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """Every figure again, from the concepts that it saved."""
    done, out = rotation
    assert done.returncode == 0, done.stderr
    rotated = itlens.load(out / "turned.nc")
    base, tuned = (itlens.load(out / f"{which}.nc") for which in ("base", "tuned"))
    assert isinstance(rotated, xr.Dataset)
    assert done.stdout.startswith(itlens.diff.concepts_verdict(rotated))
    assert rotated["k"].values.tolist() == [10, 50, 100]
    titles = {"Overlap": "overlap", "Mean principal angle": "mean_angle"}
    for k in (10, 50, 100):
        rows = {name: table(done.stdout, f"First {k} concepts. {title}") for title, name in titles.items()}
        assert all(list(found) == ["layer", *map(str, range(6))] for found in rows.values())
        for layer in range(6):
            one, other = (ds["direction"].sel(layer=layer).values[:k].astype(float) for ds in (base, tuned))
            cosines = np.clip(np.linalg.svd(one @ other.T, compute_uv=False), 0, 1)
            shown = rows["overlap"][str(layer)]
            assert float(shown[0]) == pytest.approx((cosines**2).mean(), rel=6e-3)
            assert float(shown[1]) == pytest.approx(k / 192, rel=6e-3) and float(shown[2]) > float(shown[1])
            assert float(shown[3]) == pytest.approx(float(base["floor"].sel(layer=layer, k=k).mean()), rel=6e-3)
            assert float(rows["mean_angle"][str(layer)][0]) == pytest.approx(np.arccos(cosines).mean(), rel=6e-3)
    counts = table(done.stdout, "Concepts by their words")
    assert counts["layer"] == ["kept", "gained", "lost"]
    assert all(sum(map(int, counts[str(layer)][:2])) == 192 for layer in range(6))
    changes = itlens.load(out / "changes.parquet")
    for status in ("gained", "lost"):
        (block,) = [part for part in done.stdout.split("\n\n") if part.startswith(f"Strongest concepts {status}")]
        held = changes[changes["status"] == status]["explained"]
        first = [float(line.split()[2]) for line in block.splitlines()[2:12]]
        assert first == pytest.approx(held.nlargest(10).tolist(), rel=6e-3)


def shares(printed: str, title: str) -> dict[tuple[str, str], list[float]]:
    """Base, tuned, difference, interval, p and corrected p, by group ("" where none is shown) and category."""
    (block,) = [part for part in printed.split("\n\n") if part.startswith(title)]
    rows = [
        re.fullmatch(r"\s*(?:(all|layers? \S+)\s+)?([a-z]+)((?: +[-\d.e]+){7})", line) for line in block.splitlines()
    ]
    return {(row[1] or "", row[2]): [float(value) for value in row[3].split()] for row in rows if row}


def test_the_rotation_script_prints_shares_of_tasks_and_levels(
    rotation: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """Every share counted again from the labels that it saved, and the tests are those of the shares."""
    done, out = rotation
    both = [itlens.load(out / f"{which}_labels.parquet") for which in ("base", "tuned")]
    assert [len(labels) for labels in both] == [300, 300] and {len(set(labels["component"])) for labels in both} == {50}
    tasks, levels = shares(done.stdout, "Table 5"), shares(done.stdout, "Figure 3")
    assert [name for _, name in tasks] == [*itlens.annotate.TASKS, "any", "none", "known"]
    assert tasks["", "known"][:2] == pytest.approx([labels["known"].mean() for labels in both], rel=6e-3)
    known = [labels[labels["known"]] for labels in both]
    for task in itlens.annotate.TASKS:
        assert tasks["", task][:2] == pytest.approx([labels[f"task_{task}"].mean() for labels in known], rel=6e-3)
    groups = {"all": range(6), "layers 0-1": (0, 1), "layers 2-3": (2, 3), "layer 4": (4,), "layer 5": (5,)}
    assert list(levels) == [(group, level) for group in groups for level in (*itlens.annotate.LEVELS, "none")]
    for (group, level), row in levels.items():
        inside = [labels[labels["layer"].isin(groups[group])]["level"] for labels in known]
        expected = [(part == level.replace("none", "")).mean() for part in inside]
        assert row[:3] == pytest.approx([*expected, expected[1] - expected[0]], rel=6e-3, abs=1e-9)
    assert max(row[0] for row in levels.values()) > 0.5  # there is something to be counted
    table = itlens.diff.concept_shares(*both).set_index(["group", "kind", "category"])
    for (group, level), row in levels.items():
        tested = table.loc[(group, "level", level), ["ci_low", "ci_high", "p", "p_holm"]]
        assert row[3:] == pytest.approx(tested.tolist(), rel=6e-3, abs=1e-9)


def test_the_rotation_script_takes_any_pair_and_any_words(tmp_path: Path) -> None:
    """Twelve words of the kitchen make every concept one of daily life; a pair of one model is the same everywhere."""
    base, tuned = (tiny_folder(tmp_path / which, "gpt2", seed=seed) for seed, which in enumerate(("base", "tuned")))
    kitchen = "spoon fork knife plate cup bowl kettle apple pear plum bread cheese"
    (tmp_path / "words.txt").write_text("\n".join(kitchen.split()), encoding="utf-8")
    words = ("--vocabulary", tmp_path / "words.txt", "--side", "key", "--components", 12, "--resamples", 0)
    done = called("--base", base, "--tuned", tuned, *words, "--out", tmp_path / "out", path=ROTATION)
    assert done.returncode == 0, done.stderr
    assert len(table(done.stdout, "First 12 concepts. Overlap")) == 3
    tasks, levels = shares(done.stdout, "Table 5"), shares(done.stdout, "Figure 3")
    assert tasks["", "daily"] == tasks["", "any"] == tasks["", "known"] == [1, 1, 0, 0, 0, 1, 1]
    assert tasks["", "coding"][:2] == [0, 0] and levels["all", "semantics"][:2] == [1, 1]
    again = called("--base", base, "--tuned", base, *words, "--out", tmp_path / "same", path=ROTATION)
    assert again.returncode == 0, again.stderr
    rows = table(again.stdout, "First 12 concepts. Overlap"), table(again.stdout, "Concepts by their words")
    assert [float(row[0]) for row in list(rows[0].values())[1:]] == [1, 1]
    assert list(rows[1].values())[1:] == [["12", "0", "0"]] * 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--base", "no/such/base", "--tuned", "no/such/tuned"], "There is no model at"),
        (["--vocabulary", "no-such.txt"], "no-such.txt"),
        (["--side", "query"], "vectors='query'"),
        (["--components", "193"], "components=193"),
        (["--resamples", "-1"], "resamples=-1"),
        (["--tuned", "only"], "--base goes with --tuned or --adapter"),
    ],
    ids=["model", "vocabulary", "side", "components", "resamples", "half-a-pair"],
)
def test_wrong_concepts_are_one_sentence_and_exit_code_2(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = called(*arguments, "--out", tmp_path / "out", path=ROTATION)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
