"""Labels of concepts as a table: rows, columns, poles, seeds, counts, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens import AnnotateError, ResultError
from itlens.annotate import TASKS, Label
from itlens.annotate.concept_labels import annotate_concepts
from itlens.results.store import load, save
from tests.annotate.chat_server import Answer, fake_server

DAYS = ["Monday", "Tuesday", "June", "weekly", "October", "Friday", "May", "Sunday"]
BODY = ["nose", "ear", "toe", "elbow", "chin", "knees", "tongue", "thumb"]
NOTHING = ["gravel", "Peru", "tax", "of", "narrow", "whose", "matrix", "sword"]


def concepts(*, signed: bool = False) -> xr.Dataset:
    """Layers 2 and 5; component 0 days and body parts, component 1 nothing; the minus pole the other way round."""
    words = np.empty((2, 2, 2, 8), dtype=object)
    for layer, plain in enumerate((DAYS, BODY)):
        words[layer, 0, 0], words[layer, 1, 0] = plain, NOTHING
        words[layer, 0, 1], words[layer, 1, 1] = NOTHING, plain
    dims = ("layer", "component", "pole", "rank")
    coords = {"layer": [2, 5], "component": [0, 1], "pole": ["+", "-"], "rank": range(8)}
    ds = xr.Dataset(
        {"word": (dims, words)}, coords=coords, attrs={"probe": "mlp_concepts", "model": "m", "vectors": "value"}
    )
    return ds if signed else ds.isel(pole=0, drop=True)


def test_one_row_per_layer_and_component_in_order() -> None:
    table = itlens.annotate_concepts(concepts(), components=2)
    assert list(zip(table["layer"], table["component"], strict=True)) == [(2, 0), (2, 1), (5, 0), (5, 1)]
    assert table["known"].tolist() == [True, False, True, False]
    assert table["description"].tolist()[1] == "cannot tell" and "days" in table["description"][0]
    assert table["task_daily"].tolist() == [True, False, True, False]
    assert not table[[f"task_{task}" for task in TASKS if task != "daily"]].to_numpy().any()
    assert table["level"].tolist() == ["semantics", "", "semantics", ""] and set(table["labeller"]) == {"lexicon"}
    assert table["confidence"].tolist() == [1.0, 0.0, 1.0, 0.0] and set(table["pole"]) == {""}
    assert table.attrs["seeds"] == [] and table.attrs["unknown"] == 2 and table.attrs["unparsed"] == 0
    assert table.attrs["model"] == "m"
    assert table.attrs["vectors"] == "value"
    assert set(table["seed"]) == {0}


def test_both_poles_have_their_labels_and_only_the_first_components_are_labelled() -> None:
    table = annotate_concepts(concepts(signed=True), components=1)
    assert list(zip(table["layer"], table["pole"], table["known"], strict=True)) == [
        (2, "+", True), (2, "-", False), (5, "+", True), (5, "-", False),
    ]  # fmt: skip


def test_labels_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    table = annotate_concepts(concepts(), components=2)
    back = load(save(table, tmp_path / "labels.parquet"))
    assert isinstance(back, pd.DataFrame) and back.attrs == table.attrs
    pd.testing.assert_frame_equal(back, table)


def test_a_labeller_of_ones_own_with_seeds_is_asked_with_each() -> None:
    class Own:
        name, seeds = "own", (7, 9)

        def __call__(self, words: Sequence[str], *, seed: int | None = None) -> Label:
            return Label(f"{words[0]} {seed}", ("coding",), "syntax", 1.0)

    table = annotate_concepts(concepts(), Own(), components=1)
    assert table["description"].tolist() == ["Monday 7", "Monday 9", "nose 7", "nose 9"]
    assert table["seed"].tolist() == [7, 9, 7, 9] and table.attrs["seeds"] == [7, 9]
    plain = annotate_concepts(concepts(), lambda words: Label(words[1]), components=1)
    assert plain["description"].tolist() == ["Tuesday", "ear"] and plain.attrs["seeds"] == []


def test_several_requests_at_a_time_keep_their_order_and_stop_at_the_first_error() -> None:
    class Slow:
        name, seeds, workers = "slow", tuple(range(6)), 3
        asked = 0

        def __call__(self, words: Sequence[str], *, seed: int | None = None) -> Label:
            self.asked += 1
            time.sleep(0.02 * (seed == 0))
            if seed == 5 and words[0] == "Monday":
                raise AnnotateError("enough")
            return Label(f"{words[0]} {seed}")

    labeller = Slow()
    table = annotate_concepts(concepts().isel(layer=[1]), labeller, components=1)
    assert table["description"].tolist() == [f"nose {seed}" for seed in range(6)]
    labeller.asked = 0
    with pytest.raises(AnnotateError, match="enough"):
        annotate_concepts(concepts(), labeller, components=2)
    assert labeller.asked < 24


def test_a_chat_model_tells_its_cost_first_and_its_broken_answers_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twelve answers (2 layers, 2 components, 3 seeds) one is broken; the second run asks nothing."""
    pytest.importorskip("openai", reason="the annotate extra is not installed")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    told: list[Any] = []
    good = '{"agree": 7, "description": "x", "tasks": [], "level": "syntax"}'
    with fake_server(Answer(good), Answer("what?"), Answer(good)) as server:
        labeller = itlens.annotate.chat("m", base_url=server.url, seeds=(0, 1, 2), cache=tmp_path, workers=1)
        table = annotate_concepts(
            concepts(), labeller, components=2, announce=lambda cost: told.append((cost, len(server.asked)))
        )
        assert len(server.asked) == 9  # NOTHING stands in both layers, and is asked once
        again = annotate_concepts(concepts(), labeller, components=2)
    assert told[0][0].calls == 9 and told[0][0].cached == 3 and told[0][1] == 0
    assert len(table) == 12 and table["seed"].tolist() == [0, 1, 2] * 4 and table.attrs["unparsed"] == 1
    assert (
        table["known"].tolist() == [True, False] + [True] * 10
        and table.attrs["unknown"] == 1
        and set(table["labeller"]) == {"chat:m"}
    )
    assert again.attrs["cost"] == "no requests: all 12 answers are in the cache"
    assert again.attrs["unparsed"] == 1


