"""A model of the hub: what is in the cache is enough, and what stands in the way is named."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from itlens.errors import ModelError
from itlens.models.locate import locate
from tests.tiny import tiny_folder

COMMIT = "a" * 40


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of owner/model in a cache without a network; the hub's listing names more files than it holds."""
    import huggingface_hub
    from huggingface_hub import constants, file_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(file_download, "HF_HUB_CACHE", str(tmp_path), raising=False)
    store = tmp_path / "models--owner--model"
    (store / "refs").mkdir(parents=True)
    (store / "refs" / "main").write_text(COMMIT)

    def incomplete(*args: Any, **options: Any) -> str:
        raise LocalEntryNotFoundError("The cached snapshot is incomplete: 1 file(s) are missing (NOTICE.txt).")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", incomplete)
    return tiny_folder(store / "snapshots" / COMMIT, "llama")


def test_a_cache_that_holds_what_is_needed_is_enough(cached: Path) -> None:
    place = locate("owner/model", weights=True)
    assert (place.folder, place.commit) == (cached, COMMIT)


def test_a_name_may_say_its_own_revision(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    from itlens.models import load_pair

    asked: list[tuple[str, Any]] = []

    def snapshot(name: str, revision: Any = None, **options: Any) -> str:
        asked.append((name, revision))
        return str(cached)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    place = locate("owner/model@step1000")
    assert (place.name, place.folder, place.commit) == ("owner/model@step1000", cached, COMMIT)
    locate("owner/model", revision="main")
    locate("owner/model@v2", revision="main")
    assert asked == [("owner/model", "step1000"), ("owner/model", "main"), ("owner/model", "v2")]
    asked.clear()
    pair = load_pair("owner/model@step1000", "owner/model", revision="main")
    assert pair.base.itlens_source.name == "owner/model@step1000"
    assert pair.side("tuned").name == "owner/model"
    assert {*asked} == {("owner/model", "step1000"), ("owner/model", "main")}


@pytest.mark.parametrize("name", ["owner/model@", "@main", "owner/model@a/../b c"])
def test_what_is_no_name_with_a_revision(name: str) -> None:
    with pytest.raises(ModelError, match="owner/name"):
        locate(name)


def test_a_folder_may_have_the_sign_in_its_name(tmp_path: Path) -> None:
    assert locate(tiny_folder(tmp_path / "model@main", "llama")).folder == tmp_path / "model@main"


def test_weights_that_are_not_in_the_cache_are_named(cached: Path) -> None:
    (cached / "model.safetensors").unlink()
    assert locate("owner/model").folder == cached
    with pytest.raises(ModelError, match=r"only a part of .*\(model\.safetensors\) are missing"):
        locate("owner/model", weights=True)
    (cached / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )
    (cached / "model-00001-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors\) are missing"):
        locate("owner/model", weights=True)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "no space is left"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "permission"),
        (errno.EROFS, "read-only"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_cache_that_cannot_be_written(number: int, told: str, wrapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*args: Any, **options: Any) -> str:
        error = OSError(number, "Something", "/cache/blobs/x")
        if wrapped:
            raise RuntimeError("the download failed") from error
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelError, match=f"{told}.*/cache/blobs/x") as error:
        locate("owner/model")
    assert "reached" not in str(error.value)


def test_whatever_else_the_hub_raises_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*args: Any, **options: Any) -> str:
        raise RuntimeError("Xet storage says:\n  the token has expired")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelError, match=r"hub model owner/model cannot be fetched: .*the token has expired"):
        locate("owner/model")
