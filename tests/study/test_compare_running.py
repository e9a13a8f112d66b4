"""Activations, patching and faithfulness as parts of a study: what is found, resumed, kept apart and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import itlens
from itlens.probes.running.forced import forced
from itlens.study import Comparison, open_comparison, pair_runs
from tests.study.runs import NEW_TOKENS, copied, six_prompts
from tests.tiny import tiny_folder

RUNNING = ["activation", "patching", "faithfulness"]
OPTIONS = {"max_new_tokens": NEW_TOKENS, "seed": 3, "sample": 5, "progress": False}


@pytest.fixture(scope="module")
def run(pair_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("study-running") / "run"
    return itlens.compare(*pair_folders, six_prompts(), ["attribution", *RUNNING], out, **OPTIONS)


def written(run: Comparison) -> dict[str, tuple[int, ...]]:
    """The ids that the tuned model wrote: its text, read again, has other tokens (these models write any bytes)."""
    return {id: tuple(result["target_id"].values.tolist()) for id, result in run.tuned.items()}


def test_the_folder_holds_every_part(run: Comparison) -> None:
    assert {path.name for path in (run.out / "activations").iterdir()} == {"base.nc", "tuned.nc", "shift.nc"}
    assert [path.name for path in (run.out / "patching").iterdir()] == ["heads.nc"]
    for which in ("base", "tuned"):
        assert len(list((run.out / "faithfulness" / which).glob("*.nc"))) == OPTIONS["sample"]
    tables = {path.stem for path in (run.out / "tables").iterdir()}
    assert {"activations", "shift", "shift_tests", "shifted_heads", "patching"} <= tables
    assert {"faithfulness", "faithfulness_curves"} <= tables
    page = run.report_path.read_text()
    assert all(f'id="{anchor}"' in page for anchor in ("activations", "patching", "faithfulness"))


def test_both_models_read_the_tuned_model_s_responses(run: Comparison) -> None:
    assert run.activation is not None
    tuned = itlens.load_model(run.study["models"]["tuned"]["name"])
    expected = itlens.activations(tuned, forced(tuned, run.prompts, responses=written(run)), progress=False)
    held = run.activation.tuned
    for name in held.data_vars:
        np.testing.assert_allclose(held[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=str(name))
    assert run.activation.base["targets"].equals(held["targets"])


def test_patching_and_faithfulness_are_those_of_the_probes(run: Comparison, pair_folders: tuple[Path, Path]) -> None:
    assert run.patching is not None and run.faithfulness is not None
    patched = run.patching.patched
    drawn = patched["prompt"].values.tolist()
    assert len(drawn) == OPTIONS["sample"] and set(drawn) < {prompt.id for prompt in run.prompts}
    pair = itlens.load_pair(*pair_folders)
    chosen = [one for one in forced(pair.tuned, run.prompts, responses=written(run)) if one.id in drawn]
    expected = itlens.patch(pair, chosen, controls=10, seed=OPTIONS["seed"], progress=False)
    np.testing.assert_allclose(patched["effect"], expected["effect"], rtol=1e-3, atol=1e-5)
    one = run.prompts[[prompt.id for prompt in run.prompts].index(drawn[0])]
    own = itlens.faithfulness(
        itlens.load_model(pair_folders[0]), one, run.base[one.id], steps=5, draws=10, seed=OPTIONS["seed"]
    )
    held = next(
        ds
        for path in (run.out / "faithfulness" / "base").glob("*.nc")
        if (ds := itlens.load(path)).attrs["prompt_id"] == one.id
    )
    np.testing.assert_allclose(held["curve"], own["curve"], rtol=1e-4, atol=1e-5)


def test_what_is_finished_is_not_computed_again(
    run: Comparison, pair_folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(run, tmp_path / "run")
    (out / "patching" / "heads.nc").write_bytes(b"broken")
    (out / "activations" / "shift.nc").unlink()
    done = []
    for name in ("activations", "activation_shift", "patch"):
        function = getattr(pair_runs, name)
        monkeypatch.setattr(pair_runs, name, lambda *a, _f=function, _n=name, **k: (done.append(_n), _f(*a, **k))[1])
    again = itlens.compare(*pair_folders, six_prompts(), ["attribution", *RUNNING], out, **OPTIONS)
    assert done == ["activation_shift", "patch"]
    assert again.patching is not None and run.patching is not None
    xr.testing.assert_allclose(again.patching.patched["effect"], run.patching.patched["effect"])
    assert again.verdict == run.verdict


def test_ctrl_c_keeps_what_is_finished(
    pair_folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pair_runs, "patch", stop)
    with pytest.raises(KeyboardInterrupt):
        itlens.compare(*pair_folders, six_prompts(), ["activation", "patching"], tmp_path / "run", **OPTIONS)
    left = open_comparison(tmp_path / "run")
    assert left.activation is not None and left.patching is None
    assert any("'patching' is not finished" in note for note in left.notes)


def test_a_part_can_be_added_and_reads_the_same_prompts(
    finished: Comparison, pair_folders: tuple[Path, Path], tmp_path: Path
) -> None:
    out = copied(finished, tmp_path / "run")
    added = itlens.compare(*pair_folders, six_prompts(), "faithfulness", out, **OPTIONS)
    assert added.faithfulness is not None and added.diff is not None and added.activation is None
    with pytest.raises(itlens.StoreError, match=r"another study.*prompts"):
        itlens.compare(*pair_folders, six_prompts()[:4], "activation", out, **OPTIONS)
    with pytest.raises(itlens.StoreError, match=r"another study.*format"):
        itlens.compare(*pair_folders, six_prompts(), "activation", out, format="Q: {prompt}", **OPTIONS)
    assert len(itlens.load_prompts(out / "prompts.jsonl")) == 6


def test_identical_models_show_nothing(pair_folders: tuple[Path, Path], tmp_path: Path) -> None:
    twin = Path(shutil.copytree(pair_folders[0], tmp_path / "twin"))
    found = itlens.compare(pair_folders[0], twin, six_prompts(), RUNNING, tmp_path / "run", **OPTIONS)
    assert found.activation is not None and found.patching is not None and found.faithfulness is not None
    assert "run alike" in found.activation.verdict
    assert float(found.activation.shift["resid_relative_change"].max()) == 0
    assert not found.patching.patched["recovered"].notnull().any() and found.patching.agreement is None
    assert "cannot be told" in found.patching.verdict
    assert (found.faithfulness.table["difference"] == 0).all()


def test_a_changed_head_is_named_by_patching(tmp_path: Path) -> None:
    """Tuned = base with the queries of one head turned round: patching finds that head, and no other."""
    import torch

    from tests.tiny import tiny_hf_model

    base = tiny_folder(tmp_path / "base", "llama", seed=0)
    model = tiny_hf_model("llama", seed=0)
    width = model.config.head_dim
    layer = model.config.num_hidden_layers - 1
    with torch.no_grad():  # its queries only: keys and values belong to other heads as well
        rows = slice(width, 2 * width)
        weight = model.model.layers[layer].self_attn.q_proj.weight
        weight[rows] = 30 * weight[rows].flip(0)
    tuned = Path(shutil.copytree(base, tmp_path / "tuned"))
    model.save_pretrained(tuned)
    found = itlens.compare(base, tuned, six_prompts(), "patching", tmp_path / "run", **OPTIONS)
    assert found.patching is not None
    effect = np.abs(found.patching.patched["effect"]).mean("prompt")
    assert float(effect.sel(layer=layer, head=1)) > 0
    others = effect.where((effect["layer"] != layer) | (effect["head"] != 1), 0.0)
    assert float(others.max()) < 1e-6 * max(1.0, float(effect.max()))


def test_a_part_that_cannot_be_had_does_not_stop_the_others(pair_folders: tuple[Path, Path], tmp_path: Path) -> None:
    """An empty response predicts nothing, so that neither model can be read on it; attributions score it 0."""
    prompts = [prompt.replace(response="") for prompt in six_prompts()[:2]]
    found = itlens.compare(*pair_folders, prompts, ["attribution", "activation"], tmp_path / "run", **OPTIONS)
    assert found.diff is not None and found.activation is None and found.report_path.exists()
    assert any("response" in note and "empty" in note for note in open_comparison(tmp_path / "run").notes)
    with pytest.raises(itlens.PromptError, match="empty"):
        itlens.compare(*pair_folders, prompts, "activation", tmp_path / "none", **OPTIONS)
    assert not (tmp_path / "none").exists()


def test_prompts_with_an_empty_response_are_left_out(
    run: Comparison, pair_folders: tuple[Path, Path], tmp_path: Path
) -> None:
    out = copied(run, tmp_path / "run")
    shutil.rmtree(out / "activations")
    first = sorted((out / "attributions" / "tuned").glob("*.nc"))[0]
    itlens.save(itlens.load(first).isel(target=slice(0, 0)), first)  # as if the model had ended at once
    found = itlens.compare(*pair_folders, six_prompts(), ["attribution", "activation"], out, **OPTIONS)
    assert found.activation is not None and found.activation.base["prompt"].values.tolist() == [
        f"p{n}" for n in range(2, 7)
    ]
    assert any("Activations are of 5 of 6 prompts" in note for note in found.notes)


def test_the_study_says_what_was_asked(run: Comparison) -> None:
    settings = json.loads((run.out / "study.json").read_text())["settings"]
    assert settings["patched_prompts"] == settings["deletion_prompts"] == OPTIONS["sample"]
    assert settings["deletion_draws"] == 10 and settings["patch_controls"] == 10
    assert "shift of lens" in settings["activation_summaries"]


@pytest.mark.parametrize("sample", [0, 1.5, "3"])
def test_a_wrong_sample(pair_folders: tuple[Path, Path], tmp_path: Path, sample: object) -> None:
    with pytest.raises(itlens.ProbeError, match="sample="):
        itlens.compare(*pair_folders, six_prompts(), RUNNING, tmp_path / "run", sample=sample)
