"""Planted truth: a pair of which the tuned half provably attends more to the instruction (see `planted`)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import itlens
from tests.study.planted import planted_folder, planted_model, planted_prompts
from tests.tiny import tiny_tokenizer

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
    assert found.verdict.startswith("The tuned model leans more on the instruction than the base")
    assert "but not" not in found.verdict and "it holds at equal response length" in found.verdict
    assert row["p_paired"] < 1e-3 and row["p_wilcoxon"] < 1e-2 and row["p_welch"] < 1e-3 and row["ci_low"] > 0
    assert (found.diff.groups["difference"] > 0).all() and (found.diff.groups["p_holm"].dropna() < 0.05).all()
    assert (found.diff.prompts["difference"] > 0).mean() > 0.9
    assert (found.diff.profile.share.sel(model="tuned") > found.diff.profile.share.sel(model="base")).all()


def test_the_reversed_pair_leans_less(halves: dict[str, Path], tmp_path: Path) -> None:
    asked = planted_prompts()[::2]
    found = itlens.compare(
        halves["leaning"], halves["even"], asked, out=tmp_path / "run", max_new_tokens=8, probes="attribution"
    )
    row = found.diff.groups.iloc[0]
    assert found.verdict.startswith("The tuned model leans less on the instruction than the base")
    assert row["p_paired"] < 0.05 and row["ci_high"] < 0 and row["p_welch"] > 0.95


def test_an_identical_pair_differs_in_nothing(halves: dict[str, Path], tmp_path: Path) -> None:
    asked = planted_prompts()[1::2]
    found = itlens.compare(
        halves["leaning"], halves["leaning"], asked, out=tmp_path / "run", max_new_tokens=8, probes="attribution"
    )
    assert "no difference" in found.verdict and "leans more" not in found.verdict and "leans less" not in found.verdict
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
    assert any("The tuned model gave an empty response to 6 of 6 prompts (scored 0)" in note for note in found.notes)
    assert found.verdict.startswith("The tuned model leans less") and found.diff.equal_length.loc[0, "n"] == 0
    assert "gave an empty response to 6 of 6 prompts" in found.report_path.read_text(encoding="utf-8")
