from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from itlens import diff as diff_module
from itlens import views
from itlens.errors import ResultError
from itlens.views.report_content import as_content
from tests.views import factory


def content(**changes: Any) -> views.ReportContent:
    source = ["Name", " a", " fruit", ":"]
    example = views.Example(
        factory.prompt(source, 0, 3, id="fruit-1", group="category"),
        factory.attribution(source, [" a", " fruit"]),
        factory.attribution(source, [" apple"], model="toy/tuned"),
    )
    fields: dict[str, Any] = {
        "title": "Toy pair", "base": "toy/base", "tuned": "toy/tuned", "verdict": "The tuned model leans more.",
        "diff": factory.diff(24), "examples": [example], "parameters": {"levels": 10, "threshold": 7, "p": 4},
        "versions": {"itlens": "0.1.0"}, "notes": ["One response was empty; it scores 0."], "created": "2025-01-31",
    }  # fmt: skip
    return views.ReportContent(**(fields | changes))


def body(report: views.Report) -> str:
    """The page without its style sheets and bundles."""
    page = report.html
    return page[page.index("<body>") : page.index("</footer>")]


def test_a_report_says_what_was_found_and_what_was_run() -> None:
    shown = content()
    page = body(views.report(shown))
    row = shown.diff.groups.iloc[0]
    for words in (
        "Toy pair", "The tuned model leans more.", "toy/base", "toy/tuned", "One response was empty",
        f"{row.base_mean:.3f}", f"{row.tuned_mean:.3f}", f"+{row.difference:.3f}", "fruit-1", "2025-01-31",
        "At equal response length", "With length as a control", "All 24 prompts",
    ):  # fmt: skip
        assert words in page
    assert page.count('<div class="itlens-figure') == 4
    assert page.count('<figure class="itlens-tokens') == 2


def test_a_mapping_makes_the_same_report() -> None:
    shown = content()
    fields = {name: getattr(shown, name) for name in shown.__dataclass_fields__}
    assert views.report(fields).html == views.report(shown).html == str(views.report(shown))


def test_one_page_with_each_bundle_once_under_eight_megabytes() -> None:
    page = views.report(content()).html
    assert len(page.encode()) < 8_000_000
    assert page.count("var CircuitsVis=") == 1 and page.count("* plotly.js v") == 1
    assert "default-src 'none'" in page and "unsafe-inline" not in page.split("style-src")[0]


def test_small_groups_get_a_sentence_and_no_p_value() -> None:
    page = body(views.report(content(diff=factory.diff(11, ("many", "many", "few")))))
    assert "too few prompts for a test (n=3, at least 5 needed)" in page
    assert ">nan<" not in page.lower()


def test_a_tiny_study_says_in_words_why_there_is_no_test() -> None:
    page = body(views.report(content(diff=factory.diff(3, ("g",)))))
    hero = page[page.index('class="figures"') : page.index("<nav")]
    assert "too few prompts for a test (n=3, at least 5 needed)" in hero and "p =" not in hero


def test_a_note_beside_a_test_gets_its_own_column() -> None:
    diff = factory.diff(12)
    diff.groups.loc[0, "note"] = "no difference in any prompt"
    assert "no difference in any prompt" in body(views.report(content(diff=diff)))


def test_a_diff_without_prompts_says_so() -> None:
    diff = SimpleNamespace(
        prompts=factory.prompts(0, ("g",)), groups=pd.DataFrame(), equal_length=None, regression=None, sensitivity=None,
        profile=None, ratings=None,
    )  # fmt: skip
    report = views.report(content(diff=diff, examples=(), notes=(), parameters={}, versions={}))
    page = body(report)
    assert "No prompt was scored" in page and "No examples were kept" in page
    assert "<b>Please note</b>" not in page
    assert "No prompt was scored" in report._repr_html_()


def test_ratings_are_shown_when_there_are_any() -> None:
    ratings = pd.DataFrame(
        {"model": ["tuned"], "followed_n": [60], "followed_mean": [1.462], "t_welch": [3.71], "p_welch": [4e-4]}
    )
    diff = factory.diff(12)
    assert "Followed or not" not in body(views.report(content(diff=diff)))
    diff.ratings = ratings
    page = body(views.report(content(diff=diff)))
    assert "Followed or not" in page and "1.462" in page and "&lt; 0.001" in page


def test_everything_from_outside_is_escaped() -> None:
    evil = factory.HOSTILE[1]
    diff = factory.diff(12, (evil, factory.HOSTILE[0]))
    report = views.report(
        content(
            title=evil, base=evil, tuned=evil, verdict=evil, notes=[evil], compared={evil: evil}, created=evil,
            parameters={evil: evil}, versions={evil: [evil]}, diff=diff,
        )
    )  # fmt: skip
    for page in (body(report), report._repr_html_()):
        assert "<img" not in page and "<script>document" not in page
        assert "&lt;img src=x" in page


def test_what_the_diff_really_returns_makes_a_report() -> None:
    source = ["Name", " a", " fruit", ":"]
    asked = [factory.prompt(source, 0, 3, id=f"p{i}", group="ab"[i % 2], rating=1 + i % 3) for i in range(16)]
    base, tuned = (
        {p.id: factory.attribution(source, ["x"] * (6 + i + add), seed=40 * add + i, prompt_id=p.id, finish="eos")
         for i, p in enumerate(asked)}
        for add in (0, 1)
    )  # fmt: skip
    diff = diff_module.attributions(base, tuned, asked, resamples=200)
    page = body(views.report(content(diff=diff)))
    assert page.count('<div class="itlens-figure') == 4
    for words in ("Followed or not", "intercept: difference at equal", "All 16 prompts", "base ended"):
        assert words in page
    assert ">nan" not in page.lower()


def test_a_notebook_gets_a_summary() -> None:
    out = views.report(content())._repr_html_()
    assert "The tuned model leans more." in out and "<script" not in out and len(out) < 20_000


def test_facts_of_every_kind_are_readable() -> None:
    parameters = {"resume": True, "alpha": 0.05, "probes": ["attribution"], "adapter": None, "max_new_tokens": 200}
    page = body(views.report(content(parameters=parameters)))
    for words in ("<dd>yes</dd>", "<dd>0.05</dd>", "<dd>attribution</dd>", "<dd>–</dd>", "<dt>max new tokens</dt>"):
        assert words in page


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"title": "x"}, "needs base, tuned, verdict"),
        ({"title": "x", "colour": "red"}, "does not know colour"),
        ("x", "got a str"),
        (np.zeros(3), "got a ndarray"),
    ],
)
def test_wrong_content_is_named(given: Any, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        as_content(given)
