"""One model's activation summaries as a table: a row per prompt, a column per headline number."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from itlens.errors import ResultError

# column -> statistic of `itlens.activations`, and the class of tokens where it has one
_HEADLINES = {
    "attention_to_instruction": ("attention_mass", "instruction"),
    "attention_entropy": ("attention_entropy_share", None),
    "active_neurons": ("mlp_participation", None),
    "commitment_layer": ("lens_commitment_stays", None),
}


def activation_scores(activations: xr.Dataset) -> pd.DataFrame:
    """What a model's run comes to, prompt by prompt: means over layers and heads of what `itlens.activations` found.

    Columns: id, group; attention_to_instruction (share of attention from where the response is predicted),
    attention_entropy (relative to uniform attention), active_neurons (participation ratio), commitment_layer (the first
    layer from which the final top token stays on top); those of them that were measured.

    Raises ResultError for another kind of result, or one with none of these.
    """
    if not isinstance(activations, xr.Dataset) or activations.attrs.get("probe") != "activations":
        raise ResultError("activation_scores takes a Dataset of itlens.activations; got something else.")
    found = {}
    for column, (name, token_class) in _HEADLINES.items():
        if name in activations:
            value = activations[name] if token_class is None else activations[name].sel(token_class=token_class)
            found[column] = value.mean([dim for dim in value.dims if dim != "prompt"]).values
    if not found:
        raise ResultError(f"This result has none of {', '.join(name for name, _ in _HEADLINES.values())}; see hooks=.")
    ids, groups = activations["prompt"].values.astype(str), activations["group"].values.astype(str)
    return pd.DataFrame({"id": ids, "group": groups, **found})
