"""Models between a base and its tuned self: W(alpha) = W_base + alpha (W_tuned - W_base), for every parameter.

alpha 0 is exactly the base and 1 exactly the tuned model, to the last bit; beyond 1 the change is exaggerated. `parts`
restricts it: other parameters stay the base's. Halves of precision are blended in float32 and rounded once. Parameters
that are tied in both models (input and output embeddings) stay tied. Settings (rotary positions, eps of norms, windows,
soft caps) are no weights: between two models that differ in one there is nothing, and only the ends can be made.

The model is made of the tuned one, whose tokenizer and end-of-response tokens it has; at alpha 0, of the base.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from itlens.errors import ModelError, PairError
from itlens.models.compatibility import Side, different_settings
from itlens.models.given import ModelRecipe
from itlens.models.hooked_model import HookedModel
from itlens.models.load import load_model
from itlens.models.memory import give_back
from itlens.models.pair import ModelPair
from itlens.models.source import attach, source_of

Half: TypeAlias = Literal["attention", "mlp", "embedding"]
Parts: TypeAlias = Half | int | Sequence[Half | int]
HALVES: tuple[Half, ...] = ("attention", "mlp", "embedding")
_LAYER = re.compile(r"(?:^|\.)(?:blocks|layers|h)\.(\d+)\.")
_MLP = re.compile(r"\.(?:mlp|ln2|ln_2|ln2_post|fc1|fc2|final_layer_norm|(?:pre|post)_feedforward_layernorm)\.")
_BEFORE_MLP = ".post_attention_layernorm."  # where there is no other norm between the halves
_BEHIND_MLP = (
    ".post_feedforward_layernorm."  # where there is one, OLMo 2's and Gemma's post_attention is behind attention
)
_WIDE = (torch.float32, torch.float64)


def interpolate(pair: ModelPair, alpha: float, parts: Parts | None = None) -> HookedModel:
    """Return a new model with W_base + alpha (W_tuned - W_base); see the module.

    pair: of `itlens.load_pair`, with any backend; its models are loaded for this and left as they are. alpha: any
    finite number. parts: None (all), "attention" or "mlp" (with the norm in front), "embedding" (with the last norm and
    the unembedding), a layer's number, or several: halves and layers together mean these halves of these layers, and
    the embedding comes on top (it is of no layer): ("embedding", 1) is the embedding and all of layer 1.

    Raises PairError for anything but a pair, and, but at the ends themselves (alpha 0, and 1 of all parts), for
    parameters of other shapes (a vocabulary that grew) and settings that differ (rotary positions ...), ModelError
    for an alpha that is no finite number and for parts that there are not.
    """
    return Interpolation(pair, alpha, parts).made()


@dataclass(frozen=True)
class Interpolation(ModelRecipe):
    """A model between base and tuned that is made when it is loaded: what `compare` takes in the place of a model."""

    pair: ModelPair
    alpha: float
    parts: Parts | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pair, ModelPair):
            raise PairError(
                f"interpolate got a {type(self.pair).__name__}; expected a pair: itlens.load_pair(base, tuned)."
            )
        checked_alpha(self.alpha)
        _checked_parts(self.parts, int(self._sides[0].facts.get("layers") or 0))
        if self._end is None:
            _refuse_other_settings(*self._sides)

    @cached_property
    def _sides(self) -> tuple[Side, Side]:
        return self.pair.side("base"), self.pair.side("tuned")

    @property
    def _end(self) -> Literal["base", "tuned"] | None:
        """Which model of the pair it is; None where it is neither."""
        return "base" if self.alpha == 0 else "tuned" if self.alpha == 1 and self.parts is None else None

    @property
    def name(self) -> str:
        """What it is called in results."""
        base, tuned = (side.name for side in self._sides)
        of = "" if self.parts is None else f" in {', '.join(map(str, _listed(self.parts)))}"
        return f"{base} + {self.alpha:g} ({tuned} - base){of}"

    def side(self, which: str, **options: Any) -> Side:
        """Return what is known of it without its weights."""
        base, tuned = self._sides
        own = base if self.alpha == 0 else tuned
        parts = "" if self.parts is None else f" {_listed(self.parts)}"
        mark = f"{base.revision}+{float(self.alpha)!r}({tuned.revision}){parts}"
        return replace(own, which=which, name=self.name, revision=mark)

    @torch.no_grad()
    def made(self, **options: Any) -> HookedModel:
        """Load both models, blend them, and return the result. options: of `load_model`, in the place of the pair's."""
        if self._end is not None:
            return self._noted(self._loaded(self._end, options))
        base, tuned = (self._loaded(which, options) for which in ("base", "tuned"))
        if len(_own(base)) > len(_own(tuned)):  # the tied one cannot hold an untied one's weights
            host, other, share = base, tuned, self.alpha
            blend(host, other, self.parts, lambda own, their: _between(own, their, share))
        else:
            host, other = tuned, base
            blend(host, other, self.parts, lambda own, their: _between(their, own, self.alpha), outside=True)
        del base, tuned, other
        give_back()
        return self._noted(host)

    def _noted(self, model: HookedModel) -> HookedModel:
        """Note on the model what it is."""
        source = replace(source_of(model), name=self.name, revision=self.side("tuned").revision, check={})
        noted: HookedModel = attach(model, source)
        return noted

    def _loaded(self, which: str, options: dict[str, Any]) -> HookedModel:
        arguments = {**self.pair.arguments(which), **options}
        given = arguments["name_or_path"]
        if not isinstance(given, (str, Path, ModelRecipe)):
            arguments["name_or_path"] = copy.deepcopy(given)  # the caller's model stays as it is
        return load_model(**arguments)


