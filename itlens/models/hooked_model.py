"""The two classes of TransformerLens that a model is loaded as, and the surface that every part of itlens uses of both.

TransformerLens 4.0 removed HookedTransformer. There `backend="hooked"` means the bridge, and the first load says so:
hook points, probes and results keep their names, and scores agree to rounding.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

from torch import Tensor, nn

from itlens.errors import ModelError
from itlens.results.provenance import hooked_exists

Backend = Literal["hooked", "bridge"]
Hook: TypeAlias = tuple[str | Callable[[str], bool], Callable[..., Any]]


class HookedModel(Protocol):
    """A model of TransformerLens: `cfg`, hook points by name, runs with hooks, and weights of one layer.

    Only what both classes have. `W_E` is (d_vocab, d_model), `W_U` (d_model, d_vocab). Everything that the two spell
    differently is settled in `itlens.models` and `itlens.weights`. `cfg`, the modules and `tokenizer` are Any because
    TransformerLens and transformers publish no type for what is read there.
    """

    cfg: Any
    blocks: Any
    tokenizer: Any
    ln_final: Any
    unembed: Any
    hook_dict: Mapping[str, Any]
    W_E: Tensor
    W_U: Tensor

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def embed(self, tokens: Tensor) -> Tensor: ...

    def run_with_hooks(self, *args: Any, fwd_hooks: Sequence[Hook] = ..., bwd_hooks: Sequence[Hook] = ...) -> Any: ...

    def hooks(
        self, fwd_hooks: Sequence[Hook] = ..., bwd_hooks: Sequence[Hook] = ...
    ) -> AbstractContextManager[Any]: ...

    def generate(self, *args: Any, **kwargs: Any) -> Any: ...


def refuse_no_model(model: object, call: str) -> None:
    """Raise ModelError for anything but a loaded model. `call`: what the user called, for the message."""
    if hasattr(model, "hook_dict") and hasattr(model, "cfg"):
        return
    if isinstance(model, (str, Path)):
        name = repr(str(model))
        raise ModelError(f"{call} got {name} as the model; expected a loaded model: itlens.load_model({name}).")
    kind = type(model).__name__
    raise ModelError(f"{call} got a {kind} as the model; expected a loaded model: itlens.load_model(name).")


def backend_in_use(asked: Backend) -> Backend:
    """Return the backend that a model is loaded with, where `asked` was asked for.

    Raises ModelError for a name that is no backend. Warns (once per process) where TransformerLens 4 has no "hooked".
    """
    if asked not in get_args(Backend):
        raise ModelError(f'backend is {asked!r}; expected "hooked" or "bridge".')
    if asked == "hooked" and not hooked_exists():
        _say_once()
        return "bridge"
    return asked


def backend_of(model: object) -> Backend:
    """Return the backend of a loaded model, whoever loaded it."""
    if not hooked_exists():
        return "bridge"
    from transformer_lens import HookedTransformer

    return "hooked" if isinstance(model, HookedTransformer) else "bridge"


@functools.cache
def _say_once() -> None:
    warnings.warn(
        f"TransformerLens {version('transformer-lens')} has no HookedTransformer: models are loaded as "
        'TransformerBridge (backend="bridge"), and results say so.',
        UserWarning,
        stacklevel=4,
    )
