"""Texts: the built-in ones and their licence, files, lists, prompts, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import itlens
from itlens import PromptError
from itlens.prompts import Prompt, Texts, load_texts
from itlens.prompts.texts import as_passages, loaded_texts

FILE = Path(itlens.__file__).parent / "data" / "builtin_texts.txt"


def test_the_built_in_texts_are_short_english_sentences() -> None:
    texts = load_texts()
    assert (len(texts), len(set(texts)), texts.name) == (1000, 1000, "builtin")
    lengths = {len(text.split()) for text in texts}
    assert (min(lengths), max(lengths) <= 30) == (8, True)
    odd = [text for text in texts if not re.fullmatch(r"[A-Z][A-Za-z ,;'-]+\.", text)]
    assert odd == []
    assert FILE.stat().st_size < 150_000


def test_the_file_names_its_source_and_licence() -> None:
    head = FILE.read_text(encoding="utf-8").splitlines()[:3]
    assert "scripts/build_texts.py" in head[0]
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in head[1]
    licence = re.search(r"[A-Z_]+\.txt", head[2])
    assert licence is not None and (FILE.parent / licence.group()).is_file()


def test_files_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("One text.\n\n  # kept: a file of your own has no header\nTwo.\n", encoding="utf-8")
    texts = load_texts(path)
    assert texts == ("One text.", "# kept: a file of your own has no header", "Two.")
    assert texts.name == "own.txt"
    assert load_texts(path, limit=1) == ("One text.",)
    assert [passage.text for passage in as_passages(str(path))] == list(texts)
    assert loaded_texts(["a", "b"]).fingerprint == Texts(["a", "b"]).fingerprint != Texts(["ab"]).fingerprint
    assert loaded_texts(texts) is texts


def test_prompts_keep_their_names_and_are_followed_by_their_response() -> None:
    prompts = [Prompt("Say it.", response=" It.", id="p", group="g"), "plain"]
    assert [(one.id, one.group, one.text) for one in as_passages(prompts)] == [
        ("p", "g", "Say it. It."),
        ("text-0002", "", "plain"),
    ]
    assert len(as_passages(prompts[0])) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("no/such/file.txt", "'no/such/file.txt' is no file; expected \"builtin\", a file"),
        ([], "There are no texts"),
        (["a", ""], "The text 'text-0002' is empty"),
        ([None], "texts holds a NoneType"),
        (3, "texts is a int"),
        ({"a": "b"}, "texts is a dict"),
    ],
)
def test_what_is_no_text_is_refused_in_one_sentence(given: object, said: str) -> None:
    with pytest.raises(PromptError) as caught:
        as_passages(given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_files_and_wrong_limits(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(PromptError, match=r"empty\.txt holds no text"):
        load_texts(tmp_path / "empty.txt")
    with pytest.raises(PromptError, match="whole number of at least 1"):
        load_texts(limit=0)
