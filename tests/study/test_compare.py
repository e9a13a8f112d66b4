"""`compare` end to end on a tiny pair: what the folder holds, and that it is what `attribute` alone finds."""

from __future__ import annotations

import gc
import json
import weakref
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens.models import pair as pair_module
from itlens.study import Comparison, attention_runs, attribution_runs, open_comparison
from tests.study.runs import NEW_TOKENS, copied, result_files, same_results, same_tables, six_prompts
from tests.study.word_runs import vectors, vocabulary
from tests.tiny import tiny_folder, tiny_tokenizer

CHAT = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[assistant]"
OTHER_CHAT = "{% for m in messages %}Q: {{ m['content'] }}\n{% endfor %}A:"


def test_the_folder_holds_what_was_asked_and_what_was_found(finished: Comparison) -> None:
    tables = ["equal_length", "groups", "prompts", "regression"]
    names = {path.name for path in finished.out.iterdir()}
    assert names == {"study.json", "prompts.jsonl", "attributions", "tables", "report.html"}
    assert result_files(finished.out) == [f"{side}/000{n}-p{n}.nc" for side in ("base", "tuned") for n in range(1, 7)]
    expected = {f"{name}.{kind}" for name in tables for kind in ("parquet", "csv")} | {"sensitivity.nc", "profile.nc"}
    assert {path.name for path in (finished.out / "tables").iterdir()} == expected
    study = json.loads((finished.out / "study.json").read_text())
    assert study["settings"]["max_new_tokens"] == NEW_TOKENS and study["settings"]["seed"] == 3
    assert study["models"]["base"]["label"] == "base" and study["models"]["base"]["revision"].startswith("sha256:")
    assert study["models"]["base"]["revision"] != study["models"]["tuned"]["revision"]
    assert study["prompts"] == 6 and study["versions"]["transformer_lens"].startswith("3.")
    assert itlens.load_prompts(finished.out / "prompts.jsonl") == six_prompts()


def test_results_are_those_of_attribute_alone(finished: Comparison, pair_folders: tuple[Path, Path]) -> None:
    for folder, side in zip(pair_folders, (finished.base, finished.tuned), strict=True):
        model = itlens.load_model(folder)
        alone = {p.id: itlens.attribute(model, p, max_new_tokens=NEW_TOKENS) for p in six_prompts()}
        assert all(float(abs(result.score).max()) > 0 for result in alone.values())
        same_results(side, alone)


def test_saved_tables_are_the_ones_in_memory(finished: Comparison) -> None:
    for name, result in finished.diff._asdict().items():
        if result is None:
            continue
        suffix = "parquet" if isinstance(result, pd.DataFrame) else "nc"
        saved = itlens.load(finished.out / "tables" / f"{name}.{suffix}")
        if isinstance(saved, pd.DataFrame):
            pd.testing.assert_frame_equal(saved, result, check_dtype=False)
            assert saved.attrs["probe"] == "diff.attributions" and saved.attrs["seed"] == 3
            assert len(itlens.load(finished.out / "tables" / f"{name}.csv")) == len(result)
        else:
            xr.testing.assert_equal(saved, result)


def test_the_report_shows_verdict_models_and_notes(finished: Comparison) -> None:
    page = finished.report_path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and len(page) < 8_000_000
    assert finished.verdict.split(":")[0] in page
    assert finished.notes and all(note.split("(")[0] in page for note in finished.notes)


def test_a_folder_opens_again_as_the_same_comparison(finished: Comparison) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*")}
    opened = open_comparison(finished.out)
    same_tables(opened, finished)
    assert repr(opened) == repr(finished) and opened.notes == finished.notes
    assert "<table" in opened._repr_html_() and "report.html" in opened._repr_html_()
    assert {path: path.stat().st_mtime_ns for path in finished.out.rglob("*")} == before


def test_given_and_empty_responses(pair_folders: tuple[Path, Path], tmp_path: Path) -> None:
    given = [p.replace(response=" Le chat dort.") for p in six_prompts()[:3]]
    given.append(six_prompts()[3].replace(response=""))
    found = itlens.compare(*pair_folders, given, out=tmp_path / "run", probes="attribution")
    for side in (found.base, found.tuned):
        assert [side[f"p{n}"].attrs["response_text"] for n in range(1, 5)] == [" Le chat dort."] * 3 + [""]
        assert [side[f"p{n}"].attrs["finish"] for n in range(1, 5)] == ["given"] * 3 + ["empty"]
        assert side["p4"].sizes["target"] == 0
    scores = found.diff.prompts.set_index("id")
    assert scores.loc["p4", ["base", "tuned"]].tolist() == [0.0, 0.0] and (scores.loc["p1":"p3", "base"] > 0).all()
    said = [note for note in found.notes if "empty response" in note]
    assert len(said) == 2 and all("1 of 4 prompts (scored 0): p4" in note for note in said)
    assert "(scored 0): p4" in found.report_path.read_text(encoding="utf-8")
    assert not [note for note in found.notes if "were cut" in note]


