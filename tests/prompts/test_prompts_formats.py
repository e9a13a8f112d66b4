"""Formats: the spans must mark the same words after wrapping as before, whatever the text and the template hold."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jinja2 import Environment

from itlens import Prompt, PromptError, format_prompts
from itlens.prompts import templates
from itlens.prompts.formats import TemplateClock, frame_prompts
from tests.chat_templates import TEMPLATES
from tests.tiny import tiny_tokenizer


class FakeTokenizer:
    """As much of a tokenizer as format_prompts needs: a jinja chat template over one list of messages."""

    name_or_path = "fake"

    def __init__(self, chat_template: str | None) -> None:
        self.chat_template = chat_template

    def apply_chat_template(
        self, messages: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        assert not tokenize and add_generation_prompt

        def refuse(message: str) -> None:
            raise ValueError(message)

        template = Environment().from_string(self.chat_template or "")
        return template.render(messages=messages, raise_exception=refuse, bos_token="<s>")


PLAIN = "<s>[user]{{ messages[0].content }}[/user]\n[assistant]"
TRIM = "<s>[user]\n{{ messages[0].content | trim }}[end]\n"
REPEATS_WORDS = "Summarise. You answer well. User says: {{ messages[0]['content'] }} Summarise. Assistant:"


def test_raw_changes_nothing() -> None:
    prompts = [Prompt("Go.", instruction="Go.", response="r", id="a", group="g", rating=2, answer="b")]
    assert format_prompts(prompts) == prompts
    assert format_prompts(iter(prompts), "raw") == prompts
    assert format_prompts([], "chat", FakeTokenizer(PLAIN)) == []


def test_a_string_wraps_the_text_and_moves_the_spans_by_hand() -> None:
    prompt = Prompt("Go. x", instruction="Go.", context="x", response="r", id="a", rating=2)
    (done,) = format_prompts([prompt], "Q: {prompt} {0} {x!r}} {{\nA:")
    assert done == Prompt("Q: Go. x {0} {x!r}} {{\nA:", [(3, 6)], [(7, 8)], "r", "a", rating=2)


def test_a_prompt_that_holds_the_place_mark_is_not_expanded_again() -> None:
    (done,) = format_prompts([Prompt("say {prompt}", instruction="{prompt}")], "<{prompt}>")
    assert (done.text, done.span_text("instruction")) == ("<say {prompt}>", ["{prompt}"])


@pytest.mark.parametrize(
    ("format", "message"),
    [
        (
            "chatml",
            'The format "chatml" holds {prompt} 0 times; use "raw", "chat", or a text that holds {prompt} exactly',
        ),
        ("", "holds {prompt} 0 times"),
        ("{prompts}", "0 times"),
        ("{prompt} {prompt}", "2 times"),
        (None, 'must be "raw", "chat" or a text'),
    ],
)
def test_other_formats_are_refused(format: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        format_prompts([Prompt("a")], format)


def test_only_prompts_are_formatted() -> None:
    with pytest.raises(PromptError, match="takes Prompt objects, not a str"):
        format_prompts(["a"])  # type: ignore[list-item]
    with pytest.raises(PromptError, match="takes a list of prompts, not a Prompt"):
        format_prompts(Prompt("a"))  # type: ignore[arg-type]


def test_chat_puts_the_prompt_where_the_template_does() -> None:
    (done,) = format_prompts([Prompt("Go. x", instruction="Go.")], "chat", FakeTokenizer(PLAIN))
    assert done.text == "<s>[user]Go. x[/user]\n[assistant]"
    assert done.instruction == ((9, 12),)


def test_words_of_the_template_are_not_taken_for_the_prompt() -> None:
    (done,) = format_prompts([Prompt("Summarise.", instruction="Summarise.")], "chat", FakeTokenizer(REPEATS_WORDS))
    assert done.text == "Summarise. You answer well. User says: Summarise. Summarise. Assistant:"
    assert done.instruction == ((39, 49),)


def test_a_template_that_trims_moves_and_cuts_the_spans() -> None:
    prompt = Prompt("  \n Go. x  ", instruction=(0, 7), context=(8, 11))
    (done,) = format_prompts([prompt], "chat", FakeTokenizer(TRIM))
    assert done.text == "<s>[user]\nGo. x[end]"
    assert done.span_text("instruction") == ["Go."]
    assert done.span_text("context") == ["x"]


@pytest.mark.parametrize("cut", ["messages[0].content.lstrip()", "messages[0].content.rstrip()"])
def test_a_template_that_trims_one_side(cut: str) -> None:
    (done,) = format_prompts([Prompt(" ab ", instruction="ab")], "chat", FakeTokenizer(f"[{{{{ {cut} }}}}]"))
    assert done.span_text("instruction") == ["ab"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0].content | upper }}", "writes the user's message 0 times"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "writes the user's message 2 times"),
        ("nothing", "writes the user's message 0 times"),
        ("{{ messages[0].content | replace('b', 'c') }}", "changes the text of prompt"),
        ("{% if 'b' in messages[0].content %}!{% endif %}{{ messages[0].content }}", "changes the text of prompt"),
        ("{{ raise_exception('no user here') }}", "cannot be rendered: no user here"),
        ("{{ 1 + 'a' }}", "cannot be rendered"),
        ("{% if %}", "cannot be rendered"),
    ],
)
def test_templates_whose_text_cannot_be_followed_are_refused(template: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        format_prompts([Prompt("a b", instruction="b", id="p")], "chat", FakeTokenizer(template))


def test_chat_without_a_template_says_what_to_do() -> None:
    with pytest.raises(PromptError, match='The tokenizer "fake" has no chat template; use format="raw" or a text'):
        format_prompts([Prompt("a")], "chat", FakeTokenizer(None))
    with pytest.raises(PromptError, match="needs a tokenizer"):
        format_prompts([Prompt("a")], "chat")


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def spanned_prompts(draw: st.DrawFn) -> Prompt:
    text = draw(ANY_TEXT.filter(str.strip))
    words = [i for i, character in enumerate(text) if not character.isspace()]
    spans = [
        (start, draw(st.integers(start + 1, len(text)))) for start in draw(st.lists(st.sampled_from(words), max_size=4))
    ]
    return Prompt(text, instruction=spans[:2], context=spans[2:])


@given(spanned_prompts(), ANY_TEXT, ANY_TEXT)
def test_spanned_text_survives_any_string_format(prompt: Prompt, front: str, back: str) -> None:
    format = f"{front}{{prompt}}{back}"
    assume(format.count("{prompt}") == 1)
    (done,) = format_prompts([prompt], format)
    assert done.text == front + prompt.text + back
    for kind in ("instruction", "context"):
        assert done.span_text(kind) == prompt.span_text(kind)


@settings(deadline=None)
@given(spanned_prompts(), st.sampled_from([PLAIN, TRIM, REPEATS_WORDS]))
def test_spanned_text_survives_chat_templates(prompt: Prompt, template: str) -> None:
    (done,) = format_prompts([prompt], "chat", FakeTokenizer(template))
    for kind in ("instruction", "context"):
        before, after = prompt.span_text(kind), done.span_text(kind)
        if template != TRIM:
            assert after == before
        else:
            assert [text.strip() for text in after] == [text.strip() for text in before]


def test_a_real_tokenizer_renders_its_template() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")), bos_token="<bos>")
    with pytest.raises(PromptError, match="has no chat template"):
        format_prompts([Prompt("a")], "chat", tokenizer)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}<turn>{{ message['role'] }}\n{{ message['content'] | trim }}"
        "</turn>\n{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}"
    )
    (done,) = format_prompts([Prompt("  user Go! 👍", instruction="Go!", context="👍")], "chat", tokenizer)
    assert done.text == "<bos><turn>user\nuser Go! 👍</turn>\n<turn>model\n"
    assert (done.span_text("instruction"), done.span_text("context")) == (["Go!"], ["👍"])
    tokenizer.chat_template = "{{ raise_exception('only with tools') }}"
    with pytest.raises(PromptError, match="only with tools"):
        format_prompts([Prompt("a")], "chat", tokenizer)


HOSTILE = {
    "division": ("{{ 1 // 0 }}", "integer division or modulo by zero"),
    "recursion": ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "recursion"),
    "undefined": ("{{ messages[7].content.words }}", "has no element 7|undefined"),
    "syntax": ("{% for message in %}", "Expected an expression"),
    "range": ("{% for n in range(10 ** 9) %}{% endfor %}", "computes a power"),
    "power": ("{{ 9 ** 9 ** 9 }}", "computes a power"),
    "factor": ("{{ 'x' * 100000000000 }}", "computes with 100000000000"),
    "factors": ("{% set x = 'x' * 99999 %}{{ x * 99999 }}", "multiplies by 1e[+]10 in all"),
    "replaced": ("{{ ('x' * 9999) | replace('x', 'y' * 999999) }}", "multiplies by 1e[+]10 in all"),
    "indented": ("{{ ('x\\n' * 9999) | indent(999999) }}", "multiplies by 1e[+]10 in all"),
    "width": ("{{ '%999999999d' % 1 }}", "computes with 999999999"),
    "width of a method": ("{{ '{:>99999999}'.format(1) }}", "computes with 99999999"),
}


@pytest.mark.parametrize(("template", "told"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_chat_template_ends_in_one_sentence(template: str, told: str) -> None:
    with pytest.raises(PromptError, match=told) as error:
        format_prompts([Prompt("Go.", instruction="Go.")], "chat", tiny_tokenizer(chat_template=template))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("inner", ["{{ a }}", "{% set x = a * b %}", ""], ids=["writes", "counts", "nothing"])
def test_a_chat_template_without_an_end_is_stopped(inner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "SECONDS", 0.3)
    numbers = "range(99999)"
    loops = f"{{% for a in {numbers} %}}{{% for b in {numbers} %}}{inner}{{% endfor %}}{{% endfor %}}"
    before, started = sys.gettrace(), time.monotonic()
    with pytest.raises(PromptError, match=r"takes longer than 0\.3 seconds"):
        format_prompts([Prompt("Go.", instruction="Go.")], "chat", tiny_tokenizer(chat_template=loops))
    assert time.monotonic() - started < 10 and sys.gettrace() is before


LOOKS = {
    "said": "{{ strftime_now('%d %b %Y') }}",
    "by a variable": "{% set form = '%d ' ~ '%b %Y' %}{{ strftime_now(form) }}",
    "by name": "{{ strftime_now(format='%d %b %Y') }}",
    "if there is a clock": "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}26 Jul{% endif %}",
    "in a macro": "{% macro today() %}{{ strftime_now('%d %b %Y') }}{% endmacro %}{{ today() }}",
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_however_a_template_looks_at_the_clock_it_reads_the_moment_of_the_study(look: str) -> None:
    tokenizer = tiny_tokenizer(chat_template=look + "|{{ messages[0].content }}")
    clock = TemplateClock(datetime(2001, 2, 3, 4, 5))
    (framed,) = frame_prompts([Prompt("Go.", instruction="Go.")], "chat", tokenizer, clock)
    assert framed.prompt.text == "03 Feb 2001|Go."
    assert clock.read


@pytest.mark.parametrize("front", ["", "\n", "  ", "  \n  ", "\n\n"], ids=repr)
def test_a_clock_changes_nothing_else_of_a_template(front: str) -> None:
    plain = front + "{% for m in messages %}\n{{ m.content }}\n{% endfor %}\n100%% {{ '%' }}"
    looking = plain + "{% set unused = strftime_now('%d') %}"
    (bare,), (timed,) = (
        format_prompts([Prompt("Go.", instruction="Go.")], "chat", tiny_tokenizer(chat_template=template))
        for template in (plain, looking)
    )
    assert timed.text == bare.text


def test_every_directive_of_a_format_is_written() -> None:
    form = "%A %-d %B %Y, %j %U %H:%M:%S.%f %p 100%% %e %y%m%d"
    moment = datetime(2001, 2, 3, 4, 5, 6, 7)
    template = f"{{{{ strftime_now('{form}') }}}}|{{{{ messages[0].content }}}}"
    tokenizer, prompts = tiny_tokenizer(chat_template=template), [Prompt("Go.", instruction="Go.")]
    (framed,) = frame_prompts(prompts, "chat", tokenizer, TemplateClock(moment))
    assert framed.prompt.text == f"{moment.strftime(form)}|Go."


def test_markdown_and_dates_are_no_large_numbers() -> None:
    template = "**Today** 20240101 {{ 2 * 3 }}{% generation %}{% endgeneration %}{{ messages[0].content }}"
    (done,) = format_prompts([Prompt("Go.", instruction="Go.")], "chat", tiny_tokenizer(chat_template=template))
    assert done.text == "**Today** 20240101 6Go."


IGNORING = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize("name", TEMPLATES)
def test_released_templates_announce_the_models_turn(name: str) -> None:
    assert templates.unannounced_turn(tiny_tokenizer(chat_template=TEMPLATES[name])) == ""


def test_a_template_without_a_generation_prompt_is_noticed() -> None:
    assert templates.unannounced_turn(tiny_tokenizer(chat_template=IGNORING)) == "<|im_start|>assistant\n"
    assert templates.unannounced_turn(tiny_tokenizer(chat_template="{{ 1 // 0 }}")) == ""
    assert templates.unannounced_turn(tiny_tokenizer()) == ""
