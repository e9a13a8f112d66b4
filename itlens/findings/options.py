"""Options of a finding, declared once: the keyword arguments of `compare`, the flags and help of the command line, the
checks of ranges, and the identity that a study is resumed by.

    @dataclass(frozen=True)
    class Options:
        volume: float = option(1.0, help="Factor on every gain.", at_least=0)

Two findings share an option by sharing the field: `sample: int = SAMPLE` in both, with one `SAMPLE = option(...)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from numbers import Real
from typing import Any, Literal, TypeAlias, get_type_hints

from itlens.errors import ItlensError, ProbeError

Kind: TypeAlias = Literal["int", "float", "str", "bool", "names", "object"]
_KEY = "option"


@dataclass(frozen=True)
class OptionSpec:
    """What is declared of an option beside its default; see `option`."""

    help: str
    at_least: float | None
    one_of: tuple[str, ...]
    identity: bool
    load: Callable[[Any, Mapping[str, Any]], object] | None
    identify: Callable[[Any], object]
    describe: Callable[[Any], object]
    flag: str
    aliases: tuple[str, ...]
    command_line: bool


def _same(value: object) -> object:
    return getattr(value, "fingerprint", list(value) if isinstance(value, tuple) else value)


def _shown(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def option(
    default: object,
    *,
    help: str,
    at_least: float | None = None,
    one_of: Sequence[str] = (),
    identity: bool = True,
    load: Callable[[Any, Mapping[str, Any]], object] | None = None,
    identify: Callable[[Any], object] = _same,
    describe: Callable[[Any], object] = _shown,
    flag: str = "",
    aliases: Sequence[str] = (),
    command_line: bool = True,
) -> Any:
    """Declare an option of a finding, as the default of a field of its frozen dataclass `Options`.

    default: also says the type where the annotation is not int, float, bool, str or a sequence of names. help: one
    sentence. at_least: the least number. one_of: the texts that are allowed (each of them, for a sequence of names).
    identity: whether results depend on it; False: it may change without computing again. load: turns what was given
    into what the finding uses (a name into a `Vocabulary`), called with the value and the options before it, before any
    model is loaded. identify: what study.json compares (default: the value, or its `fingerprint`). describe: the same
    for people. flag: of the command line (default: the name with dashes); aliases: further names, as keyword and as
    flag. command_line: False for what only Python can give.
    """
    spec = OptionSpec(
        help, at_least, tuple(one_of), identity, load, identify, describe, flag, tuple(aliases), command_line
    )
    return field(default=default, metadata={_KEY: spec})


@dataclass(frozen=True)
class Option:
    """One option of a finding, as the study and the command line read it."""

    name: str
    kind: Kind
    default: object
    optional: bool
    spec: OptionSpec

    def checked(self, value: object, owner: str) -> object:
        """Return the value, or raise ProbeError: what was got, and what is expected."""
        if value is None and self.optional:
            return None
        if self.kind in ("int", "float"):
            return self._number(value, owner)
        if self.kind == "names":
            return self._names(value, owner)
        if self.spec.one_of and value not in self.spec.one_of:
            raise ProbeError(f"{self.name}={value!r}; expected one of {', '.join(self.spec.one_of)}.")
        if self.kind == "bool" and not isinstance(value, bool):
            raise ProbeError(f"{self.name}={value!r}; expected True or False.")
        return value

    def _number(self, value: Any, owner: str) -> object:
        least = self.spec.at_least
        bound = "" if least is None else f" of at least {least:g}"
        whole = self.kind == "int"
        right = isinstance(value, int) if whole else isinstance(value, Real)
        if isinstance(value, bool) or not right or not abs(float(value)) < float("inf"):
            raise ProbeError(f"{self.name}={value!r}; expected a {'whole ' if whole else ''}number{bound}.")
        if least is not None and value < least:
            raise ProbeError(f"{self.name}={value!r}; expected a {'whole ' if whole else ''}number{bound}.")
        return value

    def _names(self, value: object, owner: str) -> tuple[object, ...]:
        known = self.spec.one_of
        listed = [value] if isinstance(value, str) else list(value) if isinstance(value, (Sequence, set)) else [value]
        for name in listed:
            if known and name not in known:
                raise ProbeError(f"{self.name} holds {name!r}; expected some of {', '.join(known)}.")
        if not listed:
            raise ProbeError(f"{self.name} is empty; expected some of {', '.join(known)}.")
        return tuple(name for name in known if name in listed) if known else tuple(listed)


def options_of(kind: type) -> list[Option]:
    """Return the options of a finding's `Options`, in the order of their fields.

    Raises ItlensError for a field that was not declared with `option`.
    """
    return list(_options_of(kind))


@cache  # the command line asks for those of every finding once for each option
def _options_of(kind: type) -> tuple[Option, ...]:
    hints = get_type_hints(kind)
    return tuple(_option(each, hints[each.name], kind) for each in fields(kind))


def _option(declared: Field[object], hint: object, owner: type) -> Option:
    spec = declared.metadata.get(_KEY)
    if not isinstance(spec, OptionSpec) or declared.default is MISSING:
        raise ItlensError(
            f"{owner.__qualname__}.{declared.name} was not declared with itlens.option(default, help=...); expected "
            "that of every option of a finding."
        )
    return Option(declared.name, _kind(hint, declared.default), declared.default, declared.default is None, spec)


def _kind(hint: object, default: object) -> Kind:
    for each in (bool, int, float, str):
        if hint is each or hint == (each | None):
            return each.__name__  # type: ignore[return-value]
    if isinstance(default, (tuple, list)):
        return "names"
    return "str" if isinstance(default, str) else "object"
