"""Tokens that a model has no embedding for, and texts far beyond what it reads: refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import itlens
from itlens.errors import PromptError
from itlens.hooked.tokens import forced
from tests.tiny import tiny_folder, tiny_tokenizer


@pytest.fixture(scope="module")
def extended() -> Any:
    """A tokenizer with one token more than the model has embeddings: <|x|> is id 300."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<f{number}>" for number in range(300 - len(tokenizer))])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|x|>"]})
    assert tokenizer.convert_tokens_to_ids("<|x|>") == 300
    return tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, extended: Any) -> Any:
    folder: Path = tiny_folder(tmp_path_factory.mktemp("llama"), "llama", tokenizer=tiny_tokenizer())
    return itlens.load_model(folder, tokenizer=extended)


BEYOND = itlens.Prompt("List <|x|> three", instruction="List", id="one")
IN_RESPONSE = itlens.Prompt("List three", instruction="List", id="one", response=" a <|x|>")


@pytest.mark.parametrize("prompt", [BEYOND, IN_RESPONSE], ids=["prompt", "response"])
def test_a_token_without_an_embedding_is_named(
    model: Any, prompt: itlens.Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its text, its id and the prompt's id, and nothing is generated before."""

    def generate(*args: Any, **options: Any) -> None:
        raise AssertionError("generated")

    monkeypatch.setattr(type(model), "generate", generate)
    quiet: dict[str, Any] = {"progress": False}
    given = "given" if prompt.response else "tuned"
    asks: list[Any] = [
        lambda: itlens.attribute(model, prompt, **quiet),
        lambda: itlens.activations(model, prompt, **quiet),
        lambda: itlens.activation_shift((model, model), prompt, responses=given, **quiet),
        lambda: itlens.patch((model, model), prompt, responses=given, **quiet),
        lambda: itlens.faithfulness(model, prompt, **quiet),
        lambda: forced(model, prompt),
    ]
    for ask in asks:
        with pytest.raises(PromptError, match=r"prompt 'one' holds the token '<\|x\|>' \(id 300\).*ids up to 299"):
            ask()


def test_the_last_token_that_there_is_is_read(model: Any) -> None:
    assert itlens.attribute(model, "List", [299, 40], progress=False).target_id.values.tolist() == [299, 40]


@pytest.fixture
def counted(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many characters the tokenizer was given, call by call."""
    read: list[int] = []
    kept = type(model.itlens_source.tokenizer).__call__

    def call(self: Any, text: str, *args: Any, **options: Any) -> Any:
        read.append(len(text))
        return kept(self, text, *args, **options)

    monkeypatch.setattr(type(model.itlens_source.tokenizer), "__call__", call)
    return read


@pytest.mark.parametrize("response", [None, " a"])
def test_a_text_far_beyond_the_context_is_refused_by_its_beginning(
    model: Any, counted: list[int], response: str | None
) -> None:
    text = "three animals " * 300_000
    prompt = itlens.Prompt(text, id="huge", response=response)
    said = (
        r"prompt 'huge' has 4,200,000 characters, and the first 4,096 alone are [\d,]+ tokens; .* at most 256: shorten"
    )
    for ask in (itlens.attribute, itlens.activations, itlens.faithfulness):
        with pytest.raises(PromptError, match=said):
            ask(model, prompt, progress=False)  # type: ignore[operator]
    assert max(counted) == 4096


def test_a_response_far_beyond_the_context_is_refused_by_its_beginning(model: Any, counted: list[int]) -> None:
    with pytest.raises(PromptError, match="the first 4,096 alone are"):
        itlens.attribute(model, "List", " three" * 1_000_000, progress=False)
    assert max(counted) == 4096


def test_texts_just_beyond_the_context_are_counted_as_before(model: Any) -> None:
    """BOS, 254 tokens and a response of two, whose last one is predicted and not read; one token more is too long."""
    assert itlens.attribute(model, "q" * 254, "qq", progress=False).sizes["source"] == 254
    with pytest.raises(PromptError, match=r"is 258 tokens long with its response; .* reads at most 256"):
        itlens.attribute(model, "q" * 255, "qq", progress=False)


def test_a_long_text_of_few_tokens_is_read(tmp_path: Path) -> None:
    """More characters than are looked at first, in tokens of 256 characters: no bound on characters refuses it."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["z" * 256])
    model = itlens.load_model(tiny_folder(tmp_path, "llama", tokenizer=tokenizer))
    text = "z" * (256 * 20)
    assert itlens.attribute(model, text, " a", progress=False).sizes["source"] == 20
