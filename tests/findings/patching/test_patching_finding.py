"""The finding on a tiny pair: the same numbers as the probe and the diff, and what is shown and said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens.findings.base import Plan
from itlens.findings.options import options_of
from itlens.findings.patching.finding import FINDING, PatchingOptions
from itlens.hooked.tokens import forced
from itlens.report.blocks import Card, Figure, Table, Text
from tests.findings.patching.patch_pairs import PROMPTS, llama, pair_of


class Reading:
    """Both models read the prompts with their own responses."""

    format, max_new_tokens, prepend_bos, responses, pair_writer = "raw", 4, None, "own", "tuned"

    def response(self, model: Any, side: str, number: int) -> Any:
        return None

    def forced(self, pair: Any, numbers: Sequence[int] | None = None) -> Any:
        return forced(pair.tuned, [PROMPTS[number] for number in numbers or ()])


def plan(**changes: Any) -> Plan:
    return Plan(PatchingOptions(sample=5), {}, PROMPTS, seed=3, side="pair", reading=Reading(), **changes)


@pytest.fixture(scope="module")
def pair() -> Any:
    return pair_of(llama(0), llama(1), dtype="float32")


@pytest.fixture(scope="module")
def patched(pair: Any) -> xr.Dataset:
    return FINDING.run(pair, "heads", plan())


def rankings(name: str) -> dict[str, Any] | None:
    """Tables of the two findings that rank heads as well."""
    heads = {"layer": [0, 1], "head": range(4)}
    overlap = xr.DataArray(np.linspace(0, 1, 8).reshape(2, 4), heads, dims=("layer", "head"))
    change = xr.DataArray(np.linspace(1, 2, 8).reshape(1, 2, 4, 1), dims=("prompt", "layer", "head", "token_class"))
    shift = xr.Dataset({"result_relative_change": change.assign_coords(token_class=["rest"], **heads)})
    moved = pd.DataFrame({"layer": [0, 1], "head": [1, 3], "mean": [0.5, 0.25]})
    return {
        "attention": {"word_pairs": xr.Dataset({"overlap": overlap, "instruction_change": overlap})},
        "activation": {"_shift": shift, "shifted_heads": moved},
    }[name]


def alone(saved: xr.Dataset) -> dict[str, Any]:
    return FINDING.compare({"pair": {"heads": saved}}, plan())


def test_one_result_and_what_it_depends_on() -> None:
    assert FINDING.units(plan()) == ("heads",)
    assert [option.name for option in options_of(FINDING.Options)] == ["sample"]
    assert FINDING.describe(plan()) == {"patched_prompts": 5, "patch_controls": 10, "patch_seed": 3}


def test_the_result_is_the_probe_s(pair: Any, patched: xr.Dataset) -> None:
    drawn = sorted(np.random.default_rng(3).choice(6, size=5, replace=False).tolist())
    read = forced(pair.tuned, [PROMPTS[number] for number in drawn])
    expected = itlens.patch(pair, read, what="head", controls=10, seed=3, progress=False)
    assert patched["prompt"].values.tolist() == [f"p{number}" for number in drawn]
    xr.testing.assert_identical(patched, expected)


def test_every_drawn_prompt_has_what_both_models_give_its_response(patched: xr.Dataset) -> None:
    numbers = FINDING.prompt_numbers({"patching": patched}, plan())
    (name,) = {*numbers.columns} - {"model", "id", "group"}
    assert name == "log_probability_of_the_response,_nats_a_token"
    base, tuned = (numbers[numbers["model"] == side].set_index("id")[name] for side in ("base", "tuned"))
    assert list(base.index) == patched["prompt"].values.tolist()
    assert float((tuned - base).mean()) == pytest.approx(float(patched.attrs["gap"]))


def test_other_rankings_of_heads_stand_next_to_it(patched: xr.Dataset) -> None:
    known = patched.assign(recovered=patched["estimated_effect"].mean("prompt"))
    tables = FINDING.compare({"pair": {"heads": known}}, plan(find_tables=rankings))
    assert [*tables] == ["patching", "head_agreement", "top_heads", "_moved"]
    assert tables["head_agreement"]["result"].values.tolist() == ["word pairs", "shift", "patching"]
    given = {"word pairs": rankings("attention")["word_pairs"], "shift": rankings("activation")["_shift"]}
    expected = itlens.diff.head_agreement({**given, "patching": known}, seed=3)
    xr.testing.assert_identical(tables["head_agreement"], expected)
    pd.testing.assert_frame_equal(tables["top_heads"], itlens.diff.top_heads(expected))
    assert FINDING.shortcuts(tables)["patching"].agreement is tables["head_agreement"]


def test_alone_it_agrees_with_nothing(patched: xr.Dataset) -> None:
    assert [*alone(patched)] == ["patching"]
    assert FINDING.shortcuts(alone(patched))["patching"].agreement is None


def test_no_rankings_where_nothing_is_recovered(patched: xr.Dataset) -> None:
    nothing = patched.assign(recovered=patched["recovered"] * np.nan)
    assert [*FINDING.compare({"pair": {"heads": nothing}}, plan(find_tables=rankings))] == ["patching", "_moved"]


def with_gap(patched: xr.Dataset) -> xr.Dataset:
    """The same result as if the models differed beyond chance, and two heads had significant effects."""
    recovered = np.array([[0.5, 0.2, 0.1, 0.0], [0.0, 0.0, -0.1, -0.3]])
    p = np.where(np.abs(recovered) >= 0.3, 0.001, 0.5)
    on_heads = {"recovered": recovered, "recovered_low": recovered - 0.1, "recovered_high": recovered + 0.1, "p_bh": p}
    joint = np.linspace(0.3, 0.9, patched.sizes["count"])
    curve = {"joint": joint, "joint_low": joint - 0.1, "joint_high": joint + 0.1}
    random = {f"joint_random{end}": joint / 2 for end in ("", "_low", "_high")}
    return patched.assign(
        {name: (("layer", "head"), values) for name, values in on_heads.items()}
        | {name: ("count", values) for name, values in (curve | random).items()}
        | {"needed_80_of_all": 5.0}
    ).assign_attrs(gap=1.5, gap_low=1.0, gap_high=2.0, note="")


def test_the_section_shows_cards_figures_and_tables(patched: xr.Dataset) -> None:
    tables = FINDING.compare({"pair": {"heads": with_gap(patched)}}, plan(find_tables=rankings))
    blocks = FINDING.show(tables)
    kinds = [type(block) for block in blocks]
    assert kinds == [Card, Card, Card, Text, Figure, Figure, Table, Table, Table, Table]
    assert [card.value for card in blocks[:3]] == ["+1.50 nats", "at most 5 of 8", "2 of 8"]
    assert blocks[2].detail == (
        "p < 0.05 after Benjamini-Hochberg · 1 of them widen the gap · most: L0H0 50 %, L1H3 −30 %"
    )
    heads, against, agreement, lists = blocks[-4:]
    assert [column.heading for column in heads.columns] == [
        *("head", "recovered (%)", "95 % interval", "p BH", "estimate (%)", "moved"),
    ]
    assert heads.data["moved"].tolist()[1] == 0.5
    assert against.title == "Heads that work against it: 1 of 1"
    assert agreement.data[["result", "other"]].values.tolist() == [
        ["word pairs", "shift"],
        ["word pairs", "patching"],
        ["shift", "patching"],
    ]
    for table in (heads, against, agreement, lists):
        assert {column.name for column in table.columns} <= {*table.data.columns}
    assert [table.terminal for table in (heads, against, agreement, lists)] == [True, False, False, False]


def test_without_a_number_it_says_so(patched: xr.Dataset) -> None:
    nothing = patched.assign({name: patched[name] * np.nan for name in ("recovered", "estimated")})
    tables = {"patching": nothing.assign_attrs(note="the models do not differ")}
    assert FINDING.show(tables)[-1] == Text("Nothing to show: the models do not differ.")
    assert FINDING.verdict(tables).answer == "not tested"
    assert FINDING.notes(tables, plan()) == ["Patching: the models do not differ."]


def test_distances_and_notes(patched: xr.Dataset) -> None:
    tables = alone(with_gap(patched))
    assert FINDING.distances(tables) == {"gap": 1.5, "heads_recover": pytest.approx(0.9)}
    assert FINDING.notes(tables, plan()) == []
    assert FINDING.verdict(tables).direction == "changed"
