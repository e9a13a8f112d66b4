"""Made-up results of `itlens.activations`, so that diffs are tested without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

CLASSES = ["first", "instruction", "response"]


def result(prompts: int = 12, layers: int = 2, heads: int = 3, seed: int = 0, **attrs: Any) -> xr.Dataset:
    """Random statistics of every shape that there is; groups "one" and "two" in turn."""
    rng = np.random.default_rng(seed)

    def made(*shape: int) -> np.ndarray:
        return rng.normal(size=(prompts, *shape))

    names = [f"p{number}" for number in range(prompts)]
    return xr.Dataset(
        {
            "attention_mass": (
                ("prompt", "layer", "head", "token_class"),
                made(layers, heads, len(CLASSES)),
                {"long_name": "attention mass"},
            ),
            "resid_rms": (("prompt", "layer"), made(layers), {"long_name": "root mean square"}),
            "lens_commitment": (("prompt",), made(), {"long_name": "first layer with the final top token on top"}),
            "hook_reduced": (("prompt", "hook", "reduced_0"), made(1, 4), {"long_name": "the user's reduction"}),
        },
        coords={
            "prompt": names,
            "layer": np.arange(layers),
            "head": np.arange(heads),
            "token_class": CLASSES,
            "hook": ["hook_embed"],
            "group": ("prompt", [("one", "two")[number % 2] for number in range(prompts)]),
            "tokens_digest": ("prompt", names),
        },
        attrs={"probe": "activations", "hooks": "attention", "format": "raw", "model": f"m{seed}"} | attrs,
    )


def moved(ds: xr.Dataset, seed: int = 1, size: float = 1.0) -> xr.Dataset:
    """The same with normal noise of that size on every value."""
    rng = np.random.default_rng(seed)
    return ds.map(lambda values: values + size * rng.normal(size=values.shape), keep_attrs=True)
