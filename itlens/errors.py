"""The errors of itlens: one base class, and a subclass for each kind of thing that can be wrong.

A message is one sentence or two that say what was got, what was expected, and what to do. The command line prints
it and exits with 2; in Python, `except itlens.ItlensError` catches everything that the caller can put right.
"""

from __future__ import annotations

from collections.abc import Iterable


class ItlensError(Exception):
    """Something the caller can put right: wrong input, a model that does not fit, a folder that cannot be written."""


class ModelError(ItlensError):
    """A model or tokenizer is missing, broken, of an unknown architecture, or not what Hugging Face computes."""


class PairError(ItlensError):
    """The base and the tuned model cannot be compared: the message names every difference that matters."""


class PromptError(ItlensError):
    """A prompt, span, prompt file or template is missing, malformed, or does not fit the model."""


class ProbeError(ItlensError):
    """A probe was asked for something it cannot compute, or met numbers that are not finite."""


class ResultError(ItlensError):
    """A result does not have the axes, labels or provenance that the function needs."""


class StoreError(ItlensError):
    """A file or folder cannot be read or written, or holds something else than expected."""


class ClusterError(ItlensError):
    """A Ray cluster is not installed or not reached, has no room for a worker, or lost too many of them."""


class AnnotateError(ItlensError):
    """A labeller cannot label: no key, a server that refuses, an unknown model, or what it got is no list of words."""


def first_few(names: Iterable[object]) -> str:
    """Return names as a message lists them: the first five, and how many more there are."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
