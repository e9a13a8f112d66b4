"""The results of several layers as one. Without torch: a study that only reads its folder joins them too."""

from __future__ import annotations

import xarray as xr

from itlens.errors import ProbeError


def join_mlp_layers(found: list[xr.Dataset]) -> xr.Dataset:
    """The Datasets of several layers as one, in the order of the layers. Raises ProbeError for none."""
    if not found:
        raise ProbeError("join_mlp_layers got no layers; expected what mlp_layers gives.")
    found = sorted(found, key=lambda part: int(part["layer"][0]))
    joined = xr.concat(found, dim="layer", data_vars="all", coords="minimal", join="exact", combine_attrs="override")
    layers = [int(layer) for part in found for layer in part["layer"].values]
    return joined.assign_attrs({**found[0].attrs, "layers": layers})
