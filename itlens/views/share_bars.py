"""What concepts are about, base and tuned side by side per group of layers (the paper's figure 3; `shares`)."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from itlens.errors import ResultError
from itlens.views.level_bars import level_bars
from itlens.views.share_table import read_groups
from itlens.views.task_dots import task_dots

_CALL = "views.shares"
_KINDS = {"level": level_bars, "task": task_dots}


def shares(table: pd.DataFrame, *, kind: str = "level") -> go.Figure:
    """Shares of linguistic levels or of user tasks among the concepts of both models, all layers first, then by depth.

    table: of itlens.diff.concept_shares. kind: "level" draws stacked bars: a concept stands on one level at most, so
    levels, "no level" and "cannot tell" make 100 % of all concepts; a button shows the labelled ones only. "task" draws
    a dot for each model instead: a concept may serve several tasks or none, so their shares are no parts of a whole.
    A star marks shares that changed by more than chance (Holm p < 0.05, over the levels or tasks of a group); pointing
    at a share gives its counts, difference, 95 % interval and tests. Axis: per cent.
    Raises ResultError for another table and an unknown kind.
    """
    if kind not in _KINDS:
        raise ResultError(f"{_CALL} cannot draw kind={kind!r}: choose one of {', '.join(_KINDS)}.")
    groups = list(read_groups(table, kind, _CALL))
    if not groups:
        raise ResultError(f"{_CALL} got a table without rows: label at least one concept of each model.")
    return _KINDS[kind](groups, str(table.attrs.get("side", "")))
