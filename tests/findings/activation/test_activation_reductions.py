"""Activations that were reduced in different ways are not compared."""

from __future__ import annotations

import pytest

import itlens
from itlens.errors import ResultError
from tests.findings.activation.activation_results import moved, result


def test_a_statistic_that_one_side_lacks_is_named() -> None:
    base = result()
    plain = base.rename(hook_reduced="hook_rms")
    for sides in ((base, plain), (plain, base)):
        with pytest.raises(ResultError, match=r"Only one side has hook_r\w+, hook_r\w+; compute both .* reduce="):
            itlens.diff.activations(*sides)
    with pytest.raises(ResultError, match="Only one side has resid_rms;"):
        itlens.diff.activations(base.drop_vars("resid_rms"), base)


def test_reductions_are_told_apart_by_name() -> None:
    base = result(reduce="largest")
    with pytest.raises(ResultError, match=r"differ in reduce .'largest' and 'smallest'"):
        itlens.diff.activations(base, moved(result(reduce="smallest")))
    assert itlens.diff.activations(base, moved(base)).attrs["reduce"] == "largest"
