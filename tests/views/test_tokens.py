from __future__ import annotations

import json
import re

import numpy as np
import pytest
import xarray as xr

from itlens import views
from itlens.errors import ResultError
from itlens.report import page
from itlens.report.render import panel_body
from itlens.results.density import importance_density
from tests.views import factory

SCORE = [[0.5, 0.0], [-1.0, 0.2], [0.25, 0.4]]
DS = factory.attribution(["Do", " this", "\n"], [" one", " two"], SCORE)


def rows(view: views.TokenView, side: int = 0) -> list[list[object]]:
    found = re.findall(r'data-rows="([^"]*)"', panel_body(view))
    return json.loads(found[side])


def dense(row: list[object], n: int = 3) -> list[float]:
    values = [0.0] * n
    pairs: list[int] = row[2]  # type: ignore[assignment]
    for i, steps in zip(pairs[::2], pairs[1::2], strict=True):
        values[i] = steps * row[0]  # type: ignore[operator]
    return values


def test_rows_are_the_density_and_then_each_target() -> None:
    first, *targets = rows(views.tokens(DS))
    density = importance_density(DS).values
    assert dense(first) == pytest.approx(density / density.max(), abs=1e-3)
    assert [dense(row) for row in targets] == [pytest.approx(c, abs=1e-3) for c in np.transpose(SCORE)]


def test_levels_are_those_that_count() -> None:
    # column 0: 0.5, -1, 0.25 -> 10, 0, 5 -> above 7: 10, 0, 0; column 1: 0, 0.2, 0.4 -> 0, 5, 10 -> 0, 0, 10
    view = views.tokens(DS, values="levels")
    assert [dense(row) for row in rows(view)[1:]] == [[10, 0, 0], [0, 0, 10]]
    low = views.tokens(DS, values="levels", threshold=0)
    assert [dense(row) for row in rows(low)[1:]] == [[10, 0, 5], [0, 5, 10]]


def test_stored_levels_are_shown_as_levels() -> None:
    ds = factory.attribution(["a", "b", "c"], ["x", "y"], [[10, 0], [8, 0], [0, 10]], levels=10)
    assert [dense(row) for row in rows(views.tokens(ds))[1:]] == [[10, 8, 0], [0, 0, 10]]


def test_the_target_chooses_what_is_shown_first() -> None:
    assert 'data-start="0"' in panel_body(views.tokens(DS))
    assert 'data-start="2"' in panel_body(views.tokens(DS, target=1))
    assert panel_body(views.tokens(DS, target=-1)) == panel_body(views.tokens(DS, target=1))
    assert "attribution for response token 2 “ two”" in panel_body(views.tokens(DS, target=1))
    with pytest.raises(ResultError, match=r"target=2, and this response has tokens 0 to 1"):
        views.tokens(DS, target=2)


def test_the_instruction_is_underlined_and_new_lines_stay() -> None:
    prompt = factory.prompt(["Do", " this", "\n"], 0, 2)
    panels = panel_body(views.tokens(DS, prompt=prompt))
    assert re.findall(r'class="(t i|t)" title', panels) == ["t i", "t i", "t"]
    assert "↵</span><br>" in panels


def test_an_empty_response_is_said_to_be_empty() -> None:
    view = views.tokens(factory.attribution(["a", "b"], []))
    assert "the model ended at once (scores 0)" in panel_body(view)
    assert dense(rows(view)[0], 2) == [0, 0]
    with pytest.raises(ResultError, match="none"):
        views.tokens(factory.attribution(["a", "b"], []), target=0)


def test_a_pair_shows_both_models_in_their_colours() -> None:
    tuned = factory.attribution(["Do", " this", "\n"], [" ok"], model="toy/tuned")
    view = views.token_pair(DS, tuned)
    assert "base: base" in panel_body(view) and "tuned: tuned" in panel_body(view)
    assert re.findall(r'itlens-tokens (\w+)"', panel_body(view)) == ["base", "tuned"]
    assert len(rows(view, 0)) == 3 and len(rows(view, 1)) == 2


