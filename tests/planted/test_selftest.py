"""`itlens selftest` on a tiny model: what is planted is found, identical models give nothing, a seed says it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import itlens
from itlens.planted import read_selftest, write_selftest
from itlens.planted.plants import PLANTS
from itlens.planted.setup import Choices, PlantingSetup, all_detectors, set_up, unit_of
from tests.commands import Commands
from tests.tiny import BACKENDS, tiny_folder, tiny_hf_model, tiny_tokenizer

DETECTORS = all_detectors()
MEANT = [(plant, name) for plant in PLANTS for name, detector in DETECTORS.items() if plant in detector.sees]
PROMPTS = [
    itlens.Prompt(text, instruction=[text.split(".")[0]], id=f"p{number}", group=group)
    for number, (text, group) in enumerate(
        [
            ("List three animals. Cat, dog", "a"),
            ("Write the past tense. go; see", "a"),
            ("Translate this word. house by the river", "b"),
            ("Answer with yes or no. is it white", "b"),
            ("Rewrite it. give me the book", "c"),
        ]
    )
]
QUICK: dict[str, Any] = {"calibration": 9, "level": 0.1, "repeats": 2, "words": 100, "limit": 5, "targets": 2}
QUICK |= {"progress": False}
FEWEST: dict[str, Any] = {"level": 0.25, "calibration": 3, "repeats": 1, "limit": 2, "words": 100}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny", "llama", seed=5)


def setup_of(model: Any) -> PlantingSetup:
    numbers = {"repeats": 1, "calibration": 19, "limit": 5, "targets": 3, "words": 250, "most_layers": 6}
    asked = Choices.of("all", "all", None, thorough=False, seed=0, noise=0.01, level=0.05, **numbers)
    return set_up(model, PROMPTS, asked)


@pytest.fixture(scope="module")
def setup() -> PlantingSetup:
    model = tiny_hf_model("llama", seed=5)
    return setup_of(itlens.load_model(model, tokenizer=tiny_tokenizer(), check=False))


@pytest.mark.parametrize(("plant", "probe"), MEANT)
def test_a_strong_plant_is_found_where_it_is(plant: str, probe: str, setup: PlantingSetup) -> None:
    """Without noise: nothing before the plant, then the planted unit first, and every unit that it left alone at 0."""
    detector, kind = DETECTORS[probe](setup), PLANTS[plant]
    place = unit_of(setup, plant, kind.kind, 1)
    assert np.nanmax(detector.read()) == 0
    with setup.altered.plant(kind.edits(setup.ground, place, 64.0, (0,))):
        values = detector.read()
    own, judged = detector.units.index(place), detector.judged(place)
    assert values[own] > 0
    # activations of heads beside the plant are the same to the last bit but for the order of sums
    assert values[judged].max(initial=0) <= 1e-4 * values[own]
    assert np.nanmax(detector.read()) == 0


@pytest.mark.parametrize("name", [name for name, detector in DETECTORS.items() if detector.local])
def test_reading_one_layer_gives_what_reading_all_gives(name: str, setup: PlantingSetup) -> None:
    detector = DETECTORS[name](setup)
    plant = PLANTS[detector.sees[0]]
    place = unit_of(setup, plant.name, plant.kind, 0)
    with setup.altered.noise(0.02, 3):
        alone = detector.read()
        with setup.altered.plant(plant.edits(setup.ground, place, 30.0, (0,))):
            everything, layer = detector.read(), detector.read([place.layer])
    there = np.array([unit.layer == place.layer for unit in detector.units])
    np.testing.assert_allclose(np.where(there, layer, alone), everything, rtol=1e-5, atol=1e-8)
    assert np.isnan(layer[~there]).all() and not np.allclose(everything, alone)


def test_the_bridge_gives_the_same_values(setup: PlantingSetup) -> None:
    model = itlens.load_model(tiny_hf_model("llama", seed=5), tokenizer=tiny_tokenizer(), backend="bridge", check=False)
    bridge = setup_of(model)
    for name, tolerance in (("word pairs", 0.1), ("concepts", 1e-3), ("patching", 1e-4)):
        found = []
        for one in (setup, bridge):
            detector = DETECTORS[name](one)
            plant = PLANTS[detector.sees[0]]
            where = unit_of(one, plant.name, plant.kind, 0)
            with one.altered.plant(plant.edits(one.ground, where, 64.0, (0,))):
                found.append(detector.read())
        np.testing.assert_allclose(*found, atol=tolerance, rtol=1e-2, err_msg=name)


@pytest.fixture(scope="module")
def result(folder: Path) -> xr.Dataset:
    return itlens.selftest(folder, prompts=PROMPTS, strengths=(0.5, 64), check=False, **QUICK)


@pytest.mark.long
def test_a_whole_selftest(result: xr.Dataset) -> None:
    assert result.sizes == {"plant": 7, "probe": len(DETECTORS), "strength": 2, "test": 5, "scope": len(DETECTORS) + 1}
    assert (result["identical"] == 0).all() and (result["p_identical"] == 1).all()
    assert result["meant"].sum() == len(MEANT)
    meant = result["recall"].where(result["meant"])
    assert (meant.isel(strength=0).mean() < 0.5) and (meant.isel(strength=1).mean() > 0.7)
    trials = result["trials"].isel(strength=0)
    assert (trials.where(~result["meant"], 0) == 0).all()  # the others read the strongest plants only
    assert set(np.unique(trials.where(result["meant"], 2))) == {1, 2}  # detectors that run the model take half
    assert (result["clean_first"].where(result["meant"]).mean() > 0.9) and np.isnan(result["clean_first"].sel(
        plant="scaled_head", probe="concepts"
    ))  # fmt: skip


@pytest.mark.long
def test_all_probes_together_are_the_sum_of_them(result: xr.Dataset) -> None:
    strong = result.isel(strength=-1).where(result["meant"])
    found = (strong["recall"] * strong["trials"]).sum(["plant"])
    own = result["overall_recall"] * result["overall_trials"]
    np.testing.assert_allclose(own.sel(scope=result["probe"].values), found)
    np.testing.assert_allclose(own.sel(scope="all"), found.sum())
    assert (result["overall_recall_low"] <= result["overall_recall"]).all()


@pytest.mark.long
def test_p_values_keep_their_level_where_nothing_is_to_be_found(result: xr.Dataset) -> None:
    """Exchanged copies: about 5 % at most, and not none at all."""
    activations = [f"shift of {unit}s: activations, {part}" for unit, part in (("head", "attention"), ("layer", "mlp"))]
    assert set(activations) < set(result["test"].values)
    found = result.sel(test=activations)
    assert (found["p_pairs"] == 5).all() and found["p_share"].max() < 0.08  # of 9 and 1 copies
    assert found["p_share"].min() > 0.01 and np.isfinite(found["p_changed_share"]).all()
    words = result.sel(test="word pairs: instruction verbs of a head")
    assert int(words["p_count"]) == 0 or float(words["p_share_low"]) <= 0.05


@pytest.mark.long
def test_the_seed_says_it_all_and_the_model_is_itself_again(folder: Path) -> None:
    model = itlens.load_model(folder, check=False)
    kept = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    asked: dict[str, Any] = {"probes": "word pairs, concepts", "strengths": 8, "prompts": PROMPTS, **QUICK | FEWEST}
    first, again = (itlens.selftest(model, **asked).drop_vars("seconds") for _ in range(2))
    xr.testing.assert_identical(first, again)
    assert all(torch.equal(parameter, kept[name]) for name, parameter in model.named_parameters())
    other = itlens.selftest(model, **asked | {"seed": 1}).drop_vars("seconds")
    assert not other["threshold"].equals(first["threshold"])


@pytest.mark.long
def test_json_and_picture(result: xr.Dataset, tmp_path: Path) -> None:
    written = write_selftest(result, tmp_path / "deep" / "found.json")
    assert [path.name for path in written] == ["found.json", "found.html"]
    xr.testing.assert_identical(read_selftest(written[0]), result)
    page = written[1].read_text()
    assert "Plotly.newPlot" in page and "<script src" not in page and "<link" not in page  # nothing is fetched
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(itlens.StoreError, match="no result of a selftest"):
        read_selftest(tmp_path / "other.json")


@pytest.mark.long
def test_the_picture_shows_the_numbers(result: xr.Dataset) -> None:
    figure = itlens.views.selftest(result)
    lines = [trace for trace in figure.data if (trace.name or "").startswith("recall, ")]
    assert len(lines) == len(MEANT)
    shown = sorted(tuple(trace.y) for trace in lines)
    recall = result["recall"].values[result["meant"].values]
    assert shown == sorted(tuple(row) for row in 100 * recall)
    assert [title.text for title in figure.layout.annotations[:2]] == [
        "a head's W_O scaled",
        PLANTS["rank_one_qk"].about,
    ]
    with pytest.raises(itlens.ResultError, match=r"itlens\.selftest returns"):
        itlens.views.selftest(result.drop_vars("meant"))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"probes": "lens"}, "Unknown probe 'lens'; expected"),
        ({"plants": ["rotated"]}, "Unknown plant 'rotated'"),
        ({"plants": []}, "No plant is requested"),
        ({"probes": None}, "Unknown probe None; expected"),
        (
            {"probes": "concepts", "plants": "embedding_row"},
            "concepts: not meant to see embedding_row; add one of the "
            "probes attribution, or one of the plants rotated_values, residual_direction.",
        ),
        ({"strengths": [None]}, "strength None"),
        ({"strengths": (1, 0)}, "strength 0"),
        ({"strengths": ()}, "no strengths"),
        ({"strengths": (float("nan"),)}, "strength nan"),
        ({"noise": 0}, "noise=0"),
        ({"repeats": 0}, "repeats=0"),
        ({"calibration": 18}, "calibration=18; expected a whole number of at least 19 for level=0.05"),
        ({"level": 0.01, "calibration": 98}, "at least 99"),
        ({"out": "found.nc"}, "ends in .json"),
        ({"prompts": [3]}, "got a int"),
    ],
)
def test_wrong_settings_are_refused_before_a_model_is_loaded(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(itlens.ItlensError) as refused:
        itlens.selftest("/no/such/model", **asked)
    assert said in str(refused.value)


def test_places_that_cannot_be_written_to_are_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "found.html").mkdir()
    for out, said in (("file/found.json", "a part of its path is a file"), ("found.json", "found.html is a folder")):
        with pytest.raises(itlens.StoreError, match=f"cannot be written.*{said}"):
            itlens.selftest("/no/such/model", out=tmp_path / out)
    with pytest.raises(itlens.ItlensError, match="no model"):
        itlens.selftest("/no/such/model", out=tmp_path / "new" / "deep" / "found.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "found.html"]  # nothing is left behind


def test_mixtures_of_experts_are_refused_by_name() -> None:
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    cfg = HookedTransformerConfig(
        n_layers=1, d_model=32, n_ctx=64, d_head=8, n_heads=4, d_mlp=24, d_vocab=300, act_fn="silu",
        gated_mlp=True, num_experts=4, experts_per_token=2, normalization_type="RMS", device="cpu",
    )  # fmt: skip
    model = HookedTransformer(cfg)
    model.tokenizer = tiny_tokenizer()
    with pytest.raises(itlens.ModelError, match=r"Layer 0 .* is a mixture of 4 experts"):
        itlens.selftest(model, prompts=PROMPTS, **QUICK)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.long
def test_own_models_with_shared_keys_and_tied_embeddings(backend: str) -> None:
    hf = tiny_hf_model("qwen3", seed=2, num_hidden_layers=4)
    model = itlens.load_model(hf, tokenizer=tiny_tokenizer(), backend=backend, check=False)
    assert model.cfg.n_layers == 4 and model.cfg.n_key_value_heads == 2
    kept = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    probes, plants = "word pairs, concepts, shift of layers, patching", "scaled_head, rank_one_qk, rotated_values"
    found = itlens.selftest(model, probes=probes, plants=plants, strengths=64, prompts=PROMPTS, **QUICK | FEWEST)
    assert (found["identical"] == 0).all() and (found["overall_recall"].sel(scope="all") > 0.7)
    assert all(torch.equal(parameter, kept[name]) for name, parameter in model.named_parameters())


def test_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = Commands(monkeypatch, capsys)
    assert "Unknown probe 'x'" in commands.refused("selftest", "--probes", "x")
    assert "strength 'a'" in commands.refused("selftest", "--strengths", "1,a")
    assert "no/such" in commands.refused("selftest", "no/such", "--prompts", "demo")
    out = tmp_path / "found.json"
    words = ("--repeats", 2, "--calibration", 19, "--words", 250, "--limit", 2, "--prompts", "demo", "--out", out)
    done = commands.run("selftest", folder, "--probes", "concepts", "--strengths", "1,60", *words)
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "Recall of plants of strength 60: 1.00 [0.40, 1.00], 4 of 4; every probe reaches 0.95" in said
    assert "(lowest bound of an interval: 0.40, concepts)." in said
    assert "False discoveries at that strength: " in said and said.endswith("Identical models: no difference anywhere.")
    assert read_selftest(out).attrs["repeats"] == 2 and out.with_suffix(".html").exists()
