"""Models: load any checkpoint as a HookedTransformer or TransformerBridge, and pairs of them.

`load_model` finds, loads, converts and checks one model; `load_pair` gives a `ModelPair` that holds one of two at a
time; `describe_model` tells what a name leads to; `source_of` tells where a loaded model is from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.lazy import lazy_names

_HOME = {
    "HookedModel": "itlens.models.hooked_model",
    "ModelPair": "itlens.models.pair",
    "ModelSource": "itlens.models.source",
    "PairReport": "itlens.models.compatibility",
    "SUPPORTED": "itlens.models.architectures",
    "describe_model": "itlens.models.describe",
    "fingerprint": "itlens.models.source",
    "free_layout": "itlens.models.layout",
    "load_model": "itlens.models.load",
    "load_pair": "itlens.models.pair",
    "refuse_no_model": "itlens.models.hooked_model",
    "source_attrs": "itlens.models.source",
    "source_of": "itlens.models.source",
}

__all__ = [
    "SUPPORTED",
    "HookedModel",
    "ModelPair",
    "ModelSource",
    "PairReport",
    "describe_model",
    "fingerprint",
    "free_layout",
    "load_model",
    "load_pair",
    "refuse_no_model",
    "source_attrs",
    "source_of",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)

if TYPE_CHECKING:
    from itlens.models.architectures import SUPPORTED
    from itlens.models.compatibility import PairReport
    from itlens.models.describe import describe_model
    from itlens.models.hooked_model import HookedModel, refuse_no_model
    from itlens.models.layout import free_layout
    from itlens.models.load import load_model
    from itlens.models.pair import ModelPair, load_pair
    from itlens.models.source import ModelSource, fingerprint, source_attrs, source_of
