"""What every part of itlens asks of a model: the surface that HookedTransformer and TransformerBridge share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from torch import Tensor, nn

from itlens.errors import ModelError

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