def test_what_announce_raises_stops_before_anything_is_sent(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="the annotate extra is not installed")

    def too_much(cost: Any) -> None:
        raise AnnotateError(f"too much: {cost.calls}")

    with fake_server() as server:
        labeller = itlens.annotate.chat("m", base_url=server.url, cache=tmp_path)
        with pytest.raises(AnnotateError, match="too much: 15"):
            annotate_concepts(concepts(), labeller, components=2, announce=too_much)
        assert not server.asked


@pytest.mark.parametrize("labeller", ["gpt", 5, None])
def test_what_is_no_labeller_is_refused(labeller: Any) -> None:
    with pytest.raises(AnnotateError, match=r"expected 'lexicon', itlens\.annotate\.chat"):
        annotate_concepts(concepts(), labeller, components=1)


def test_a_labeller_that_returns_no_label_is_named() -> None:
    with pytest.raises(AnnotateError, match="The labeller nothing returned 'days'"):

        def nothing(words: Sequence[str]) -> Any:
            return "days"

        annotate_concepts(concepts(), nothing, components=1)


@pytest.mark.parametrize("components", [0, 3, -1, 1.5, True])
def test_components_out_of_range_are_refused(components: Any) -> None:
    with pytest.raises(ResultError, match="there are concepts for 1 to 2 components"):
        annotate_concepts(concepts(), components=components)


@pytest.mark.parametrize("wrong", [None, xr.Dataset(), concepts()["word"], concepts().isel(layer=0)])
def test_what_are_no_concepts_is_refused(wrong: Any) -> None:
    with pytest.raises(ResultError, match="annotate_concepts"):
        annotate_concepts(wrong, components=1)
