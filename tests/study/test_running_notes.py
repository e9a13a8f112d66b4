"""Notes on running models say what they mean."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

from itlens.study.running_notes import running_notes


def test_prompts_that_do_not_lower_the_response_are_left_out_by_that_name() -> None:
    study = {"identity": {"parts": "faithfulness"}, "settings": {"deletion_prompts": 8}}
    part = SimpleNamespace(table=pd.DataFrame({"n": [6, 7]}))
    comparison: Any = SimpleNamespace(study=study, activation=None, patching=None, faithfulness=part)
    assert running_notes(comparison)[-1] == (
        "Faithfulness is told from 6 of the 8 prompts drawn for it: of the others a response is empty or not finished, "
        "or removing the whole prompt lowers it by less than 0.05 nats."
    )
