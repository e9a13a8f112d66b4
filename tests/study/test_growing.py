"""A run grows by prompts; prompts are checked before weights are loaded; one that fails is left out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import itlens
from itlens.errors import ItlensError, ProbeError, PromptError, StoreError
from itlens.findings import findings
from itlens.prompts import Prompt
from itlens.prompts.formats import TemplateClock, frame_prompts
from itlens.study import Comparison, open_comparison
from itlens.study.folder import RunFolder
from itlens.study.run import Run
from tests.study.studies import Counted, copied, same_results, same_tables, six_prompts, small
from tests.tiny import tiny_folder, tiny_tokenizer

Folders = tuple[Path, Path]
NEW = Prompt("Translate the word: plum.", instruction="Translate the word", id="p7", group="odd")
DAY = (
    "Today is {{ strftime_now('%A, %d %B %Y, %H:%M:%S.%f') }}.\n"
    "{% for m in messages %}{{ m['content'] }}{% endfor %}\nA:"
)


def again(folders: Folders, out: Path, **changes: Any) -> Comparison:
    return itlens.compare(*folders, out=out, **{"probes": "attribution", **small(**changes)})


# ---- growing


@pytest.mark.usefixtures("no_page")
def test_more_prompts_continue_a_study(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(finished, tmp_path / "run")
    counted = Counted(monkeypatch)
    grown = again(pair_folders, out, prompts=[*six_prompts(), NEW])
    assert counted.units == [("attribution", side, "0007-p7") for side in ("base", "tuned")]
    same_results(grown, again(pair_folders, tmp_path / "fresh", prompts=[*six_prompts(), NEW]))
    same_results(open_comparison(out), grown)
    with pytest.raises(StoreError, match=r"prompts that are only there: 'p7'"):
        again(pair_folders, out)


@pytest.mark.usefixtures("no_page")
def test_prompts_in_another_order_are_the_same_study(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(finished, tmp_path / "run")
    counted = Counted(monkeypatch)
    found = again(pair_folders, out, prompts=[NEW, *six_prompts()[::-1]])
    assert [prompt.id for prompt in found.prompts] == ["p1", "p2", "p3", "p4", "p5", "p6", "p7"]
    assert len(counted.units) == 2


@pytest.mark.usefixtures("no_page")
def test_only_what_reads_all_prompts_is_computed_again(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, names = tmp_path / "run", ["attribution", "patching", "faithfulness", "louder"]
    again(pair_folders, out, probes=names, prompts=six_prompts()[:2], sample=9)
    counted = Counted(monkeypatch)
    more = six_prompts()[:3]
    grown = again(pair_folders, out, probes=names, prompts=more, sample=9)
    assert counted.units == [
        *((name, side, "0003-p3") for side in ("base", "tuned") for name in ("attribution", "faithfulness")),
        ("patching", "pair", "heads"),
    ]
    same_tables(grown, again(pair_folders, tmp_path / "fresh", probes=names, prompts=more, sample=9))
    counted.units.clear()
    left = again(pair_folders, out, probes="attribution", prompts=six_prompts()[:4])
    assert "patching" not in left.study["findings"]
    assert any("fewer prompts: 'patching'; with --probes patching it is computed again" in note for note in left.notes)
    assert "louder" in left.verdicts


def test_a_changed_prompt_is_named(finished: Comparison, pair_folders: Folders) -> None:
    changed = [*six_prompts()[:2], six_prompts()[2].replace(group="other"), *six_prompts()[3:], NEW]
    with pytest.raises(StoreError, match=r"another study \(prompts that changed: 'p3'\)"):
        again(pair_folders, finished.out, prompts=changed)


@pytest.mark.usefixtures("no_page")
def test_a_grown_base_is_taken_over(
    finished: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny_folder(tmp_path / "other", "llama", seed=2)
    out = tmp_path / "run"
    counted = Counted(monkeypatch)
    again((pair_folders[0], other), out, base_from=finished.out)
    assert {side for _, side, _ in counted.units} == {"tuned"}
    first = copied(finished, tmp_path / "first")
    again(pair_folders, first, prompts=[*six_prompts(), NEW])
    counted.units.clear()
    again((pair_folders[0], other), out, base_from=first, prompts=[*six_prompts(), NEW])
    assert counted.units == [("attribution", "tuned", "0007-p7")]


# ---- a clock in the chat template


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("dated")
    base, tuned = tiny_folder(root / "base", "llama", seed=0), tiny_folder(root / "tuned", "llama", seed=1)
    tiny_tokenizer(chat_template=DAY).save_pretrained(tuned)
    return base, tuned


def test_a_clock_stands_still_for_all_prompts() -> None:
    moment = datetime(2024, 2, 29, 23, 59, 58, 5)
    clock = TemplateClock(moment)
    framed = frame_prompts(six_prompts(), "chat", tiny_tokenizer(chat_template=DAY), clock)
    assert clock.read
    assert {each.prompt.text.split("\n")[0] for each in framed} == {
        "Today is Thursday, 29 February 2024, 23:59:58.000005."
    }
    plain = TemplateClock(moment)
    frame_prompts(six_prompts(), "chat", tiny_tokenizer(chat_template="{{ messages[0]['content'] }}"), plain)
    assert not plain.read


@pytest.mark.usefixtures("no_page")
def test_a_dated_study_goes_on_the_next_day(dated: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, two = tmp_path / "run", six_prompts()[:2]
    yesterday = datetime(2024, 9, 30, 8, 15)
    first = again(dated, out, prompts=two, format="chat", rendered_at=yesterday)
    assert "Today is Monday, 30 September 2024" in first.prompts[0].text
    note = "The chat template writes the date or the time: 2024-09-30 08:15 in all prompts, also when this study is"
    assert any(note in each for each in first.notes)
    counted = Counted(monkeypatch)
    same_results(again(dated, out, prompts=two, format="chat"), first)
    assert counted.loaded == []
    grown = again(dated, out, prompts=six_prompts()[:3], format="chat")
    assert len(counted.units) == 2
    assert "Today is Monday, 30 September 2024" in grown.prompts[2].text


# ---- what prompts can tell before weights are loaded


def cut(folders: Folders, root: Path) -> Folders:
    """The pair with a tokenizer that has one token more than there are embeddings."""
    tokenizer = tiny_tokenizer(vocab=300)
    tokenizer.add_tokens([f"<f{n}>" for n in range(300 - len(tokenizer))])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|x|>"]})
    assert tokenizer.convert_tokens_to_ids("<|x|>") == 300
    made = tiny_folder(root / "b", "llama", seed=0), tiny_folder(root / "t", "llama", seed=1)
    for folder in made:
        tokenizer.save_pretrained(folder)
    return made


def test_a_token_beyond_the_embeddings_is_named_before_weights_are_loaded(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = cut(pair_folders, tmp_path)
    counted = Counted(monkeypatch)
    said = r"Prompt 'odd' holds the token '<\|x\|>' \(id 300\), and the base model has embeddings of ids up to 299 only"
    for odd in (
        Prompt("List <|x|> three.", instruction="List", id="odd"),
        Prompt("List three.", instruction="List", response=" a <|x|>", id="odd"),
    ):
        with pytest.raises(PromptError, match=said):
            again(folders, tmp_path / "run", prompts=[six_prompts()[0], odd])
    assert counted.loaded == []
    assert not (tmp_path / "run").exists()
    model = itlens.load_model(folders[0])
    with pytest.raises(PromptError, match=r"'<\|x\|>' \(id 300\)"):
        itlens.attribute(model, "List <|x|> three.", max_new_tokens=2)


def test_an_instruction_without_a_token_is_named_before_weights_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tokenizer that drops a character, as some drop accents and zero-width spaces."""
    from tokenizers.normalizers import Replace

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = Replace("~", "")
    folders = [tiny_folder(tmp_path / name, "llama", seed=seed, tokenizer=tokenizer) for seed, name in enumerate("bt")]
    counted = Counted(monkeypatch)
    blank = Prompt("Write ~ it.", instruction="~", id="blank")
    said = "Prompt 'blank': no token of the base model's tokenizer lies in its instruction '~'; mark words"
    with pytest.raises(PromptError, match=said):
        again((folders[0], folders[1]), tmp_path / "run", prompts=[*six_prompts(), blank])
    assert counted.loaded == []
    assert not (tmp_path / "run").exists()


