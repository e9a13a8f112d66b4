"""The command line, run inside the test process."""

from __future__ import annotations

import pytest

from tests.commands import Commands


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test."""

    def loaded(*args: object, **options: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("itlens.models.load_model", loaded)
