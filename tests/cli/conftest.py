"""The command line, run inside the test process."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test."""

    def loaded(*args: object, **options: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("itlens.models.load_model", loaded)