class Stopped(Exception):
    """Instead of computing."""


def stopped(run: Any) -> Any:
    raise Stopped


def test_tokens_that_only_one_model_has_are_told_before_weights_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Run, "all_units", stopped)
    base = tiny_folder(tmp_path / "b", "llama", seed=0)
    tokenizer = tiny_tokenizer(chat_template="{% for m in messages %}<|u|>{{ m['content'] }}{% endfor %}")
    tokenizer.add_tokens([f"<f{n}>" for n in range(300 - len(tokenizer))])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|u|>"]})
    tuned = tiny_folder(tmp_path / "t", "llama", seed=1, tokenizer=tokenizer)
    counted = Counted(monkeypatch)
    asked: dict[str, Any] = {"prompts": six_prompts()[:2], "format": "chat"}
    with pytest.raises(PromptError, match=r"'<\|u\|>' \(id 300\).*or leave out the probes activation, patching"):
        again((base, tuned), tmp_path / "run", probes=["attribution", "activation", "patching"], **asked)
    assert counted.loaded == []
    with pytest.raises(Stopped):  # with all findings, those two are left out: said before anything is computed
        again((base, tuned), tmp_path / "run", probes="all", progress=True, **asked)
    said = capsys.readouterr().err
    of_pair = ", ".join(name for name, finding in findings().items() if finding.reads == "pair")
    assert said.startswith(f"Left out: {of_pair}. Prompt 'p1', as the tuned model reads it, holds the token")
    assert counted.loaded == []


