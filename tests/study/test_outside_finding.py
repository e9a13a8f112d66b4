"""A finding from outside: by `register`, by entry point, and what happens when it breaks a rule."""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import itlens
from itlens import findings as registry
from itlens.errors import ItlensError
from itlens.findings import findings
from itlens.study import Comparison, open_comparison
from tests.commands import Commands
from tests.doc_pages import ROOT, blocks
from tests.study.studies import copied, registered, same_table, small
from tests.study.toy import Louder

Folders = tuple[Path, Path]


def package(folder: Path, name: str, code: str, entry_point: str) -> Path:
    """Put a package with an entry point of itlens into a folder of packages."""
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    meta = folder / f"{name}-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(f"[itlens.findings]\n{entry_point}\n")
    return folder


@contextmanager
def fresh_entry_points() -> Iterator[None]:
    """Entry points are looked for again, before and after."""
    registry._installed.cache_clear()
    try:
        yield
    finally:
        registry._installed.cache_clear()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages, of which one has the finding of docs/add-a-finding.md."""
    code = next(code for _, code, _ in blocks(ROOT / "docs" / "add-a-finding.md", "python"))
    return package(tmp_path_factory.mktemp("site"), "othergains", code, "gains = othergains:Gains")


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """That package, installed for one test."""
    monkeypatch.syspath_prepend(str(site))
    with fresh_entry_points():
        yield


def test_an_entry_point_is_enough(
    site: Path,
    installed: None,
    commands: Commands,
    pair_folders: Folders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a new process, which lists the finding, and for a comparison."""
    monkeypatch.setenv("COLUMNS", "160")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    command = [sys.executable, "-m", "itlens.cli", "findings"]
    listed = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert listed.returncode == 0, listed.stderr
    assert "gains" in listed.stdout
    out = tmp_path / "run"
    done = commands.run("compare", *pair_folders, "--probes", "gains", "--power", "1", "--out", out)
    assert done.code == 0, done.err
    content = json.loads((out / "findings.json").read_text(encoding="utf-8"))["findings"]["gains"]
    assert content["verdict"]["sentence"] in " ".join(done.out.split())
    assert content["tables"]["gains"] == ["tables/gains.parquet", "tables/gains.csv"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Are the gains before attention larger after tuning?" in page
    assert "Layers are no random sample" in page


def test_a_finding_by_entry_point_is_resumed_refused_and_listed(
    installed: None, commands: Commands, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    out = tmp_path / "run"
    asked = ("compare", *pair_folders, "--probes", "gains", "--out", out)
    assert commands.run(*asked, "--power", 1).code == 0
    times = {path: path.stat().st_mtime_ns for path in out.glob("gains/*/*")}
    assert len(times) == 4
    assert commands.run(*asked, "--power", 1).code == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("gains/*/*")} == times
    assert "power: 1.0 there, 3.0 here" in commands.refused(*asked, "--power", 3)
    low = commands.run("compare", *pair_folders, "--probes", "gains", "--power", 0, "--out", tmp_path / "other")
    assert low.code == 2
    assert "--power" in low.err
    assert "--power" in commands.run("compare", "--help").out
    assert "gains" in commands.run("findings").out


def test_a_run_of_a_finding_that_is_not_installed_says_so(
    runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path
) -> None:
    folder = copied(runs["attention"], tmp_path / "run")
    with registered(_named("passing")):
        itlens.compare(*pair_folders, probes="passing", out=folder, **small())
    opened = open_comparison(folder)
    assert any("The finding 'passing' is not installed here" in note for note in opened.notes)
    assert list(opened.verdicts) == ["attention"]


def _named(name: str, **changes: Any) -> type[Louder]:
    """A finding of another name. changes: methods that take the place of the toy's."""
    return type(name.capitalize(), (Louder,), {"name": name, "Options": Louder.Options, **changes})


def _raise(*_: Any, **__: Any) -> Any:
    raise ValueError("a bug of mine")


@pytest.mark.parametrize("method", ["run", "compare", "verdict", "show", "notes"])
def test_a_finding_that_raises_costs_the_others_nothing(
    method: str, runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path
) -> None:
    broken = _named(f"broken-{method}", **{method: _raise})
    with registered(broken):
        run = itlens.compare(*pair_folders, probes=["louder", f"broken-{method}"], out=tmp_path / "run", **small())
        page = run.report_path.read_text(encoding="utf-8")
    assert f"broken-{method}" in page
    assert "ValueError: a bug of mine" in page
    same_table(run.results["louder"]["gains"], runs["louder"].results["louder"]["gains"])
    assert (tmp_path / "run" / "tables" / "gains.csv").exists()
    assert json.loads((tmp_path / "run" / "findings.json").read_text(encoding="utf-8"))["findings"]["louder"]


@pytest.mark.parametrize(
    ("method", "value", "named"),
    [
        ("run", 5, "run returned a int; expected an xarray Dataset, a pandas DataFrame"),
        ("run", {"part": "text"}, "run returned a str"),
        ("compare", [1], "compare returned a list; expected tables by name"),
        ("compare", {"mine": {"a": 1}}, "compare returned a dict as the table 'mine'"),
        ("verdict", "all fine", "verdict returned a str; expected an itlens.Verdict"),
        ("show", ["text"], "show returned a str as a block; expected one of Card"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_returned_must_be_what_is_expected(
    method: str, value: Any, named: str, pair_folders: Folders, tmp_path: Path
) -> None:
    broken = _named("other", **{method: lambda *_: value})
    with registered(broken):
        run = itlens.compare(*pair_folders, probes=["louder", "other"], out=tmp_path / "run", **small())
        page = html.unescape(run.report_path.read_text(encoding="utf-8"))
    assert named in page
    assert "'other'" in page
    assert "louder" in run.verdicts


def test_alone_a_finding_that_fails_is_one_sentence(pair_folders: Folders, tmp_path: Path) -> None:
    with (
        registered(_named("alone", run=_raise)),
        pytest.raises(ItlensError, match="'alone' could not be computed: Val"),
    ):
        itlens.compare(*pair_folders, probes="alone", out=tmp_path / "run", **small())
    assert not (tmp_path / "run").exists()


class _Shared:
    """Something that is no finding."""


def _with_options(name: str, **fields: Any) -> type[Louder]:
    from dataclasses import make_dataclass

    declared = [(key, type(value.default), value) for key, value in fields.items()]
    return _named(name, Options=make_dataclass("Options", declared, frozen=True))


@pytest.mark.parametrize(
    ("finding", "named"),
    [
        (_Shared, "itlens.register got _Shared; expected a subclass of itlens.Finding"),
        (5, "itlens.register got int"),
        (_named("attribution"), "Two findings are called 'attribution'"),
        (_named("all"), "Two findings are called 'all'"),
        (_named("Upper Case"), "small letters, digits"),
        (_named("odd", reads="minds"), "reads 'minds'; expected one of prompts, weights, weight_pair, pair"),
        (
            _with_options("other", top_k=itlens.option(3, help="Mine.")),
            "has an option 'top_k', which 'attention' has with",
        ),
        (_with_options("other", seed=itlens.option(3, help="Mine.")), "option 'seed', which is compare's own"),
        (type("Half", (itlens.Finding,), {"name": "half"}), "Half has no compare, run, show, units, verdict"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_rules_of_registering(finding: Any, named: str) -> None:
    before = list(findings())
    with pytest.raises(ItlensError, match=named.replace("(", r"\(")):
        itlens.register(finding)
    assert list(findings()) == before


def test_an_entry_point_that_cannot_be_loaded_is_one_sentence(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "badgain", "raise RuntimeError('no')\n", "bad = badgain:Bad")
    monkeypatch.syspath_prepend(str(tmp_path))
    with fresh_entry_points():
        said = commands.refused("findings")
    assert "The finding 'bad' (badgain:Bad) cannot be loaded: RuntimeError: no" in said


def test_tables_of_the_same_name_are_both_written(pair_folders: Folders, tmp_path: Path) -> None:
    with registered(_named("second")):
        itlens.compare(*pair_folders, probes=["louder", "second"], out=tmp_path / "run", **small())
        content = json.loads((tmp_path / "run" / "findings.json").read_text(encoding="utf-8"))["findings"]
    assert content["louder"]["tables"]["gains"][0] == "tables/gains.parquet"
    assert content["second"]["tables"]["gains"][0] == "tables/second-gains.parquet"
    first, second = (
        itlens.load(tmp_path / "run" / content[name]["tables"]["gains"][0]) for name in ("louder", "second")
    )
    assert isinstance(first, pd.DataFrame)
    assert first.equals(second)


def test_a_folder_of_the_first_version_is_refused_with_its_version(pair_folders: Folders, tmp_path: Path) -> None:
    old: dict[str, Any] = {
        "identity": {"base model": "x"},
        "models": {},
        "settings": {},
        "versions": {"itlens": "0.1.0"},
    }
    (tmp_path / "study.json").write_text(json.dumps({**old, "notices": [], "prompts": 0, "created": ""}))
    for attempt in (
        lambda: open_comparison(tmp_path),
        lambda: itlens.compare(*pair_folders, probes="louder", out=tmp_path, **small()),
    ):
        with pytest.raises(ItlensError, match=r"was written by itlens 0\.1\.0, which kept its results in another way"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


def test_units_are_counted_for_the_note_on_unfinished_work(
    runs: dict[str, Comparison], pair_folders: Folders, tmp_path: Path
) -> None:
    folder = copied(runs["louder"], tmp_path / "run")
    (folder / "louder" / "tuned" / "layer-01.nc").unlink()
    opened = open_comparison(folder)
    assert "Only 1 of 2 layers of the finding 'louder' are finished; run the same comparison to go on." in opened.notes
    assert len(opened.results["louder"]["gains"]) == 1
