"""Keep the loading chatter of transformers and TransformerLens out of the terminal, and nothing else.

Both libraries log, warn, print and draw progress bars while a model loads. Inside `quiet()` that is off; on leaving,
every global setting (warning filters, logging levels, progress bars, root handlers) is as the user had it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

_DEPRECATED = r"HookedTransformer(\.from_pretrained)? is deprecated"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the deprecation of HookedTransformer, the libraries' log messages below ERROR, prints and bars."""
    from transformers.utils import logging as hf_logging

    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    disabled = logging.root.manager.disable
    # logging.warning(...) on a root without handlers would install one for good
    placeholder = None if logging.root.handlers else logging.NullHandler()
    sink = io.StringIO()
    # standard error too: the bar of a .gguf file's tensors asks nobody
    with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.filterwarnings("ignore", message=_DEPRECATED, category=DeprecationWarning)
        try:
            if placeholder is not None:
                logging.root.addHandler(placeholder)
            logging.disable(max(disabled, logging.WARNING))
            hf_logging.set_verbosity_error()
            if bars:
                hf_logging.disable_progress_bar()
            yield
        finally:
            logging.disable(disabled)
            hf_logging.set_verbosity(verbosity)
            if bars:
                hf_logging.enable_progress_bar()
            if placeholder is not None:
                logging.root.removeHandler(placeholder)
