"""Studies on a real Ray cluster of two workers on this machine: the same files as a local run, whatever is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import itlens
from itlens.errors import ClusterError, ItlensError, ProbeError
from itlens.findings import findings
from itlens.study import Comparison
from itlens.study.executors import cluster as ray_cluster
from itlens.study.executors import spread
from itlens.study.results import UnitResults
from tests.commands import Commands
from tests.doc_pages import ROOT, blocks
from tests.study.studies import registered, same_results, six_prompts, small
from tests.study.test_outside_finding import fresh_entry_points, package
from tests.study.toy import Louder

Folders = tuple[Path, Path]
PROMPTS = 3
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
# a class as a script has it: no worker can import it
Quieter: Any = type("Quieter", (Louder,), {"__module__": "__main__", "name": "quieter"})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster with room for two workers, which have a package with a finding of its own."""
    ray = pytest.importorskip("ray", reason="the ray extra is not installed")
    code = next(code for _, code, _ in blocks(ROOT / "docs" / "add-a-finding.md", "python"))
    site = package(tmp_path_factory.mktemp("site"), "othergains", code, "gains = othergains:Gains")
    with pytest.MonkeyPatch.context() as patch, fresh_entry_points():
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT)]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.syspath_prepend(str(site))
        with registered(Quieter):
            for left in (2, 1, 0):
                try:
                    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=1 << 27, **_QUIET)
                    break
                except Exception:  # Ray gives a node 30 seconds, which a busy machine may not have
                    ray.shutdown()
                    if not left:
                        raise
            yield str(ray.get_runtime_context().gcs_address)
            ray.shutdown()


def compared(folders: Folders, out: Path, probes: Any = "all", **changes: Any) -> Comparison:
    options = small(prompts=six_prompts()[:PROMPTS], sample=2) | {"executor": "ray"} | changes
    return itlens.compare(*folders, probes=probes, out=out, **options)


