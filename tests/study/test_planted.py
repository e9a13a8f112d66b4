"""Planted truths, end to end: what the tuned half of a pair provably does is found, and nothing else is."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import itlens
from tests.findings.mlp.concept_studies import COMPONENTS, rotated_pair
from tests.study.planted import planted_folder, planted_model, planted_prompts
from tests.study.studies import six_prompts, small
from tests.tiny import tiny_folder, tiny_hf_model, tiny_tokenizer

RATIO = 9.0


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("planted")
    return {"even": planted_folder(root / "even", 1.0), "leaning": planted_folder(root / "leaning", RATIO)}


def test_the_planted_ratio_is_that_of_hugging_faces_attention() -> None:
    tokenizer, prompts = tiny_tokenizer(), planted_prompts()
    for ratio in (1.0, RATIO):
        model = planted_model(ratio)
        for prompt in prompts[:4]:
            ids = tokenizer(prompt.text)["input_ids"]
            with torch.no_grad():
                pattern = model(torch.tensor([ids]), output_attentions=True).attentions[0][0, 0, -1]
            capital = torch.tensor([any(c.isupper() for c in tokenizer.decode([n])) for n in ids])
            torch.testing.assert_close(
                pattern[capital], pattern[~capital][0].expand(int(capital.sum())) * ratio, rtol=1e-3, atol=0
            )


def test_a_tuned_model_that_reads_the_instruction_more_is_reported_so(halves: dict[str, Path], tmp_path: Path) -> None:
    found = itlens.compare(
        halves["even"],
        halves["leaning"],
        planted_prompts(),
        out=tmp_path / "run",
        max_new_tokens=8,
        probes="attribution",
    )
    row = found.diff.groups.iloc[0]
    verdict = found.verdicts["attribution"]
    assert verdict.direction == "higher"
    assert "holds at equal response length" in f"{verdict.sentence} {verdict.caveat}"
    assert "not significant" not in verdict.sentence
    assert row["p_paired"] < 1e-3 and row["p_wilcoxon"] < 1e-2 and row["p_welch"] < 1e-3 and row["ci_low"] > 0
    assert (found.diff.groups["difference"] > 0).all() and (found.diff.groups["p_holm"].dropna() < 0.05).all()
    assert (found.diff.prompts["difference"] > 0).mean() > 0.9
    assert (found.diff.profile.share.sel(model="tuned") > found.diff.profile.share.sel(model="base")).all()


@pytest.mark.usefixtures("no_page")
def test_the_reversed_pair_leans_less(halves: dict[str, Path], tmp_path: Path) -> None:
    asked = planted_prompts()[::2]
    found = itlens.compare(
        halves["leaning"], halves["even"], asked, out=tmp_path / "run", max_new_tokens=8, probes="attribution"
    )
    row = found.diff.groups.iloc[0]
    assert found.verdicts["attribution"].direction == "lower"
    assert row["p_paired"] < 0.05 and row["ci_high"] < 0 and row["p_welch"] > 0.95


def test_an_identical_pair_differs_in_nothing(halves: dict[str, Path], tmp_path: Path) -> None:
    asked = planted_prompts()[1::2]
    found = itlens.compare(
        halves["leaning"], halves["leaning"], asked, out=tmp_path / "run", max_new_tokens=8, probes="attribution"
    )
    assert found.verdicts["attribution"].direction == "none"
    assert (found.diff.prompts["difference"] == 0).all() and (found.diff.sensitivity.difference == 0).all()
    for table in (found.diff.groups, found.diff.equal_length):
        for name in ("p_paired", "p_holm", "p_wilcoxon", "p_welch"):
            assert not (table[name] < 0.05).any()
    assert not (found.diff.sensitivity.p_paired < 0.05).any() and not (found.diff.regression["p"] < 0.05).any()
    assert any("the same weights" in note for note in found.notes)


def test_a_tuned_model_that_says_nothing_scores_0_and_that_is_said(halves: dict[str, Path], tmp_path: Path) -> None:
    silent = planted_folder(tmp_path / "silent", RATIO, silent=True)
    found = itlens.compare(
        halves["even"], silent, planted_prompts()[:6], out=tmp_path / "run", max_new_tokens=4, probes="attribution"
    )
    assert [result.attrs["finish"] for result in found.tuned.values()] == ["empty"] * 6
    assert (found.diff.prompts["tuned"] == 0).all() and (found.diff.prompts["base"] > 0).all()
    assert any("tuned" in note and "empty" in note and "6 of 6 prompts" in note for note in found.notes)
    assert found.verdicts["attribution"].direction == "lower"
    assert found.diff.equal_length.loc[0, "n"] == 0
    assert "6 of 6 prompts" in found.report_path.read_text(encoding="utf-8")


def test_identical_models_show_nothing(pair_folders: tuple[Path, Path], tmp_path: Path) -> None:
    twin = Path(shutil.copytree(pair_folders[0], tmp_path / "twin"))
    names = ["mlp", "activation", "patching", "faithfulness"]
    found = itlens.compare(pair_folders[0], twin, probes=names, out=tmp_path / "run", **small())
    assert float(found.activation.shift["resid_relative_change"].max()) == 0
    assert found.verdicts["activation"].direction == "none"
    assert not found.patching.patched["recovered"].notnull().any()
    assert found.patching.agreement is None
    assert found.verdicts["patching"].direction == "none"
    assert (found.faithfulness.table["difference"].fillna(0) == 0).all()  # NaN where prompts do nothing
    assert found.verdicts["faithfulness"].direction == "none"
    for results in found.concepts.values():
        assert np.allclose(results.turned["overlap"], 1, atol=1e-12)
        assert float(results.turned["angle"].max()) < 1e-6
        assert not results.turned["below_floor"].any()
        assert set(results.changes["status"]) == {"kept"}
        assert (results.shares["difference"].fillna(0) == 0).all()
    assert found.verdicts["mlp"].direction == "none"
    assert any("the same weights" in note for note in found.notes)


@pytest.mark.usefixtures("no_page")
def test_a_changed_head_is_named_by_patching(tmp_path: Path) -> None:
    """Tuned = base with the queries of one head reversed: patching finds that head, and no other."""
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
    asked = small(prompts=six_prompts(), sample=5)
    found = itlens.compare(base, tuned, probes="patching", out=tmp_path / "run", **asked)
    effect = np.abs(found.patching.patched["effect"]).mean("prompt")
    assert float(effect.sel(layer=layer, head=1)) > 0
    others = effect.where((effect["layer"] != layer) | (effect["head"] != 1), 0.0)
    assert float(others.max()) < 1e-6 * max(1.0, float(effect.max()))


@pytest.mark.usefixtures("no_page")
def test_a_planted_rotation_is_found_in_its_layer_and_vectors_only(tmp_path: Path) -> None:
    angle, planes = 0.4, 3
    pair = rotated_pair(tmp_path, angle, planes)
    found = itlens.compare(*pair, probes="mlp", out=tmp_path / "run", **small(resamples=10))
    values, keys = (found.concepts[vectors].turned.sel(k=COMPONENTS) for vectors in ("value", "key"))
    expected = [0.0] * (COMPONENTS - planes) + [angle] * planes
    np.testing.assert_allclose(values["angle"].sel(layer=1).values, expected, atol=1e-3)
    overlap = (COMPONENTS - planes + planes * math.cos(angle) ** 2) / COMPONENTS
    assert float(values["overlap"].sel(layer=1)) == pytest.approx(overlap, abs=1e-4)
    assert float(values["angle"].sel(layer=0).max()) < 1e-6
    assert float(keys["angle"].max()) < 1e-6
    assert values["below_floor"].values.tolist() == [False, True]
    assert not keys["below_floor"].any()
    changes = {vectors: found.concepts[vectors].changes.query("status != 'kept'") for vectors in ("value", "key")}
    assert not (changes["value"]["layer"] == 0).any()
    assert changes["key"].empty
    # one of two layers, where 0.2 are expected by chance, is not significant for the model as a whole
    assert found.verdicts["mlp"].direction == "none"
    assert "1 of 2 layers" in found.concepts["value"].verdict
    assert found.concepts["key"].verdict.startswith("No rotation: the key subspaces of base and tuned")
