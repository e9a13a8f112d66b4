"""Findings: a folder each, and the list of them (`itlens.findings()`).

Other packages add theirs by `register` or by an entry point. An entry point in the group `itlens.findings` names a
subclass of `Finding`, or an instance:

    [project.entry-points."itlens.findings"]
    louder = "othergain:Gain"
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from itlens.errors import ItlensError
from itlens.findings.base import Finding
from itlens.findings.options import Option, options_of

GROUP = "itlens.findings"
_READS = ("prompts", "weights", "weight_pair", "pair")
# arguments of `compare` and of `load_model`, which no finding's option may be called
_TAKEN = {
    *("base", "tuned", "prompts", "probes", "out", "resume", "executor", "adapter", "labels", "format", "limit"),
    *("max_new_tokens", "prepend_bos", "responses", "base_from", "tuned_from", "announce", "seed", "progress"),
    *("rendered_at", "ray_address", "ray_cpus"),
    *(
        "device",
        "dtype",
        "backend",
        "tokenizer",
        "trust_remote_code",
        "revision",
        "check",
        "cache",
        "template",
        "prompt_format",
    ),
}
_registered: dict[str, Finding] = {}


def register(finding: type[Finding] | Finding) -> Finding:
    """Add a finding to those that `compare`, the report and the command line know; returns its instance.

    finding: a subclass of `Finding` or an instance. Raises ItlensError: not a finding, a name that is taken or cannot
    be a folder, or an option that another finding has with another meaning.
    """
    made = _instance(finding, "itlens.register")
    _add(made, {**findings(), **_registered})
    _registered[made.name] = made
    return made


def unregister(name: str) -> None:
    """Take a finding away that `register` added. Raises ItlensError for any other name."""
    if name not in _registered:
        raise ItlensError(f"No finding {name!r} was registered; there are {', '.join(_registered) or 'none'}.")
    del _registered[name]


def findings() -> dict[str, Finding]:
    """Return all findings by name: the package's own in their order, then those of other packages.

    Raises ItlensError, naming the finding, for an entry point that cannot be loaded or breaks a rule of `register`.
    """
    return {**_installed(), **_registered}


@cache
def _installed() -> Mapping[str, Finding]:
    found: dict[str, Finding] = {}
    folders = [path.parent.name for path in Path(__file__).parent.glob("*/finding.py")]
    own: list[Finding] = [import_module(f"itlens.findings.{folder}.finding").FINDING for folder in folders]
    for finding in sorted(own, key=lambda finding: finding.order):
        _add(finding, found)
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        _add(_loaded(point), found)
    return found


def _loaded(point: EntryPoint) -> Finding:
    try:
        return _instance(point.load(), f"The entry point {point.name!r} ({point.value})")
    except ItlensError:
        raise
    except Exception as error:  # whatever another package raises while it is imported
        raise ItlensError(
            f"The finding {point.name!r} ({point.value}) cannot be loaded: {type(error).__name__}: {error}; mend or "
            "uninstall its package."
        ) from error


def _instance(finding: object, where: str) -> Finding:
    made = finding() if isinstance(finding, type) and issubclass(finding, Finding) and _whole(finding) else finding
    if not isinstance(made, Finding):
        got = finding.__name__ if isinstance(finding, type) else type(finding).__name__
        raise ItlensError(f"{where} got {got}; expected a subclass of itlens.Finding, or an instance of one.")
    return made


def _whole(finding: type[Finding]) -> bool:
    missing = sorted(getattr(finding, "__abstractmethods__", ()))
    missing += [name for name in ("name", "question", "reads") if not hasattr(finding, name)]
    if missing:
        raise ItlensError(f"The finding {finding.__name__} has no {', '.join(missing)}; a finding needs all of them.")
    return True


def _add(finding: Finding, found: dict[str, Finding]) -> None:
    name = finding.name
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise ItlensError(
            f"A finding calls itself {name!r}; expected small letters, digits, - and _ (it names a folder)."
        )
    if name in found or name == "all":
        raise ItlensError(f"Two findings are called {name!r}; give the one of {type(finding).__module__} another name.")
    if finding.reads not in _READS:
        raise ItlensError(f"The finding {name!r} reads {finding.reads!r}; expected one of {', '.join(_READS)}.")
    for own in options_of(finding.Options):
        _refuse_other_meaning(own, finding, found)
    found[name] = finding


def _refuse_other_meaning(own: Option, finding: Finding, found: Mapping[str, Finding]) -> None:
    if taken := {own.name, *own.spec.aliases} & _TAKEN:
        raise ItlensError(
            f"The finding {finding.name!r} has an option {min(taken)!r}, which is compare's own; rename it."
        )
    for other in found.values():
        for theirs in options_of(other.Options):
            names = {theirs.name, *theirs.spec.aliases} & {own.name, *own.spec.aliases}
            if names and theirs.spec is not own.spec:
                raise ItlensError(
                    f"The finding {finding.name!r} has an option {own.name!r}, which {other.name!r} has with another "
                    "meaning; rename it, or share the field object."
                )


class _CallableModule(ModuleType):
    """`itlens.findings` is this package and also the function of that name; importing the package must not hide it."""

    def __call__(self) -> dict[str, Finding]:
        return findings()


sys.modules[__name__].__class__ = _CallableModule