@pytest.fixture(scope="module")
def local(cluster: str, pair_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A run of every finding in this process. Tests never write into its folder."""
    return compared(pair_folders, tmp_path_factory.mktemp("local") / "run", executor="local")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its content, but for the order in which lines came into the index and the time of the run."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name in ("study.json", "report.html", ".itlens.lock"):
        files.pop(name, None)
    lines = {line for line in files["index.jsonl"].splitlines() if json.loads(line)["path"] != "study.json"}
    return files | {"index.jsonl": b"".join(sorted(lines))}


def differing(found: Path, expected: Path) -> list[str]:
    here, there = contents(found), contents(expected)
    return [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]


def workers() -> list[psutil.Process]:
    """The processes of Ray's workers that hold a study; their title says what they do."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "RemoteWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@contextmanager
def at_write(monkeypatch: pytest.MonkeyPatch, number: int, action: Any) -> Iterator[list[str]]:
    """Do something when the study writes the unit with this number (from 1); the units that were written."""
    write, written = UnitResults.write, list[str]()

    def counted(folder: Any, study: Any, name: str, side: str, unit: str, result: Any) -> None:
        write(folder, study, name, side, unit, result)
        written.append(f"{name}/{side}/{unit}")
        if len(written) == number:
            action()

    with monkeypatch.context() as patch:
        patch.setattr(UnitResults, "write", counted)
        yield written


@pytest.mark.cluster
def test_two_workers_write_what_a_local_run_writes(local: Comparison, pair_folders: Folders, tmp_path: Path) -> None:
    """Every finding of the package, one of another package, one that only the caller's script has, and the toy."""
    found = compared(pair_folders, tmp_path / "run")
    assert {"gains", "quieter", "louder"} < {*found.verdicts}
    assert {*found.verdicts} == {*local.verdicts} == {*findings()}
    assert differing(found.out, local.out) == []
    same_results(found, local)
    assert workers() == []


@pytest.mark.cluster
def test_a_killed_worker_costs_nothing_in_a_folder_that_was_half_finished(
    local: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(local.out, tmp_path / "run"))
    left = [*sorted((out / "attribution").glob("*/*"))[1:], *(out / "attention").glob("tuned/*")]
    left += [out / "responses" / "tuned", out / "activation"]
    names = [str(path.relative_to(out)) for path in left]
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    killed = []

    def kill() -> None:
        busy = [worker for worker in workers() if "compute" in worker.cmdline()[0]] or workers()
        killed.append(busy[0].pid)
        os.kill(busy[0].pid, signal.SIGKILL)

    lost = []
    replace = spread.RayExecutor._replace
    monkeypatch.setattr(spread.RayExecutor, "_replace", lambda *given: lost.append(given) or replace(*given))
    with at_write(monkeypatch, 2, kill) as written:
        found = compared(pair_folders, out)
    assert len(killed) == len(lost) == 1
    assert found.failures == []
    assert {name.split("/")[0] for name in written} == {"attribution", "attention", "activation"}
    assert len(written) == len({*written}), "nothing was written twice"
    assert all((out / name).exists() for name in names)
    assert differing(out, local.out) == []


@pytest.mark.cluster
def test_ctrl_c_keeps_what_is_finished_and_stops_the_workers(
    local: Comparison, pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with at_write(monkeypatch, 2, stop) as written, pytest.raises(KeyboardInterrupt):
        compared(pair_folders, out, ["louder", "gains"])
    kept = [path.relative_to(out) for path in out.glob("*/base/*") if path.name.startswith("layer-")]
    assert {str(path.with_suffix("")) for path in kept} == {*written}
    for process in workers():
        process.wait(10)
    assert workers() == []
    for path in kept:
        assert (out / path).read_bytes() == (local.out / path).read_bytes()


@pytest.mark.cluster
def test_a_finding_whose_options_cannot_be_sent_is_named(cluster: str, pair_folders: Folders, tmp_path: Path) -> None:
    class Locked:
        name, seeds = "locked", (1,)

        def __init__(self) -> None:
            self.own = threading.Lock()

        def __call__(self, words: Any, *, seed: int) -> Any:
            raise AssertionError("nothing is labelled")

    with pytest.raises(ClusterError, match=r"The finding 'mlp' cannot be sent to the workers .*one of its options"):
        compared(pair_folders, tmp_path / "run", "mlp", labeller=Locked())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.cluster
def test_a_process_that_is_connected_elsewhere_says_so(cluster: str, pair_folders: Folders, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        threading.Thread(target=_answer, args=(server, bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))), daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"ray_address is {address}, and this process is connected to {cluster}"):
            compared(pair_folders, tmp_path / "run", "louder", ray_address=address)
    assert list(tmp_path.iterdir()) == []


# ---- what is refused before anything is read


def _answer(server: socket.socket, words: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(64)
        connection.sendall(words)


REFUSED: dict[str, tuple[dict[str, Any], type[ItlensError], str]] = {
    "unknown": ({"executor": "moon"}, ProbeError, "Unknown executor 'moon'; known are 'local' .* and 'ray'"),
    "address of local": (
        {"executor": "local", "ray_address": "auto"},
        ProbeError,
        "ray_address='auto' is of executor='ray', and the executor is 'local'",
    ),
    "cpus of local": ({"executor": "local", "ray_cpus": 2}, ProbeError, "ray_cpus=2 is of executor='ray'"),
    "no cpus": ({"ray_cpus": 0}, ProbeError, "ray_cpus=0; expected a whole number of at least 1"),
    "no address": ({"ray_address": "somewhere"}, ClusterError, "'somewhere' is no address; expected host:port"),
    "nobody": (
        {"ray_address": "127.0.0.1:1"},
        ClusterError,
        r"No Ray cluster answers at 127\.0\.0\.1:1 \(Connection refu",
    ),
    "no port": ({"ray_address": "127.0.0.1:99999"}, ClusterError, "No Ray cluster answers at"),
    "object": ({"tuned": object()}, ProbeError, "executor='ray' got a object as a model, and a model is never sent"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_on_a_cluster_is_one_sentence(name: str, pair_folders: Folders, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    changes, error, words = REFUSED[name]
    asked = small(tuned=pair_folders[1], out=tmp_path / "run", executor="ray") | changes
    with pytest.raises(error, match=words) as caught:
        itlens.compare(pair_folders[0], probes="louder", **asked)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_ray_the_extra_is_named(pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=r"needs Ray, which is not installed: pip install 'itlens\[ray\]'"):
        compared(pair_folders, tmp_path / "run", "louder")


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["web server", "mute"])
def test_a_server_of_something_else_is_refused_at_once(words: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    monkeypatch.setattr(ray_cluster, "_DEADLINE", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        if words:
            threading.Thread(target=_answer, args=(server, words), daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"What answers at {address} is no Ray cluster"):
            ray_cluster.refuse_unreachable(address)


def test_the_command_line_refuses_an_address_with_code_2(
    commands: Commands, pair_folders: Folders, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    given = ("--executor", "ray", "--ray-address", "127.0.0.1:1", "--out", tmp_path / "run")
    assert "No Ray cluster answers at 127.0.0.1:1" in commands.refused("compare", *pair_folders, *given)
    assert list(tmp_path.iterdir()) == []
