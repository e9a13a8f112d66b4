"""A group of prompts that somebody called "all" stays apart from the row of all prompts, in every table of groups."""

from __future__ import annotations

import numpy as np
import pandas as pd

import itlens
from itlens.stats.groups import groups_of


def table() -> pd.DataFrame:
    """Twelve prompts, six of a group called "all", whose difference is 1 where the others' is 0."""
    rng = np.random.default_rng(0)
    named = ["all"] * 6 + ["rest"] * 6
    base = rng.normal(size=12)
    moved = np.where(np.array(named) == "all", 1.0, 0.0) + 0.01 * rng.normal(size=12)
    return pd.DataFrame({"id": [f"p{n}" for n in range(12)], "group": named, "base": base, "tuned": base + moved})


def test_all_items_are_one_group_and_those_called_all_another() -> None:
    groups = groups_of(["all", "x", "", "all (group)", "all"])
    assert list(groups) == ["all", "all (group) (group)", "x", "all (group)"]
    assert groups["all"].all()
    assert groups["all (group) (group)"].tolist() == [True, False, False, False, True]
    assert groups["all (group)"].tolist() == [False, False, False, True, False]


def test_the_paired_test_of_all_reads_all() -> None:
    rows = itlens.diff.paired(table()).set_index("group")
    assert rows["n"].to_dict() == {"all": 12, "all (group)": 6, "rest": 6}
    assert abs(rows.loc["all", "difference"] - 0.5) < 0.02
    assert abs(rows.loc["all (group)", "difference"] - 1) < 0.02


def test_a_series_and_two_by_two_read_all() -> None:
    numbers = table()
    models = {
        "a": numbers[["id", "group"]].assign(score=numbers["base"]),
        "b": numbers[["id", "group"]].assign(score=numbers["tuned"]),
    }
    differences = itlens.diff.series(models).differences.set_index("group")
    assert differences["n"].to_dict() == {"all": 12, "all (group)": 6, "rest": 6}
    cells = {(side, state): numbers.set_index("id")[side] for side in ("base", "tuned") for state in ("off", "on")}
    effects = itlens.diff.two_by_two(cells, numbers.set_index("id")["group"])
    assert effects[effects["effect"] == "weights"].set_index("group")["n"].to_dict() == {
        "all": 12,
        "all (group)": 6,
        "rest": 6,
    }