def test_one_model_is_in_memory_at_a_time(
    pair_folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Any]] = []
    alive: list[int] = []
    load_model, attribute = pair_module.load_model, attribution_runs.attribute
    qk_layers, probed = attention_runs.qk_layers, []

    @wraps(load_model)
    def counted_load(name: Any, **options: Any) -> Any:
        gc.collect()
        alive.append(sum(ref() is not None for ref in held))
        model = load_model(name, **options)
        held.append(weakref.ref(model))
        return model

    def checked_attribute(model: Any, prompt: Any, **options: Any) -> Any:
        assert [ref() for ref in held if ref() is not None] == [model]
        return attribute(model, prompt, **options)

    monkeypatch.setattr(pair_module, "load_model", counted_load)

    def checked_layers(model: Any, *args: Any, **options: Any) -> Any:
        assert [ref() for ref in held if ref() is not None] == [model]
        for found in qk_layers(model, *args, **options):
            probed.append(found.layer)
            yield found

    monkeypatch.setattr(attribution_runs, "attribute", checked_attribute)
    monkeypatch.setattr(attention_runs, "qk_layers", checked_layers)
    words: dict[str, Any] = {"vocabulary": vocabulary(), "vectors": vectors(), "top_k": 5}
    probes = ["attribution", "attention", "activation", "patching"]
    itlens.compare(*pair_folders, six_prompts()[:2], probes, tmp_path / "run", max_new_tokens=2, **words)
    gc.collect()
    # base and tuned for what is read off one, then base, tuned and base again for what needs both: each one alone
    assert alive == [0] * 5 and [ref() for ref in held] == [None] * 5 and probed == [0, 1, 0, 1]


def test_chat_uses_the_template_of_the_tuned_tokenizer_for_both(tmp_path: Path) -> None:
    folders = [
        tiny_folder(tmp_path / name, "llama", seed=seed, tokenizer=tiny_tokenizer(chat_template=template))
        for seed, (name, template) in enumerate((("base", OTHER_CHAT), ("tuned", CHAT)))
    ]
    found = itlens.compare(
        *folders, six_prompts()[:2], out=tmp_path / "run", format="chat", max_new_tokens=2, probes="attribution"
    )
    for side in (found.base, found.tuned):
        assert side["p1"].attrs["prompt_text"] == "[user] Translate the word: cat.\n[assistant]"
    assert found.prompts[0].span_text("instruction") == ["Translate the word"]
    table = found.diff.prompts
    raw = itlens.attribute(itlens.load_model(folders[0]), six_prompts()[0], max_new_tokens=2)
    assert table.loc[0, "instruction_tokens"] == int(itlens.span_mask(raw, six_prompts()[0], "instruction").sum())


def test_labels_and_a_format_of_ones_own(pair_folders: tuple[Path, Path], tmp_path: Path) -> None:
    found = itlens.compare(
        *pair_folders,
        six_prompts()[0],
        out=tmp_path / "run",
        format="Task: {prompt} =>",
        labels=("A <b>", "B"),
        probes="attribution",
        max_new_tokens=2,
    )
    assert found.base["p1"].attrs["prompt_text"] == "Task: Translate the word: cat. =>"
    assert found.study["models"]["base"]["label"] == "A <b>"
    assert "A &lt;b&gt;" in found.report_path.read_text(encoding="utf-8")
    assert found.verdict.startswith("Nothing can be concluded: too few prompts for a test (n=1")


def test_loaded_models_are_compared_too(pair_folders: tuple[Path, Path], finished: Comparison, tmp_path: Path) -> None:
    models = [itlens.load_model(folder) for folder in pair_folders]
    found = itlens.compare(
        *models, six_prompts(), out=tmp_path / "run", max_new_tokens=NEW_TOKENS, seed=3, probes="attribution"
    )
    same_tables(found, finished)


def test_half_precision_is_said_to_be_coarse(finished: Comparison, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "run")
    study = json.loads((out / "study.json").read_text())
    study["settings"]["dtype"] = "bfloat16"
    (out / "study.json").write_text(json.dumps(study))
    assert any("Computed in bfloat16" in note for note in open_comparison(out).notes)
    assert not any("Computed in" in note for note in finished.notes)