# ---- a prompt or a layer that fails


def test_a_dead_layer_is_a_note_on_that_layer(pair_folders: Folders, tmp_path: Path) -> None:
    tuned = tiny_folder(tmp_path / "dead", "llama", seed=1)
    weights = load_file(tuned / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"].zero_()
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    found = itlens.compare(pair_folders[0], tuned, probes="mlp", out=tmp_path / "run", **small())
    rows = {name: ds.sizes["layer"] for name, ds in found.results["mlp"].items() if "layer" in getattr(ds, "sizes", ())}
    assert {rows[name] for name in rows if "value" in name} == {1}, "layer 0 is compared"
    assert {rows[name] for name in rows if "key" in name} == {2}
    (note,) = (text for text in found.notes if "could not be computed" in text)
    assert note.startswith("The finding 'mlp' could not be computed on 1 layers ('tuned/value-01'): All vectors of")
    assert "value vectors" in found.report_path.read_text().lower()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Prompts (by unit) on which the attribution fails."""
    listed: list[str] = []
    finding = type(findings()["attribution"])
    run = finding.run

    def run_or_fail(self: Any, source: Any, unit: str, plan: Any) -> Any:
        if unit in listed and plan.side == "tuned":
            raise ProbeError(f"Layer 1 answers {unit} with zeros alone.")
        return run(self, source, unit, plan)

    monkeypatch.setattr(finding, "run", run_or_fail)
    yield listed


@pytest.mark.usefixtures("no_page")
def test_a_prompt_that_fails_is_a_note_on_that_prompt(
    failing: list[str], finished: Comparison, pair_folders: Folders, tmp_path: Path
) -> None:
    failing += ["0002-p2", "0005-p5"]
    found = again(pair_folders, tmp_path / "run")
    assert list(found.results["attribution"]["prompts"]["id"]) == ["p1", "p3", "p4", "p6"]
    assert (
        "The finding 'attribution' could not be computed on 2 prompts ('p2', 'p5'): Layer 1 answers 0002-p2 with zeros "
        "alone."
    ) in found.notes
    failing.clear()
    same_results(again(pair_folders, tmp_path / "run"), finished)


def test_a_model_that_fails_on_every_prompt_says_why(failing: list[str], pair_folders: Folders, tmp_path: Path) -> None:
    failing += [f"000{n}-p{n}" for n in range(1, 7)]
    with pytest.raises(ItlensError, match="Layer 1 answers 0001-p1 with zeros alone"):
        again(pair_folders, tmp_path / "run")
    assert len(list((tmp_path / "run" / "attribution" / "base").iterdir())) == 6


# ---- what a run did not ask for


@pytest.mark.usefixtures("no_page")
def test_a_run_says_nothing_of_a_finding_that_it_did_not_ask_for(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        Counted(patch, stop_at=2, error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            again(pair_folders, out)
    found = again(pair_folders, out, probes="louder")
    assert not any("Only 0 of" in note for note in found.notes)
    assert [row.name for row in found.page.rows] == ["louder"]
    counted = Counted(monkeypatch)
    again(pair_folders, out)
    assert len(counted.units) == 10, "what was finished before is kept"


def test_the_page_lists_parameters_in_one_order(finished: Comparison, pair_folders: Folders, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "run")
    page = (out / "report.html").read_text()
    resumed = again(pair_folders, out)
    assert list(resumed.page.parameters) == list(finished.page.parameters)
    assert list(resumed.page.facts) == list(finished.page.facts)
    assert [list(section.facts) for section in resumed.page.sections] == [
        list(section.facts) for section in finished.page.sections
    ]
    assert list(RunFolder(out).read_study()) == list(finished.study)
    from itlens.study.outcome import write_outcome

    (out / "report.html").unlink()
    write_outcome(open_comparison(out))
    created = str(finished.study["created"])
    assert (out / "report.html").read_text().replace(str(resumed.study["created"]), created) == page
