"""Made-up results of both models on the same tokens, with a known change: views are tested without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from itlens.diff import activation_means, shift_summary
from itlens.diff import activations as compare_activations

CLASSES = ["first", "template", "instruction", "context", "prompt", "response"]
PROMPTS = 16


def prompt_coords(prompts: int = PROMPTS) -> dict[str, Any]:
    return {
        "prompt": [f"p{number}" for number in range(prompts)],
        "group": ("prompt", [("one", "<b>two</b>")[number % 2] for number in range(prompts)]),
    }


def activation_results(
    sides: int = 2, layers: int = 6, heads: int = 4, effect: float = 0.3, classes: list[str] | None = None
) -> list[xr.Dataset]:
    """One after another more attention mass on the instruction in head L2H1, and a longer residual stream."""
    rng = np.random.default_rng(0)
    found, names = [], classes or CLASSES
    for side in range(sides):
        mass = 0.3 + 0.05 * rng.standard_normal((PROMPTS, layers, heads, len(names)))
        mass[:, 2, 1, 2] += effect * side
        rms = 1 + np.arange(layers) * 0.4 + 0.05 * rng.standard_normal((PROMPTS, layers))
        found.append(
            xr.Dataset(
                {
                    "attention_mass": (
                        ("prompt", "layer", "head", "token_class"), mass, {"long_name": "attention mass"},
                    ),
                    "resid_rms": (("prompt", "layer"), rms + effect * side, {"long_name": "residual stream's rms"}),
                    "lens_commitment": ("prompt", rng.random(PROMPTS)),
                },
                coords={**prompt_coords(), "layer": np.arange(layers), "head": np.arange(heads), "token_class": names,
                        "tokens_digest": ("prompt", ["x"] * PROMPTS)},
                attrs={"probe": "activations", "hooks": "attention", "format": "raw"},
            )
        )  # fmt: skip
    return found


def activation_diff(**options: Any) -> xr.Dataset:
    """The tuned model has more attention mass on the instruction in head L2H1, and a longer residual stream."""
    prompts = slice(options.pop("prompts", None))
    return compare_activations(*(ds.isel(prompt=prompts) for ds in activation_results(**options)), resamples=200)


def activation_series(labels: tuple[str, ...] = ("base", "sft", "<b>dpo</b>")) -> xr.Dataset:
    return activation_means(dict(zip(labels, activation_results(len(labels)), strict=True)), resamples=200)


def shift_result(layers: int = 6, heads: int = 4, lens: bool = True) -> xr.Dataset:
    """Head L4H3 changed most."""
    rng = np.random.default_rng(1)
    change = np.abs(0.1 + 0.03 * rng.standard_normal((PROMPTS, layers, heads, 2)))
    change[:, 4, 3] += 0.5
    grow = np.linspace(0.02, 0.3, layers)[:, None]
    names = ("prompt", "layer", "token_class")
    variables: dict[str, Any] = {
        "result_relative_change": (("prompt", "layer", "head", "token_class"), change),
        "pattern_jsd": (("prompt", "layer", "head"), change[..., 0] / 10),
        "resid_relative_change": (names, np.abs(grow + 0.02 * rng.standard_normal((PROMPTS, layers, 2)))),
        "mlp_relative_change": (names, np.abs(2 * grow + 0.02 * rng.standard_normal((PROMPTS, layers, 2)))),
    }
    if lens:
        kl = np.abs(grow.T + 0.05 * rng.standard_normal((PROMPTS, 3, layers)))
        variables["lens_kl_base_tuned"] = (("prompt", "reading", "layer"), kl)
    coords = {**prompt_coords(), "layer": np.arange(layers), "head": np.arange(heads), "token_class": ["rest", "all"]}
    extra = {"reading": ["own", "base", "tuned"]} if lens else {}
    return xr.Dataset(variables, coords=coords | extra, attrs={"probe": "activation_shift"})


def shift_means(**options: Any) -> xr.Dataset:
    return shift_summary(shift_result(**options), resamples=200)
