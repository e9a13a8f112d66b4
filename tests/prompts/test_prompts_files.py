"""Loading and saving JSONL: what is read, what is refused with which words, and that saved prompts load back equal."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itlens import Prompt, PromptError, StoreError, load_prompts
from itlens.prompts import save_prompts

FULL = {
    "id": "a",
    "group": "g",
    "prompt": "Do it: x y",
    "instruction": "Do it:",
    "context": ["x", [9, 10]],
    "response": "done",
    "rating": 3,
    "answer": "z",
}


def written(folder: Path, content: str | bytes, name: str = "set.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def test_every_field_is_read(tmp_path: Path) -> None:
    (prompt,) = load_prompts(written(tmp_path, json.dumps(FULL)))
    assert prompt == Prompt("Do it: x y", [(0, 6)], [(7, 8), (9, 10)], "done", "a", "g", 3.0, "z")


def test_only_the_prompt_is_required_and_ids_are_made_up(tmp_path: Path) -> None:
    path = written(
        tmp_path, '{"prompt": "one"}\n\n{"prompt": "two", "id": null, "rating": null}\n{"prompt": "3", "id": 7}'
    )
    prompts = load_prompts(str(path))
    assert [prompt.id for prompt in prompts] == ["set-0001", "set-0002", "7"]
    assert prompts[0] == Prompt("one", id="set-0001")


def test_bom_crlf_blank_lines_and_unusual_separators_are_tolerated(tmp_path: Path) -> None:
    lines = ['{"prompt": "a\u2028b", "instruction": "b"}', "", "   ", '{"prompt": "c\x85d"}', ""]
    (first, second) = load_prompts(written(tmp_path, b"\xef\xbb\xbf" + "\r\n".join(lines).encode()))
    assert (first.text, first.instruction, second.text) == ("a\u2028b", ((2, 3),), "c\x85d")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "set.jsonl is empty"),
        (" \n\r\n", "set.jsonl is empty"),
        (b"\xef\xbb\xbf", "set.jsonl is empty"),
        (b'{"prompt": "a"}\n{"prompt": "\xff"}', r"line 2: byte 0xff is not UTF-8"),
        (gzip.compress(b"x", mtime=0), "is a binary file|is not UTF-8"),
        ("text".encode("utf-16"), "not UTF-8|binary file"),
        (b"PK\0\0", "is a binary file"),
        ('{"prompt": "a"}\n{"prompt": "b"', r"line 2: broken JSON \(.* at column \d+\); each line must be one object"),
        ("[" * 100_000, "line 1: broken JSON"),
        ('{"prompt": "a"}\n\n["b"]', "line 3: a list stands where an object"),
        ("null", "line 1: a null stands"),
        ('"text"', "line 1: a string stands"),
        ('{"id": "a"}', 'line 1: the field "prompt" is missing'),
        ('{"prompt": null}', 'line 1: the field "prompt" is missing'),
        ('{"prompt": 5}', "line 1: Prompt .*its text must be text"),
        ('{"prompt": ""}', "line 1: Prompt .*its text is empty"),
        ('{"prompt": "a", "id": ["x"]}', "line 1: .*its id must be text"),
        ('{"prompt": "a", "id": true}', "line 1: .*its id must be text"),
        ('{"prompt": "a", "rating": "good"}', "line 1: .*its rating must be a number"),
        ('{"prompt": "a", "rating": 1e999}', "line 1: .*not a finite number"),
        ('{"prompt": "a", "rating": NaN}', "line 1: .*not a finite number"),
        ('{"prompt": "a", "response": {}}', "line 1: .*its response must be text"),
        ('{"prompt": "a", "instruction": 4}', "line 1: .*its instruction is of the type int"),
        ('{"prompt": "a", "prompt": "b"}', 'line 1: the field "prompt" is given more than once'),
        (
            '{"prompt": "a", "Instructions": "a"}',
            'unknown field "Instructions"; did you mean "instruction"[?] Known fields',
        ),
        ('{"prompt": "a", "zzz": 1}', 'unknown field "zzz". Known fields are id, group, prompt, instruction, context'),
        ('{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}', 'line 2: the id "x" is that of line 1 already'),
        ('{"prompt": "a"}\n{"prompt": "b", "id": "set-0001"}', 'line 2: the id "set-0001" is that of line 1'),
        ('{"prompt": "half \\ud83d"}', "line 1: .*half of a surrogate pair"),
        (
            '{"prompt": "Sort the words.", "id": "w", "instruction": "Sort teh words."}',
            'line 1: Prompt "w": its instruction "Sort teh words." does not occur .*text there is "Sort the words."',
        ),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(PromptError, match=message) as caught:
        load_prompts(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    written(tmp_path, json.dumps(FULL))
    with pytest.raises(PromptError, match=r"no prompt file .*sett.jsonl \(there is .*set.jsonl\)"):
        load_prompts(tmp_path / "sett.jsonl")
    with pytest.raises(PromptError, match=r'no prompt file nowhere/x\.jsonl; give a file, "builtin" or "demo"'):
        load_prompts("nowhere/x.jsonl")
    with pytest.raises(PromptError, match="is a folder"):
        load_prompts(tmp_path)
    with pytest.raises(PromptError, match="cannot be read"):
        load_prompts("a\0b")
    for nothing in ("", None, 5, [Prompt("a")]):
        with pytest.raises(PromptError, match='Give a prompt file, "builtin" or "demo"'):
            load_prompts(nothing)  # type: ignore[arg-type]


def test_limit_keeps_the_first_ones_and_the_rest_is_checked(tmp_path: Path) -> None:
    path = written(tmp_path, '{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}')
    assert [prompt.text for prompt in load_prompts(path, limit=2)] == ["a", "b"]
    assert len(load_prompts(path, limit=9)) == 3
    for limit in (0, -1, 1.5, True, "2"):
        with pytest.raises(PromptError, match="limit must be a whole number of at least 1"):
            load_prompts(path, limit=limit)  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="line 4"):
        load_prompts(written(tmp_path, path.read_text() + "\nx"), limit=1)


def test_format_is_applied_while_loading(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps(FULL))
    (prompt,) = load_prompts(path, format="Q: {prompt}\nA:")
    assert (prompt.text, prompt.span_text("instruction")) == ("Q: Do it: x y\nA:", ["Do it:"])


UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "👩‍👩‍👧",
        "e\u0301\u0323",
        '"',
        "'",
        "\\",
        "</script>",
        "\u2028\u2029",
        "\x00\x1b",
        "\ufeff",
        "a\r\nb",
        "a\rb",
        "שלום",
        "NaN",
    ]
)


@st.composite
def prompts_of_any_text(draw: st.DrawFn, index: int) -> Prompt:
    text = draw(st.lists(UNICODE, min_size=1, max_size=4).map("".join).filter(str.strip))
    words = [i for i, character in enumerate(text) if not character.isspace()]
    starts = draw(st.lists(st.sampled_from(words), max_size=3))
    spans = [(start, draw(st.integers(start + 1, len(text)))) for start in starts]
    return Prompt(
        text,
        instruction=spans[:2],
        context=spans[2:],
        response=draw(st.none() | UNICODE),
        id=f"{index}{draw(UNICODE)}" if draw(st.booleans()) else "",
        group=draw(UNICODE),
        rating=draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        answer=draw(st.none() | UNICODE),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 4).flatmap(lambda n: st.tuples(*(prompts_of_any_text(index) for index in range(n)))))
def test_saved_prompts_load_back_equal(tmp_path: Path, prompts: tuple[Prompt, ...]) -> None:
    path = tmp_path / "saved.jsonl"
    save_prompts(prompts, path)
    assert load_prompts(path) == list(prompts)
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved.jsonl"]


def test_what_would_not_load_back_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "saved.jsonl"
    with pytest.raises(PromptError, match="no prompts to write"):
        save_prompts([], path)
    with pytest.raises(PromptError, match='the id "x" is that of line 1'):
        save_prompts([Prompt("a", id="x"), Prompt("b", id="x")], path)
    with pytest.raises(PromptError, match="would be read as the paper's TSV"):
        save_prompts([Prompt("a")], path.with_suffix(".tsv"))
    with pytest.raises(PromptError, match="not a str"):
        save_prompts(["a"], path)  # type: ignore[list-item]
    assert not path.parent.exists()
    save_prompts([Prompt("a")], path)
    assert load_prompts(path) == [Prompt("a")]


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(StoreError):
        save_prompts([Prompt("a")], tmp_path / "file" / "saved.jsonl")
    with pytest.raises(StoreError):
        save_prompts([Prompt("a")], tmp_path)
    assert (tmp_path / "file").read_text() == "kept"


def test_prompts_import_no_model_library() -> None:
    code = (
        "import sys, itlens.prompts as p; p.load_prompts('builtin', format='Q: {prompt}');"
        "print([m for m in ('torch', 'transformers', 'transformer_lens', 'jinja2', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
