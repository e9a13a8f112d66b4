"""`explore`: the page of a comparison as an object for notebooks, and the page that is built once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import itlens
from itlens.errors import ResultError, StoreError
from itlens.findings import findings
from itlens.study import Comparison, open_comparison
from itlens.study.outcome import page_of, write_page
from tests.study.conftest import Runs
from tests.study.studies import copied


def test_it_is_the_page_of_the_run_folder(finished: Comparison) -> None:
    page = finished.report_path.read_text(encoding="utf-8")
    frame = itlens.explore(finished, height=500)
    assert str(frame) == page
    assert frame.height == 500
    assert "height:500px" in frame._repr_html_()
    assert str(finished.report_path) in repr(frame)


def test_a_folder_and_the_method_show_the_same(finished: Comparison) -> None:
    page = finished.report_path.read_text(encoding="utf-8")
    assert str(itlens.explore(finished.out)) == page
    assert str(finished.explore()) == page


def test_a_folder_without_a_page_shows_one_and_gets_none(finished: Comparison, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path / "run")
    (folder / "report.html").unlink()
    frame = itlens.explore(folder)
    assert str(folder) not in repr(frame)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("thing", [None, 3, {"a": 1}], ids=str)
def test_anything_else_is_refused(thing: Any) -> None:
    with pytest.raises(ResultError, match=rf"explore got a {type(thing).__name__}; expected what itlens.compare"):
        itlens.explore(thing)


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"study\.json|no study|holds no"):
        itlens.explore(tmp_path)


def test_a_wrong_height_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="height=10"):
        itlens.explore(tmp_path / "nowhere", height=10)


def test_the_page_is_built_once(finished: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = open_comparison(copied(finished, tmp_path / "run"))
    shown: list[str] = []
    kind = type(findings()["attribution"])
    show = kind.show
    monkeypatch.setattr(kind, "show", lambda self, tables: (shown.append(self.name), show(self, tables))[1])
    write_page(comparison)
    assert comparison.page is comparison.page
    itlens.explore(comparison)
    assert shown == ["attribution"]


def test_further_notices_keep_what_was_drawn(finished: Comparison) -> None:
    study = {**finished.study, "notices": [*finished.study["notices"], "One more."]}
    again = finished.noted(study)
    assert again.page.sections is finished.page.sections
    assert again.page.notes == page_of(again, blocks=False).notes
    assert "One more." in again.page.notes


def test_a_finding_that_is_not_finished_keeps_its_place(runs: Runs) -> None:
    done = runs["attention"]
    asked = {**done.study, "findings": {**runs["attribution"].study["findings"], **done.study["findings"]}}
    asked["asked"] = [*asked["findings"]]
    page = page_of(Comparison(done.out, asked, done.prompts, done.verdicts, (), done.tables), blocks=False)
    assert [row.name for row in page.rows] == ["attribution", "attention"]
    assert [section.name for section in page.sections] == ["attribution", "attention"]
    assert page.rows[0].code == "not tested"