def test_a_notebook_gets_a_small_view_and_a_page_the_bundle_once() -> None:
    view = views.token_pair(DS, DS)
    assert len(view._repr_html_()) < 20_000
    assert str(view) == view.html
    assert view.html.count("var CircuitsVis=") == 1
    assert len(view.html) < 1.4e6


def test_hostile_tokens_are_text() -> None:
    ds = factory.attribution(list(factory.HOSTILE), list(factory.HOSTILE), model=factory.HOSTILE[1])
    out = views.tokens(ds, target=1)._repr_html_()
    panels = out[out.index("</style>") : out.rindex("<script>")]
    assert "<script" not in panels and "<img" not in panels and "<!--" not in panels
    assert "&lt;/script&gt;&lt;script&gt;" in panels and "&lt;0x00&gt;" in panels and "⟨U+2028⟩" in panels


@pytest.mark.parametrize("call", [views.tokens, lambda ds: views.token_pair(DS, ds)])
def test_anything_but_an_attribution_is_refused(call: object) -> None:
    with pytest.raises(ResultError, match=r"pass what itlens.attribute returns"):
        call(xr.Dataset({"x": 1}))  # type: ignore[operator]
    with pytest.raises(ResultError, match=r"NaN"):
        call(DS.assign(score=DS.score * np.nan))  # type: ignore[operator]


def test_unknown_values_are_refused() -> None:
    with pytest.raises(ResultError, match="choose 'score' or 'levels'"):
        views.tokens(DS, values="both")


def test_a_missing_bundle_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "find_spec", lambda package: None)
    page.circuitsvis.cache_clear()
    with pytest.raises(ResultError, match=r"circuitsvis has no dist/cdn/iife.js"):
        page.circuitsvis()
    page.circuitsvis.cache_clear()


def test_a_view_is_one_line_of_text() -> None:
    assert repr(views.tokens(DS)) == f"TokenView('Attribution: {DS.attrs['prompt_id']}')"
    assert len(repr(views.token_pair(DS, DS))) < 80


def in_pieces() -> xr.Dataset:
    """An attribution of "a 🙂ש" whose second and third characters are four and two tokens."""
    ds = factory.attribution(["a", " 🙂", "", "", "", "ש", ""], ["数", "", "", "."])
    return ds.assign_coords(
        source_start=("source", [0, 1, 2, 2, 2, 3, 3]), source_stop=("source", [1, 3, 3, 3, 3, 4, 4]),
        target_start=("target", [0, 0, 0, 1]), target_stop=("target", [1, 1, 1, 2]),
    )  # fmt: skip


def test_a_character_of_several_tokens_is_shown_once_over_its_pieces() -> None:
    body = panel_body(views.tokens(in_pieces(), target=1))
    prompt, response = (re.findall(rf'<span class="(t{r}[^"]*)"[^>]*>([^<]*)<', body) for r in ("(?! r)", " r"))
    assert [shown for _, shown in prompt] == ["a", " 🙂", "₂", "₃", "₄", "ש", "₂"]
    assert [shown for _, shown in response] == ["数", "₂", "₃", "."]
    assert ["p" in classes.split() for classes, _ in prompt] == [False, False, True, True, True, False, True]
    assert "piece 3 of 4 of 🙂" in body and "token 2, piece 2 of 3 of 数" in body
    assert "attribution for response token 2 “piece 2 of 3 of 数”" in body


def test_pieces_that_an_older_result_shows_as_replacement_signs_are_shown_as_the_character() -> None:
    old = in_pieces().assign_coords(source_token=("source", ["a", " \ufffd", *["\ufffd"] * 5]))
    assert panel_body(views.tokens(old)) == panel_body(views.tokens(in_pieces()))


def test_a_heatmap_writes_a_character_once_and_names_its_pieces() -> None:
    figure = views.heatmap(in_pieces())
    assert [shown.strip() for shown in figure.layout.yaxis.ticktext] == ["a", "🙂", "₂", "₃", "₄", "ש", "₂"]
    assert "piece 4 of 4 of 🙂" in figure.data[0].customdata[4][0]


def test_prompt_and_response_are_written_in_the_direction_of_their_text() -> None:
    body = panel_body(views.tokens(in_pieces()))
    assert body.count('<div class="prompt" dir="auto">') == body.count('<div class="response" dir="auto">') == 1
