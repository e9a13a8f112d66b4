"""The example script and the notebook do what a user sees: they run, offline, and their tables and views are there."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import itlens
from tests.example_scripts import EXAMPLES, RECOGNITION, ROTATION, VERBS, called, script, table
from tests.study.studies import WORDS, vectors
from tests.tiny import tiny_folder

pytestmark = pytest.mark.documentation

NOTEBOOK = EXAMPLES / "own_finding.ipynb"
# runs before the notebook's own cells: whatever asks for the network fails there
OFFLINE = """
import socket
def refuse(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise AssertionError(f"the notebook asks the network for {address}")
    return connect(self, address)
connect = socket.socket.connect
socket.socket.connect = refuse
"""


@pytest.fixture(scope="module")
def finding(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("finding1") / "run"
    return script("--limit", 12, "--max-new-tokens", 12, "--out", out), out


@pytest.mark.parametrize("path", [RECOGNITION, VERBS, ROTATION], ids=lambda path: path.stem)
def test_the_script_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 80


def test_the_script_prints_the_tables(finding: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, _ = finding
    assert done.returncode == 0, done.stderr
    titles = (
        "Instruction score",
        "Tests (paired",
        "At equal response length",
        "as controls",
        "Sensitivity",
    )
    for title in titles:
        assert title in done.stdout
    (row,) = re.findall(r"^ *all +(\d+)", done.stdout.split("Tests")[0], flags=re.MULTILINE)
    assert row == "12"
    assert "instruction score" in done.stdout.splitlines()[0]


def test_the_script_writes_figures_that_need_no_network(
    finding: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    _, out = finding
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (out / "figures").iterdir()}
    assert set(pages) == {"scores", "groups", "profile", "sensitivity", "tokens"}
    for name, page in pages.items():
        assert not re.search(r"<(script|link|img)\b[^>]*(src|href)=[\"'](https?:)?//", page), name
        assert ("itlens-tokens" if name == "tokens" else "Plotly.newPlot") in page, name
    assert (out / "report.html").is_file()


def test_the_script_takes_any_pair(tmp_path: Path) -> None:
    base, tuned = (tiny_folder(tmp_path / which, "gpt2", seed=seed) for seed, which in enumerate(("base", "tuned")))
    prompts = tmp_path / "prompts.jsonl"
    lines = (
        f'{{"id": "{n}", "prompt": "Say it. {"word " * n}", "instruction": "Say it.", "rating": {1 + n % 2}}}'
        for n in range(1, 13)
    )
    prompts.write_text("\n".join(lines), encoding="utf-8")
    done = called(
        "--base", base, "--tuned", tuned, "--prompts", prompts, "--max-new-tokens", 6, "--out", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    assert "Followed against unfollowed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--base", "no/such/base", "--tuned", "no/such/tuned"], "There is no model at"),
        (["--prompts", "no-such.jsonl"], "There is no prompt file"),
        (["--limit", "0"], "limit"),
        (["--max-new-tokens", "0"], "max_new_tokens=0"),
        (["--base", "only"], "belong together"),
    ],
    ids=["model", "prompts", "limit", "length", "half-a-pair"],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = called(*arguments, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def verbs(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("finding2") / "run"
    return script("--out", out, path=VERBS), out


def test_the_verb_script_prints_the_papers_table_and_the_nulls(
    verbs: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """Every figure again, from the results that it saved."""
    done, out = verbs
    assert done.returncode == 0, done.stderr
    words = itlens.load(out / "tables" / "word_pairs.nc")
    assert done.stdout.startswith(itlens.diff.pairs_verdict(words))
    titles = {"Share of the changed heads": "instruction_share", "Instruction minus": "p_welch", "Nulls": "p_null"}
    for title, name in titles.items():
        rows = table(done.stdout, title)
        assert ["group", *words.group.values.tolist()] == list(rows)
        place = rows["group"].index(name)
        assert float(rows["all"][place]) == pytest.approx(float(words[name].sel(group="all")), rel=6e-3)
    assert list(words.group.values) == ["all", "layers 0-1", "layers 2-3", "layer 4", "layer 5"]
    assert {"verb", "layer"} <= {line.split()[0] for line in done.stdout.splitlines() if line.strip()}


def test_the_verb_script_writes_figures_that_need_no_network(
    verbs: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    _, out = verbs
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (out / "figures").iterdir()}
    assert set(pages) == {"heads", "verbs", "most_changed_head"}
    for name, page in pages.items():
        assert not re.search(r"<(script|link|img)\b[^>]*(src|href)=[\"'](https?:)?//", page), name
    assert (out / "report.html").is_file()


def test_the_verb_script_takes_any_pair_and_any_words(tmp_path: Path) -> None:
    base, tuned = (tiny_folder(tmp_path / which, "gpt2", seed=seed) for seed, which in enumerate(("base", "tuned")))
    (tmp_path / "words.txt").write_text("\n".join(WORDS[:40]), encoding="utf-8")
    np.savez(tmp_path / "vectors.npz", words=np.array(WORDS), vectors=vectors().vectors)
    words = ("--vocabulary", tmp_path / "words.txt", "--vectors", tmp_path / "vectors.npz", "--top-k", 20)
    done = called("--base", base, "--tuned", tuned, *words, "--out", tmp_path / "out", path=VERBS)
    assert done.returncode == 0, done.stderr
    assert "Heads that changed most" in done.stdout and table(done.stdout, "Share of")["all"][0] == "8"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--base", "no/such/base", "--tuned", "no/such/tuned"], "There is no model at"),
        (["--vocabulary", "no-such.txt"], "no-such.txt"),
        (["--vectors", "no-such.npz"], "no-such.npz"),
        (["--top-k", "0"], "top_k=0"),
        (["--tuned", "only"], "--base goes with --tuned or --adapter"),
    ],
    ids=["model", "vocabulary", "vectors", "top-k", "half-a-pair"],
)
def test_wrong_words_are_one_sentence_and_exit_code_2(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = called(*arguments, "--out", tmp_path / "out", path=VERBS)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_notebook_runs_in_a_kernel_without_network() -> None:
    """The shortest one, in a fresh kernel of this environment; tests/test_notebooks.py runs all of them in process."""
    loaded = nbformat.read(NOTEBOOK, as_version=4)
    loaded.cells.insert(0, nbformat.v4.new_code_cell(OFFLINE))
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(loaded, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    shown = [output for cell in loaded.cells for output in cell.get("outputs", [])]
    assert "error" not in [output.output_type for output in shown]
    assert any("layer" in str(output) or "base" in str(output.get("data", "")) for output in shown)
