"""Results in the shape that attribution and diff give them, made up: views are tested without any model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.prompts import Prompt
from tests.hostile import HOSTILE as ALL_HOSTILE

HOSTILE = ALL_HOSTILE[:10]


def ranges(tokens: Sequence[str]) -> tuple[list[int], list[int]]:
    """Where each token starts and stops in the text that they make."""
    stops = np.cumsum([len(token) for token in tokens], dtype=int)
    return [0, *stops[:-1].tolist()][: len(tokens)], stops.tolist()


def attribution(
    source: Sequence[str],
    target: Sequence[str],
    score: Any = None,
    *,
    model: str = "toy/base",
    seed: int = 0,
    **attrs: Any,
) -> xr.Dataset:
    """An attribution of these tokens; random heavy-tailed scores unless `score` (source, target) is given."""
    rng = np.random.default_rng(seed)
    if score is None:
        score = rng.standard_normal((len(source), len(target))) ** 3 / 100
    (s_start, s_stop), (t_start, t_stop) = ranges(source), ranges(target)
    text = {"prompt_text": "".join(source), "response_text": "".join(target)}
    return xr.Dataset(
        {"score": (("source", "target"), np.asarray(score, np.float32).reshape(len(source), len(target)))},
        coords={
            "source_token": ("source", np.array(source, dtype=object)),
            "source_id": ("source", np.arange(len(source))),
            "source_start": ("source", s_start),
            "source_stop": ("source", s_stop),
            "target_token": ("target", np.array(target, dtype=object)),
            "target_id": ("target", np.arange(len(target))),
            "target_start": ("target", t_start),
            "target_stop": ("target", t_stop),
            "objective": ("target", rng.uniform(0.1, 1, len(target))),
        },
        attrs={"probe": "attribution", "model": model, "objective_name": "prob", "prompt_id": "p1", **text, **attrs},
    )


def prompts(n: int, groups: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """`AttributionDiff.prompts` of `n` prompts, the tuned model a little higher."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(6, 0.18, n)
    tuned = np.maximum(0, base + rng.normal(0.17, 0.3, n))
    return pd.DataFrame(
        {
            "id": [f"{groups[i % len(groups)]}-{i:03d}" for i in range(n)],
            "group": [groups[i % len(groups)] for i in range(n)],
            "base": base,
            "tuned": tuned,
            "difference": tuned - base,
            "base_targets": rng.integers(40, 200, n),
            "tuned_targets": rng.integers(10, 120, n),
            "base_finish": "length",
            "tuned_finish": "eos",
            "instruction_tokens": rng.integers(4, 30, n),
        }
    )


def group_table(table: pd.DataFrame) -> pd.DataFrame:
    """`AttributionDiff.groups` of a prompts table: made-up p-values, and a note for groups under five prompts."""
    rows = [_group("all", table), *(_group(str(name), part) for name, part in table.groupby("group", sort=False))]
    return pd.DataFrame(rows)


def _group(name: str, part: pd.DataFrame) -> dict[str, Any]:
    n, d = len(part), part["difference"]
    half = 1.96 * d.std() / np.sqrt(n) if n > 1 else np.nan
    few = n < 5
    t = d.mean() / (d.std() / np.sqrt(n)) if n > 1 else np.nan
    p = np.nan if few else float(np.exp(-(abs(t) ** 1.6) / 1.4))
    return {
        "group": name, "n": n, "base_mean": part["base"].mean(), "base_std": part["base"].std(),
        "tuned_mean": part["tuned"].mean(), "tuned_std": part["tuned"].std(), "difference": d.mean(),
        "ci_low": d.mean() - half, "ci_high": d.mean() + half, "effect_size": np.nan if few else d.mean() / d.std(),
        "t_paired": np.nan if few else t, "p_paired": p, "p_holm": np.nan if name == "all" else np.minimum(1.0, 6 * p),
        "w_wilcoxon": 3.0, "p_wilcoxon": p * 1.2, "t_welch": t / 2, "p_welch": np.minimum(1.0, p * 9),
        "note": f"too few prompts for a test (n={n}, at least 5 needed)" if few else "",
    }  # fmt: skip


def sensitivity(seed: int = 0) -> xr.Dataset:
    """`AttributionDiff.sensitivity`: nothing at low cut-offs, a clear difference at high ones."""
    rng = np.random.default_rng(seed)
    d = np.linspace(-0.06, 0.22, 10)[:, None] * np.array([0.9, 1.0, 1.05]) + rng.normal(0, 0.01, (10, 3))
    t = d * 17
    p = np.exp(-(np.abs(t) ** 1.6) / 1.4)
    dims = ("threshold", "power")
    names = {"difference": d, "t_paired": t, "p_paired": p, "effect_size": d * 2, "t_welch": t / 2, "p_welch": p * 5}
    return xr.Dataset(
        {name: (dims, values) for name, values in names.items()},
        coords={"threshold": np.arange(10), "power": np.array([2, 4, 8])},
    )


def profile() -> xr.Dataset:
    """`AttributionDiff.profile`: base drifts off, tuned stays."""
    x = (np.arange(20) + 0.5) / 20
    share = np.stack([0.34 - 0.16 * x, 0.42 - 0.05 * x])
    dims = ("model", "position")
    return xr.Dataset(
        {"share": (dims, share), "ci_low": (dims, share - 0.04), "ci_high": (dims, share + 0.04)},
        coords={"model": ["base", "tuned"], "position": x},
        attrs={"n": 64},
    )


def prompt(tokens: Sequence[str], first: int, stop: int, **fields: Any) -> Prompt:
    """A Prompt of these tokens whose instruction is tokens first..stop-1."""
    start, end = ranges(tokens)
    return Prompt("".join(tokens), instruction=[(start[first], end[stop - 1])], **fields)


def token_panel(scores: xr.Dataset) -> Any:
    """The tokens of one attribution, as a page's panel."""
    from itlens import views

    return views.tokens(scores)
