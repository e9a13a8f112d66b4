"""Results of running models in the shape that probes and diffs give them, made up: views are tested without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from itlens.diff import faithfulness as compare_faithfulness
from itlens.diff import (
    faithfulness_curves,
    head_agreement,
    series,
    shifted_heads,
    two_by_two,
)
from itlens.findings.faithfulness.probe_curves import curve_numbers
from tests.findings.activation.made_results import PROMPTS, activation_diff, prompt_coords, shift_means, shift_result


def patch_result(what: str = "head", layers: int = 6, heads: int = 4) -> xr.Dataset:
    """Head L3H2 (or layer 3) carries most; without exact effects when what="estimate"."""
    rng = np.random.default_rng(2)
    on_heads = what != "mlp"
    dims, shape = (("layer", "head"), (layers, heads)) if on_heads else (("layer",), (layers,))
    value = 0.03 * rng.standard_normal(shape)
    value[(3, 2) if on_heads else 3] = 0.6
    counts = np.array([1, 2, 3, 5, 8, 13, layers * heads])
    p = np.full(shape, 0.6)
    p[(3, 2) if on_heads else 3] = 0.001
    exact = {"recovered": value, "recovered_low": value - 0.05, "recovered_high": value + 0.05, "p": p, "p_bh": p}
    variables: dict[str, Any] = {"estimated": (dims, value * 0.9)}
    if what != "estimate":
        variables |= {name: (dims, values) for name, values in exact.items()}
    share = 1 - np.exp(-counts / 4.0)
    for name, values in (("joint", share), ("joint_random", counts / counts[-1])):
        for end, off in (("", 0.0), ("_low", -0.08), ("_high", 0.08)):
            variables[name + end] = ("count", values + off)
    variables |= {
        "needed_80": 8.0,
        "needed_80_of_all": 5.0,
        "donor": ("prompt", np.zeros(PROMPTS)),
        "receiver": ("prompt", np.ones(PROMPTS)),
    }
    coords = {**prompt_coords(), "layer": np.arange(layers), "count": counts} | (
        {"head": np.arange(heads)} if on_heads else {}
    )
    return xr.Dataset(
        variables, coords=coords,
        attrs={"probe": "patch", "what": "head" if on_heads else what, "direction": "tuned->base", "gap": 1.4,
               "gap_low": 1.1, "gap_high": 1.7,
               "unit_of_effect": "nats", "rank_correlation": 0.91, "note": ""},
    )  # fmt: skip


def faithful(prompt: str = "p0", *, method: str = "input_x_gradient", seed: int = 0, good: float = 1.0) -> xr.Dataset:
    """Curves of which the attribution's falls and rises `good` times as much faster than random ones."""
    rng = np.random.default_rng(seed)
    fraction = np.linspace(0, 1, 11)
    orders = []
    for power in (1 + 2 * good, *(1 + 0.2 * rng.standard_normal(20)).clip(0.5)):
        deletion = -3 + 2.5 * (1 - fraction) ** power
        orders.append([deletion, -3 + 2.5 * (1 - (1 - fraction) ** power)])
    coords = {"order": ["attribution", "random"], "direction": ["deletion", "insertion"], "fraction": fraction}
    attrs = {"probe": "faithfulness", "method": method, "by": "density", "prompt_id": prompt, "model": f"m{seed % 2}"}
    return xr.Dataset(
        curve_numbers(np.array(orders), fraction), coords=coords, attrs=attrs | {"steps": 10, "draws": 20}
    )


METHODS = ("input_x_gradient", "saliency", "integrated_gradients")


def faithful_sides() -> tuple[list[xr.Dataset], list[xr.Dataset]]:
    base, tuned = (
        [
            faithful(f"p{n}", method=method, seed=100 * place + n, good=good * (1 - 0.3 * place) + 0.02 * n)
            for place, method in enumerate(METHODS)
            for n in range(8)
        ]
        for good in (0.5, 0.9)
    )
    return base, tuned


def faithfulness_table() -> pd.DataFrame:
    return compare_faithfulness(*faithful_sides())


def mean_curves(labels: tuple[str, ...] = ("base", "tuned")) -> xr.Dataset:
    """The first of several labels has the base's curves, all others the tuned model's."""
    base, tuned = ([ds for ds in side if ds.attrs["method"] == METHODS[0]] for side in faithful_sides())
    return faithfulness_curves({label: tuned if place else base for place, label in enumerate(labels)}, resamples=200)


def activation_tables() -> dict[str, Any]:
    """What the finding of activations shows."""
    moved = shift_result()
    return {
        "activations": activation_diff(), "shift": shift_means(), "shifted_heads": shifted_heads(moved, resamples=50)
    }  # fmt: skip


def patch_tables() -> dict[str, Any]:
    """What the finding of patching shows."""
    patched = patch_result()
    rankings = {"shift": shift_result(), "<b>patching</b>": patched}
    return {"patching": patched, "head_agreement": head_agreement(rankings, top=3)}


def faithfulness_tables() -> dict[str, Any]:
    """What the finding of faithfulness shows."""
    return {"faithfulness": faithfulness_table(), "faithfulness_curves": mean_curves()}


def effect_table() -> pd.DataFrame:
    """Weights raise the first statistic, the template the second, nothing the third."""
    rng, parts = np.random.default_rng(3), []
    for name, weights, template in (
        ("instruction_score", 0.5, 0.1),
        ("response_tokens", -2.0, -14.0),
        ("<i>x</i>", 0, 0),
    ):
        own = rng.standard_normal(20)
        cells = {
            (model, state): pd.Series(
                own + weights * (model == "tuned") + template * (state == "on") + 0.2 * rng.standard_normal(20)
            )
            for model in ("base", "tuned")
            for state in ("off", "on")
        }
        parts.append(two_by_two(cells, resamples=200).assign(statistic=name))
    return pd.concat(parts, ignore_index=True)


def model_series(labels: tuple[str, ...] = ("base", "sft", "dpo", "<b>4</b>")) -> Any:
    rng = np.random.default_rng(4)
    own = rng.standard_normal(PROMPTS)
    return series(
        {
            label: pd.DataFrame(
                {"id": [f"p{n}" for n in range(PROMPTS)], "instruction_score": own + 0.4 * place
                 + 0.1 * rng.standard_normal(PROMPTS), "response_tokens": 40 - 6 * place + rng.standard_normal(PROMPTS),
                 "noise": rng.standard_normal(PROMPTS), "pattern_jsd[layer=3]": own + 0.1 * (place > 1)}
            )
            for place, label in enumerate(labels)
        },
        resamples=200,
    )  # fmt: skip
