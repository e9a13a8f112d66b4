"""The report's sections on running models: any one part alone is a report, and it says what its tables say."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from itlens import ResultError, views
from tests.views import running_factory as factory
from tests.views.test_report import body, content
from tests.views.test_report_concepts import rows_of
from tests.views.test_report_words import ATTRIBUTION, anchors

PARTS: dict[str, Any] = {
    "activation": factory.activation_content(),
    "patching": factory.patch_content(),
    "faithfulness": factory.faithfulness_content(),
}
SECTIONS = {"activation": "activations", "patching": "patching", "faithfulness": "faithfulness"}


def only(**parts: Any) -> views.ReportContent:
    verdict = " ".join(part.verdict for part in parts.values())
    fields = {"title": "Running", "base": "toy/base", "tuned": "toy/tuned", "verdict": verdict}
    return views.ReportContent(**(fields | parts))


def page_of(**parts: Any) -> str:
    return body(views.report(only(**(parts or PARTS))))


@pytest.mark.parametrize("name", [*PARTS])
def test_any_part_alone_is_a_report(name: str) -> None:
    report = views.report(only(**{name: PARTS[name]}))
    page = body(report)
    links, headings = anchors(page)
    assert links == headings == [SECTIONS[name], "methods", "run"]
    assert page.count(PARTS[name].verdict) == 1, "the page's own answer is not said twice"
    assert "CircuitsVis=" not in report.html and len(report.html) < 5_300_000 and ">nan" not in page.lower()
    assert "Wu et al." not in page, "these are no parts of the paper"
    assert "<table" in report._repr_html_() and "<script" not in report._repr_html_()


def test_all_parts_stand_behind_those_of_the_paper() -> None:
    page = body(views.report(content(**PARTS)))
    links, headings = anchors(page)
    assert links == headings == [*ATTRIBUTION, "activations", "patching", "faithfulness", "methods", "run"]
    for name, part in PARTS.items():
        assert page.index(f'<h2 id="{SECTIONS[name]}">') < page.index(part.verdict), "an answer that the top has not"


def test_answers_become_paragraphs_with_what_they_are_about() -> None:
    said = " ".join(f"{name}: {part.verdict}" for name, part in zip(("Activations", "Patching", "Faithfulness"),
                                                                   PARTS.values(), strict=True))  # fmt: skip
    page = body(views.report(replace(only(**PARTS), verdict=f"Much. {said}")))
    verdicts = re.findall(r'<p class="verdict">(.*?)</p>', page)
    assert verdicts == ["Much.", *(f"{name}: {part.verdict}" for name, part in zip(
        ("Activations", "Patching", "Faithfulness"), PARTS.values(), strict=True))]  # fmt: skip


def test_each_answer_stands_beside_its_own_figures() -> None:
    page = page_of()
    finding = r'<p class="which">.*?</p><div class="finding"><p class="verdict">(.*?)</p><div class="figures">'
    blocks = re.findall(finding, page)
    assert blocks == [part.verdict for part in PARTS.values()]


def test_figures_at_the_top_are_those_of_the_results() -> None:
    page = page_of()
    hero = page[page.index('class="figures"') : page.index("<nav")]
    diff, patched, table = PARTS["activation"].diff, PARTS["patching"].patched, PARTS["faithfulness"].table
    told = (diff.attention_mass.sel(group="all", token_class="instruction", measure="p_bh") < 0.05).sum().item()
    kl = PARTS["activation"].shift.lens_kl_base_tuned.sel(group="all", reading="own", summary="mean")[-1].item()
    for words in (
        f"{told} of 24", "L4H3", f"{kl:.2f} nats", "+1.40 nats", "[+1.10, +1.70]", "heads that carry four fifths",
        "5 of 24", "1 of 24", "L3H2 60 %", f"{table.base_advantage[0]:+.3f}", f"{table.tuned_advantage[1]:+.3f}",
    ):  # fmt: skip
        assert words in hero, words
    assert float(patched.needed_80_of_all) == 5 and hero.count('class="figures"') == 3


def test_the_moved_heads_and_the_statistics_stand_in_tables() -> None:
    page = page_of(activation=PARTS["activation"])
    rows = rows_of(page, "The heads that moved most: 15 of 24")
    for row, one in zip(rows, PARTS["activation"].heads.itertuples(), strict=False):
        assert (row["head"], row["relative change"]) == (f"L{one.layer}H{one.head}", f"{one.mean:.3f}")
        assert row["95 % interval"] == f"[{one.ci_low:.3f}, {one.ci_high:.3f}]"
    found = {row["statistic"]: row for row in rows_of(page, "What differs, statistic by statistic")}
    mass = PARTS["activation"].diff.attention_mass.sel(group="all")
    told = int((mass.sel(measure="p_bh") < 0.05).sum())
    assert found["attention mass"]["differ"] == f"{told} of {6 * 4 * 6}"
    assert found["attention mass"]["most in"] == "L2H1, instruction tokens"
    there = mass.sel(layer=2, head=1, token_class="instruction")
    assert found["attention mass"]["difference"] == f"{there.sel(measure='difference').item():+.3f}"
    assert found["lens_commitment"]["most in"] == "the whole model"


def test_heads_that_carry_most_stand_with_their_test_and_estimate() -> None:
    patched = PARTS["patching"].patched
    rows = rows_of(page_of(patching=PARTS["patching"]), "The heads that carry most: 15 of 24")
    assert (rows[0]["head"], rows[0]["recovered"], rows[0]["p BH"]) == ("L3H2", "+0.600", "0.001")
    assert rows[0]["95 % interval"] == "[+0.550, +0.650]" and rows[0]["estimate"] == "+0.540"
    values = [float(row["recovered"].replace("−", "-")) for row in rows]
    assert values == sorted(values, reverse=True)
    assert values[1] == pytest.approx(np.sort(patched.recovered.values.ravel())[-2], abs=5e-4)


def test_heads_that_widen_the_gap_are_not_hidden() -> None:
    patched = PARTS["patching"].patched.copy(deep=True)
    assert "work against it" not in page_of(patching=PARTS["patching"])
    for head, value in ((0, -0.9), (1, -0.4)):
        patched["recovered"][5, head], patched["p_bh"][5, head] = value, 0.01
    page = page_of(patching=replace(PARTS["patching"], patched=patched))
    rows = rows_of(page, "Heads that work against it: 2 of 2")
    assert [(row["head"], row["recovered"]) for row in rows] == [("L5H0", "−0.900"), ("L5H1", "−0.400")]
    assert "3 of 24" in page and "2 of them widen the gap" in page


def test_heads_named_at_the_top_are_those_whose_effect_holds() -> None:
    patched = PARTS["patching"].patched.copy(deep=True)
    patched["recovered"][0, 0], patched["p_bh"][0, 0] = 0.5, 0.13
    patched["recovered"][1, 1], patched["p_bh"][1, 1] = 0.4, 0.01
    page = page_of(patching=replace(PARTS["patching"], patched=patched))
    hero = page[page.index('class="figures"') : page.index("<nav")]
    assert "2 of 24" in hero and "most: L3H2 60 %, L1H1 40 %" in hero and "L0H0" not in hero
    patched["p_bh"][:] = 0.6
    page = page_of(patching=replace(PARTS["patching"], patched=patched))
    hero = page[page.index('class="figures"') : page.index("<nav")]
    assert "0 of 24" in hero and "most: " not in hero


def test_agreement_is_a_row_per_pair_and_a_list_per_ranking() -> None:
    page = page_of(patching=PARTS["patching"])
    one = PARTS["patching"].agreement.isel(result=0, other=1)
    (row,) = rows_of(page, "point at the same heads?")
    assert row["rankings"] == "shift and &lt;b&gt;patching&lt;/b&gt;"
    assert row["rank correlation"].replace("−", "-") == f"{one.spearman.item():+.2f}"
    assert row["top heads shared"] == f"{int(one.shared)} of 3"
    lists = rows_of(page, "The first heads of each, side by side")
    assert [row["place"] for row in lists] == ["1", "2", "3"]
    assert lists[0]["shift"].startswith("L4H3") and lists[0]["&lt;b&gt;patching&lt;/b&gt;"].startswith("L3H2")
    marked = sum(cell.endswith("●") for row in lists for cell in list(row.values())[1:])
    assert marked == 2 * int(one.shared)


def test_patching_of_layers_has_no_table_of_heads() -> None:
    page = page_of(patching=factory.patch_content(what="mlp"))
    assert "carry most" not in page and "side by side" not in page and "MLPs with an effect by themselves" in page


def test_where_nothing_could_be_tested_it_says_so() -> None:
    note = "the metric does not differ between the models <b>"
    patched = PARTS["patching"].patched
    nothing = patched.map(lambda x: x * np.nan if x.dtype.kind == "f" else x).assign_attrs(
        patched.attrs | {"note": note}
    )
    page = page_of(patching=views.PatchContent(nothing, None, "Nothing."))
    assert "the metric does not differ between the models &lt;b&gt;." in page and "itlens-figure" not in page
    assert "four fifths" not in page and "by themselves" not in page
    few = factory.activation_diff(prompts=3)
    page = page_of(activation=replace(PARTS["activation"], diff=few))
    hero = page[page.index('class="figures"') : page.index("<nav")]
    assert "too few prompts for a test (n=3, at least 5 needed)" in hero and "0 of 24" not in hero


def test_a_note_on_the_curve_stands_above_it() -> None:
    patched = PARTS["patching"].patched.assign_attrs(note="the curve is judged on <its> own prompts")
    page = page_of(patching=replace(PARTS["patching"], patched=patched))
    assert "Note: the curve is judged on &lt;its&gt; own prompts." in page


def test_faithfulness_has_its_table_and_both_figures() -> None:
    part = PARTS["faithfulness"]
    page = page_of(faithfulness=part)
    assert page.count('<div class="itlens-figure') == 2
    rows = rows_of(page, "Advantage over random orders")
    assert len(rows) == len(part.table) == 6 and rows[0]["method"] == "input x gradient (density)"
    first = part.table.iloc[0]
    assert rows[0]["base"] == f"{first.base_advantage:+.3f} [{first.base_low:+.3f}, {first.base_high:+.3f}]"
    without = page_of(faithfulness=replace(part, curves=None))
    assert without.count('<div class="itlens-figure') == 1


def test_what_the_settings_were_stands_at_the_end() -> None:
    page = page_of()
    end = page[page.index('<h2 id="run">') :]
    for words in ("Activations</summary>", "Patching</summary>", "Faithfulness</summary>", "tuned-&gt;base"):
        assert words in end, words


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": 1}, "got a int as activation: pass a views.ActivationContent"),
        ({"patching": PARTS["activation"]}, "got a ActivationContent as patching: pass a views.PatchContent"),
        (
            {"activation": replace(PARTS["activation"], shift=factory.shift_result())},
            "result of activation_shift as shift of activation: pass what itlens.diff.shift_summary returns",
        ),
        (
            {"patching": replace(PARTS["patching"], patched=None)},
            "got a result of NoneType as patched of patching: pass what itlens.patch returns",
        ),
        (
            {"faithfulness": replace(PARTS["faithfulness"], curves=factory.faithful())},
            "as curves of faithfulness: pass what itlens.diff.faithfulness_curves returns",
        ),
        ({}, "none of diff, words, concepts, activation, patching and faithfulness"),
    ],
)
def test_other_content_gets_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ResultError, match=message):
        views.report(views.ReportContent(**({"title": "t", "base": "b", "tuned": "t", "verdict": "v"} | changes)))


def test_a_top_that_ends_in_a_tie_is_a_dash() -> None:
    part = PARTS["patching"]
    untold = {name: part.agreement[name] * np.nan for name in ("shared", "shared_expected", "shared_p")}
    page = page_of(patching=replace(part, agreement=part.agreement.assign(untold)))
    for row in rows_of(page, "Do other ways of asking"):
        assert [row[name] for name in ("top heads shared", "by chance", "p shared")] == ["–", "–", "–"]
