"""The result of `activation_shift`: tables on labelled axes, and where they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from itlens.probes.shifting.compare import CKA_TOKENS, Recordings, Tables
from itlens.probes.shifting.crossed_lens import READINGS, SIDES
from itlens.probes.shifting.tokens import TOKEN_CLASSES
from itlens.provenance import provenance

_NATS = ("lens_kl_base_tuned", "lens_kl_tuned_base", "lens_logprob", "pattern_jsd")


def dataset(found: Recordings, tables: Tables, models: dict[str, dict[str, Any]], said: dict[str, Any]) -> xr.Dataset:
    """See `itlens.activation_shift`. models: attrs of each; said: the settings."""
    plan = found.plan
    counts = np.stack([columns.sum(axis=0) for columns in found.columns]).astype(np.int64)
    tables = tables | {"token_count": (("prompt", "token_class"), counts)}
    sizes = {dim: size for dims, values in tables.values() for dim, size in zip(dims, values.shape, strict=True)}
    axes: dict[str, Any] = {dim: values for dim, values in _axes(found, sizes).items() if dim in sizes}
    groups = np.array([one.group for one in plan.prompts], dtype=object)
    kept = sum(map(len, plan.positions)), sum(len(one.read) for one in plan.prompts)
    of_models = {f"{side}_{key}": value for side, known in models.items() for key, value in known.items()}
    cut = "" if kept[0] == kept[1] else f"{kept[0]} of {kept[1]} positions were kept (cache_bytes)"
    notes = {"note": "; ".join(filter(None, (said.get("note", ""), cut)))}
    return xr.Dataset(
        {name: (*table, {"unit": "nats"} if name in _NATS else {}) for name, table in tables.items()},
        coords=axes | {"group": ("prompt", groups)},
        attrs=provenance(
            "activation_shift", **of_models, **(said | notes), positions_kept=kept[0], positions_all=kept[1]
        ),
    )


def _axes(found: Recordings, sizes: dict[str, int]) -> dict[str, Any]:
    return {
        "prompt": np.array([one.id for one in found.plan.prompts], dtype=object),
        "layer": np.arange(sizes.get("layer", 0)),
        "head": np.arange(sizes.get("head", 0)),
        "token_class": list(TOKEN_CLASSES),
        "cka_tokens": list(CKA_TOKENS),
        "reading": list(READINGS),
        **{name: list(SIDES) for name in ("stream", "readout", "model")},
    }
