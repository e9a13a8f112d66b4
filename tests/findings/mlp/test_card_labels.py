from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest

from itlens import views
from itlens.annotate import Label, annotate_concepts
from itlens.errors import ResultError
from itlens.report.render import panel_body
from tests.findings.mlp.test_concept_cards import dataset, other, signed, swapped
from tests.views import factory

FRUIT = ("fruit", "semantics", ("daily", "coding"))


def labels(said: dict[int, list[tuple[str, str, tuple[str, ...]] | None]], ds: Any = None) -> pd.DataFrame:
    """The labels of annotate_concepts with a labeller that says these things of a component, one for each seed."""
    concepts = dataset() if ds is None else ds
    shown = {" ".join(concepts["word"].sel(layer=3, component=at).values): rows for at, rows in said.items()}

    def labeller(words: list[str], seed: int = 0) -> Label:
        told = shown.get(" ".join(words), [None] * 9)[seed]
        return Label.unknown if told is None else Label(*told[:1], told[2], told[1], 0.6)

    labeller.seeds = tuple(range(len(next(iter(said.values())))))  # type: ignore[attr-defined]
    return annotate_concepts(concepts, labeller, components=2, progress=False)


def said(**options: Any) -> list[str]:
    """The labels of the cards of layer 3, in their order, as text."""
    panels = panel_body(views.concepts(dataset(), layer=3, **options))
    found = re.findall(r'<p class="label[^>]*>(.*?)</p>', panels)
    return [re.sub(r"<[^>]+>", "|", one).replace("||", "|") for one in found]


def test_a_card_says_what_its_words_have_in_common_with_level_and_tasks() -> None:
    told = labels({0: [FRUIT]})
    assert said(labels=told) == ["|fruit| |semantics|daily|coding|", "cannot tell"]
    assert said() == [], "without labels nothing is said"
    panels = panel_body(views.concepts(dataset(), layer=3, labels=told))
    assert 'title="confidence 60 %' in panels and panels.index("fruit") < panels.index("bread")


def test_no_task_and_no_level_are_said_too() -> None:
    assert said(labels=labels({0: [("water", "", ())], 1: [("x", "syntax", ())]})) == [
        "|water| |no level|no user task|", "|x| |syntax|no user task|",
    ]  # fmt: skip


def test_a_component_that_was_not_labelled_says_so() -> None:
    few = labels({0: [FRUIT]}).query("component == 0")
    assert said(labels=few) == ["|fruit| |semantics|daily|coding|", "not labelled"]


def test_of_several_seeds_what_half_of_them_say_with_how_many() -> None:
    told = labels({0: [FRUIT, ("food", "semantics", ("daily",)), None, FRUIT], 1: [FRUIT, None, None, None]})
    assert said(labels=told) == [
        "|fruit| (3 of 4 seeds) |semantics (3 of 4 seeds)|daily (3 of 4 seeds)|coding (2 of 4 seeds)|",
        "cannot tell (3 of 4 seeds)",
    ]


def test_base_and_tuned_have_their_own_labels() -> None:
    base = other()
    told = {"labels": labels({0: [FRUIT]}), "base_labels": labels({1: [("kitchen", "semantics", ())]}, base)}
    pair: dict[str, Any] = {"base": base, "match": swapped()}
    # tuned 0 stands beside base 1, tuned 1 beside base 0
    both = ["|kitchen| |semantics|no user task|", "|fruit| |semantics|daily|coding|", "cannot tell", "cannot tell"]
    assert said(**pair, **told) == both
    assert said(**pair, labels=told["labels"]) == both[1::2]


def test_each_pole_has_its_label() -> None:
    ds = signed([["hot", "warm"], ["cold", "ice"]])
    told = annotate_concepts(ds, lambda words: Label(f"{words[0]} ones"), components=1, progress=False)
    panels = panel_body(views.concepts(ds, layer=0, labels=told))
    plus, minus = panels.split("pole −")
    assert "hot ones" in plus and "cold ones" not in plus and "cold ones" in minus


def test_descriptions_are_text() -> None:
    evil = factory.HOSTILE[1]
    view = views.concepts(dataset(), layer=3, labels=labels({0: [(evil, "syntax", ())]}))
    assert "<img" not in panel_body(view) and "&lt;img src=x" in panel_body(view)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda told: said(labels=[1]), "got a list as labels: pass the table of itlens.annotate_concepts"),
        (lambda told: said(labels=told.drop(columns="level")), "needs the columns level, which labels does not have"),
        (lambda told: said(labels=told.query("layer == 1")), "layer=3, and labels has layers 1\\."),
        (lambda told: said(base_labels=told), "got base_labels without base"),
        (
            lambda told: said(labels=labels({0: [FRUIT]}, other())),
            "labels of other words than component 0 has: pass the labels of the same result",
        ),
        (
            lambda told: said(labels=told, base_labels=told, base=other(), match=swapped()),
            "got base_labels of other words than component 1 has",
        ),
        (
            lambda told: said(labels=labels({0: [FRUIT]}, dataset(vectors="key"))),
            "got labels of key vectors for concepts of value vectors",
        ),
    ],
)
def test_wrong_labels_say_what_was_expected(call: Any, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        call(labels({0: [FRUIT]}))
