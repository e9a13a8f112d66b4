"""The run-time type checker of the test run: shapes and types of the numeric modules' annotations are enforced."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

# `p: float` takes 4, as PEP 484 says
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