def checked_alpha(alpha: object) -> float:
    """Return it as a float. Raises ModelError for anything but a finite number."""
    if isinstance(alpha, bool) or not isinstance(alpha, Real) or not abs(float(alpha)) < float("inf"):
        raise ModelError(f"interpolate got alpha={alpha!r}; expected a finite number, such as 0.5 (0: base, 1: tuned).")
    return float(alpha)


def _refuse_other_settings(base: Side, tuned: Side) -> None:
    rotary, other = different_settings(base, tuned)
    if rotary or other:
        raise PairError(
            f"{base.name} and {tuned.name} compute with other settings ({'; '.join([*rotary, *other])}), and nothing "
            "lies between these; expected equal ones: interpolate models with the same settings, or give alpha 0 or 1."
        )


def blend(host: HookedModel, other: HookedModel, parts: Parts | None, mix: Any, *, outside: bool = False) -> None:
    """Set every parameter of `host` that is among the parts to mix(own, other's).

    outside: parameters that are not among the parts become the other model's.
    """
    theirs = dict(_named(other))
    made: dict[tuple[int, int, int], Tensor] = {}
    sandwich = any(_BEHIND_MLP in name for name in theirs)
    for name, parameter in _own(host):
        own, their = parameter.data, theirs.get(name)
        if their is None or their.shape != own.shape:
            shape = "none" if their is None else tuple(their.shape)
            raise PairError(
                f"The parameter {name} has the shape {tuple(own.shape)} in one model and {shape} in the other; "
                "expected equal shapes: nothing lies between them (was a vocabulary grown?)."
            )
        tied = own.data_ptr(), their.data_ptr(), own.numel()
        if tied in made:
            parameter.data = made[tied].as_strided(own.size(), own.stride())
            continue
        if is_part(name, parts, sandwich=sandwich):
            new = mix(own, their.data)
        elif outside:
            new = their.data
        else:
            continue
        kept = torch.empty_strided(own.size(), own.stride(), dtype=own.dtype, device=own.device)
        parameter.data = made[tied] = kept.copy_(new)


def is_part(name: str, parts: Parts | None, *, sandwich: bool = False) -> bool:
    """Return whether a parameter is among the parts; see `interpolate`. sandwich: each half has a norm behind it."""
    if parts is None:
        return True
    listed = _listed(parts)
    halves = [part for part in listed if part in ("attention", "mlp")]
    layers = [part for part in listed if not isinstance(part, str)]
    found = _LAYER.search(name)
    if found is None or not (halves or layers):
        return found is None and "embedding" in listed
    half = "mlp" if _MLP.search(name) or (_BEFORE_MLP in name and not sandwich) else "attention"
    return (not halves or half in halves) and (not layers or int(found.group(1)) in layers)


def _between(base: Tensor, tuned: Tensor, alpha: float) -> Tensor:
    if alpha in (0, 1):
        return tuned if alpha else base
    if base.dtype in _WIDE:
        return base + alpha * (tuned - base)
    wide = base.float()
    return (wide + alpha * (tuned.float() - wide)).to(base.dtype)


def _own(model: HookedModel) -> list[tuple[str, Any]]:
    return list(model.named_parameters())  # type: ignore[attr-defined]


def _named(model: HookedModel) -> list[tuple[str, Any]]:
    """Tied parameters under each of their names."""
    return list(model.named_parameters(remove_duplicate=False))  # type: ignore[attr-defined]


def _listed(parts: Parts) -> list[Half | int]:
    return [parts] if isinstance(parts, (str, int)) else list(parts)


def _checked_parts(parts: Any, layers: int) -> None:
    listed = [] if parts is None else [parts] if isinstance(parts, (str, int)) else parts
    if not isinstance(listed, Sequence) or (parts is not None and not len(listed)):
        raise ModelError(
            f"interpolate got parts={parts!r}; expected {', '.join(HALVES)}, a layer's number, or several."
        )
    for part in listed:
        right = part in HALVES if isinstance(part, str) else isinstance(part, int) and not isinstance(part, bool)
        if not right or (isinstance(part, int) and not 0 <= part < layers):
            raise ModelError(
                f"interpolate got parts with {part!r}; expected {', '.join(HALVES)}, or layers from 0 to {layers - 1}."
            )
