"""Running a model that belongs to somebody else: what a probe needs of it, and how it is left.

1. EVALUATION MODE while a probe runs: a TransformerBridge runs Hugging Face's modules, whose dropout would make every
   number random. 2. No parameter asks for gradients: they double the cost of every backward pass. 3. OUTSIDE of
   `torch.inference_mode()`, also when the caller is inside: tensors made there can take no part in derivatives.
4. Tables that models keep from one run to the next, and make longer when a longer text comes, are ordinary tensors:
   TransformerLens' `generate` runs in inference mode, and what grows there (rotary angles, at 2,048 tokens) would fail
   in every derivative from then on. Their numbers stay as they are.
5. ONE THREAD AT A TIME: hooks belong to the model, so that a second thread would read the first one's prompt. 6. In the
   PRECISION of its weights, which results name: not in what the caller's `torch.autocast` would make of it. 7. Fast in
   half precision also on processors without instructions for it (`half_products`).
Afterwards every mode and flag is as the caller had it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from threading import RLock

import torch
from torch import nn

from itlens.errors import ModelError
from itlens.models.hooked_model import HookedModel
from itlens.models.precision import half_products
from itlens.models.source import source_of

_RUNNING = RLock()  # one for all models: pair probes hold two, and locks of their own could wait for each other


def outside_inference_mode() -> AbstractContextManager[object]:
    """Return a context in which ordinary tensors are made; it changes nothing where inference mode is off."""
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()


@contextmanager
def own_precision() -> Iterator[None]:
    """Switch the caller's `torch.autocast` off, which would round what is computed from weights to half precision."""
    with ExitStack() as stack:
        for device in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def undisturbed(model: HookedModel, *, derivatives: bool = False) -> Iterator[None]:
    """Let a model be run by a probe, and leave it as it was; see the module.

    derivatives: whether the probe takes some. Raises ModelError for weights that were made in inference mode then.
    """
    with _RUNNING, outside_inference_mode(), own_precision(), half_products(model.parameters()):
        if derivatives:
            _refuse_inference_weights(model)
        mend_tables(model)
        training = [module for module in _modules(model) if module.training]
        wanting = [parameter for parameter in model.parameters() if parameter.requires_grad]
        try:
            for module in training:
                module.training = False
            for parameter in wanting:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in wanting:
                parameter.requires_grad_(True)
            for module in training:
                module.training = True
            mend_tables(model)  # what grew in `generate`


def mend_tables(model: HookedModel) -> None:
    """Replace tables of a model that were made in inference mode by equal ones that derivatives can go through."""
    with outside_inference_mode():
        for module in _modules(model):
            for kept in (module._buffers, vars(module)):  # slopes of ALiBi are a plain attribute
                made_there = [
                    (name, value)
                    for name, value in kept.items()
                    if isinstance(value, torch.Tensor) and value.is_inference()
                ]
                for name, value in made_there:
                    kept[name] = value.clone()


def _modules(model: HookedModel) -> list[nn.Module]:
    """Return all modules of a model; a bridge does not count those of the Hugging Face model that it has no name for,
    such as the dropout of embeddings."""
    inner = getattr(model, "original_model", None)
    own = [*model.modules(), *(inner.modules() if isinstance(inner, nn.Module) else ())]
    return list({id(module): module for module in own}.values())


def _refuse_inference_weights(model: HookedModel) -> None:
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ModelError(
            f"The weights of {source_of(model).name} were made inside torch.inference_mode(), so no derivative can be "
            "taken; load or build the model outside of it (itlens.load_model(name) does)."
        )
