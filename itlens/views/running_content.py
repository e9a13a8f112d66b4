"""What a report shows of the running models: activations, patching and faithfulness, each with its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import xarray as xr

from itlens.errors import ResultError


@dataclass(frozen=True)
class ActivationContent:
    """Where the models differ while they read the same tokens.

    diff: of itlens.diff.activations. shift: of itlens.diff.shift_summary, whose means and intervals are drawn. heads:
    of itlens.diff.shifted_heads. verdict: the answer, such as that of itlens.diff.activations_verdict.
    """

    diff: xr.Dataset
    shift: xr.Dataset
    heads: pd.DataFrame
    verdict: str


@dataclass(frozen=True)
class PatchContent:
    """Which parts carry what tuning did.

    patched: of itlens.patch, usually with what="head". agreement: of itlens.diff.head_agreement, or None. verdict: the
    answer.
    """

    patched: xr.Dataset
    agreement: xr.Dataset | None
    verdict: str


@dataclass(frozen=True)
class FaithfulnessContent:
    """Whether the attributions can be believed.

    table: of itlens.diff.faithfulness. curves: of itlens.diff.faithfulness_curves, or None. verdict: the answer.
    """

    table: pd.DataFrame
    curves: xr.Dataset | None
    verdict: str


_PARTS: dict[str, type] = {
    "activation": ActivationContent,
    "patching": PatchContent,
    "faithfulness": FaithfulnessContent,
}
# the field, the kind of result it takes, and where that comes from
_PROBES = {
    "activation": (("diff", "diff.activations"), ("shift", "diff.shift_summary")),
    "patching": (("patched", "patch"), ("agreement", "diff.head_agreement")),
    "faithfulness": (("curves", "diff.faithfulness_curves"),),
}


def checked(name: str, part: Any) -> Any:
    """`part` itself if it is None or the content of this name. Raises ResultError for anything else in it."""
    if part is None:
        return None
    if not isinstance(part, _PARTS[name]):
        raise ResultError(f"views.report got a {type(part).__name__} as {name}: pass a views.{_PARTS[name].__name__}.")
    for field, probe in _PROBES[name]:
        value = getattr(part, field)
        if value is None and field in ("agreement", "curves"):
            continue
        if not isinstance(value, xr.Dataset) or value.attrs.get("probe") != probe:
            got = value.attrs.get("probe", "something else") if isinstance(value, xr.Dataset) else type(value).__name__
            raise ResultError(
                f"views.report got a result of {got} as {field} of {name}: pass what itlens.{probe} returns."
            )
    return part
