"""Keep the loading chatter of transformers and TransformerLens out of the terminal, and nothing else.

Both libraries log, warn, and draw progress bars while a model loads. Inside `quiet()` their messages below ERROR are
dropped, of the thread that loads, and their bars are off. Standard output, standard error and the levels of loggers are
nobody's to change but the program's: another thread may be writing. What can only be set for the whole process (bars,
one warning filter, a handler on a root logger without any) is set by the first thread that loads and put back by the
last.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

_DEPRECATED = r"HookedTransformer(\.from_pretrained)? is deprecated"
_LIBRARIES = ("transformers", "transformer_lens", "huggingface_hub", "peft", "accelerate", "gguf", "root")
_PRINTING = ("transformer_lens.HookedTransformer", "transformer_lens.utilities.devices")
_lock = threading.Lock()
_turn = threading.RLock()
_loading: list[int] = []  # the threads inside `quiet`, as often as they entered
_put_back = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the deprecation of HookedTransformer, the libraries' log messages below ERROR, and their bars."""
    thread = threading.get_ident()
    with _lock:
        if not _loading:
            _silence(_put_back)
        _loading.append(thread)
    try:
        yield
    finally:
        with _lock:
            _loading.remove(thread)
            if not _loading:
                _put_back.close()


@contextmanager
def building() -> Iterator[None]:
    """Be quiet, and let one thread at a time build a model.

    transformers replaces methods of its classes while it builds one, and puts back what it found: of two threads, one
    would leave the other's replacement for good, and tied embeddings would never be tied again.
    """
    with _turn, quiet():
        yield


@contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Put another value under a name of a module; inside `building`, so that one thread at a time does."""
    with ExitStack() as stack:
        _replace(stack, module, name, value)
        yield


def _silence(stack: ExitStack) -> None:
    _drop_messages(stack)
    _hide_bars(stack)
    entry: Any = ("ignore", re.compile(_DEPRECATED, re.IGNORECASE), DeprecationWarning, None, 0)
    if entry not in warnings.filters:
        warnings.filterwarnings("ignore", message=_DEPRECATED, category=DeprecationWarning)
        stack.callback(_without, warnings.filters, entry)


def _without(held: Any, entry: Any) -> None:
    with suppress(ValueError):  # the program may have reset them
        held.remove(entry)


class _OwnThread(logging.Filter):
    """Drops what the libraries say below ERROR in a thread that loads a model."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.levelno < logging.ERROR and record.name.partition(".")[0] in _LIBRARIES
        return not (said and threading.get_ident() in _loading)


def _drop_messages(stack: ExitStack) -> None:
    """Filter every handler that a library's message could reach."""
    if not logging.root.handlers:  # logging.warning(...) on a root without handlers would install one for good
        placeholder = logging.NullHandler()
        logging.root.addHandler(placeholder)
        stack.callback(logging.root.removeHandler, placeholder)
    loggers = [logging.root, *filter(_speaks, list(logging.root.manager.loggerDict.values()))]
    handlers = {handler for logger in loggers for handler in getattr(logger, "handlers", [])}
    mine = _OwnThread()
    for handler in handlers:
        handler.addFilter(mine)
        stack.callback(handler.removeFilter, mine)


def _speaks(held: object) -> bool:
    return isinstance(held, logging.Logger) and bool(held.handlers)


def _hide_bars(stack: ExitStack) -> None:
    """Turn progress bars off; a bar that asks nobody, and prints, are replaced in the module that draws them."""
    from transformers import modeling_gguf_pytorch_utils as gguf_reader
    from transformers.utils import logging as hf_logging

    if hf_logging.is_progress_bar_enabled():
        hf_logging.disable_progress_bar()
        stack.callback(hf_logging.enable_progress_bar)
    if hasattr(gguf_reader, "tqdm"):
        _replace(stack, gguf_reader, "tqdm", _plain)
    for name in _PRINTING:
        if name in sys.modules:
            _replace(stack, sys.modules[name], "print", _nothing)


def _plain(tensors: Any, **options: Any) -> Any:
    return tensors


def _nothing(*words: Any, **options: Any) -> None:
    return None


def _replace(stack: ExitStack, module: Any, name: str, value: Callable[..., Any]) -> None:
    if name in vars(module):
        stack.callback(setattr, module, name, vars(module)[name])
    else:
        stack.callback(delattr, module, name)
    setattr(module, name, value)
