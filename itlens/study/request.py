"""What is asked of a study, checked before any weights are loaded: hours of work must not end in a wrong argument."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itlens.errors import ProbeError
from itlens.findings import findings
from itlens.findings.base import Finding
from itlens.findings.options import Option, OptionSpec, options_of

LOAD = ("device", "dtype", "backend", "tokenizer", "trust_remote_code", "revision", "check", "cache")


def chosen_findings(probes: str | Sequence[str]) -> list[Finding]:
    """Return the findings asked for, each once, in their own order. Raises ProbeError for names there are not."""
    known = findings()
    named = [probes] if isinstance(probes, str) else list(probes or ())
    unknown = [name for name in named if name not in (*known, "all")]
    if unknown or not named:
        shown = ", ".join(map(repr, unknown)) or "(none)"
        raise ProbeError(f"Unknown probe {shown}; known are {', '.join(known)} and all.")
    return [finding for name, finding in known.items() if "all" in named or name in named]


def all_options() -> dict[str, Option]:
    """Return the options of all findings by name, those that several findings share once."""
    found: dict[str, Option] = {}
    for finding in findings().values():
        for each in options_of(finding.Options):
            found.setdefault(each.name, each)
    return found


@dataclass(frozen=True)
class Options:
    """Options of each chosen finding: its `Options` object, with what was given loaded; load: of `load_model`."""

    of: Mapping[str, Any]
    load: Mapping[str, Any]


def checked_options(chosen: Sequence[Finding], given: Mapping[str, Any]) -> Options:
    """Check every option that was given, and load those of the chosen findings.

    Raises ProbeError for an option that no finding and no model has, one given twice under two names, and a value out
    of range; and what loading raises.
    """
    known = all_options()
    names = {name: name for name in known} | {
        alias: name for name, each in known.items() for alias in each.spec.aliases
    }
    values: dict[str, Any] = {}
    load: dict[str, Any] = {}
    for name, value in given.items():
        if name in names:
            if names[name] in values:
                raise ProbeError(f"{name} and {names[name]} are one option; give one of them.")
            values[names[name]] = known[names[name]].checked(value, name)
        elif name in LOAD:
            load[name] = value
        else:
            raise ProbeError(_unknown(name, [*names, *LOAD]))
    loaded: dict[OptionSpec, Any] = {}
    return Options({finding.name: _options(finding, values, loaded) for finding in chosen}, load)


def _options(finding: Finding, values: Mapping[str, Any], loaded: dict[OptionSpec, Any]) -> Any:
    own: dict[str, Any] = {}
    for each in options_of(finding.Options):
        value = values.get(each.name, each.default)
        if each.spec.load is not None:
            if each.spec not in loaded:
                loaded[each.spec] = each.spec.load(value, own)
            value = loaded[each.spec]
        own[each.name] = value
    return finding.Options(**own)


def option_records(finding: Finding, options: Any) -> dict[str, dict[str, Any]]:
    """Return what study.json keeps of a finding's options: identity, settings for people, and values to read again."""
    records: dict[str, dict[str, Any]] = {"identity": {}, "settings": {}, "options": {}}
    for each in options_of(finding.Options):
        value = getattr(options, each.name)
        plain = isinstance(value, (str, int, float, bool, list, tuple)) or value is None
        if each.spec.identity:
            records["identity"][each.name] = None if value is None else each.spec.identify(value)
        shown = None if value is None else each.spec.describe(value)
        records["settings"][each.name] = shown
        records["options"][each.name] = value if plain else shown
    return records


def read_options(finding: Finding, held: Mapping[str, Any]) -> Any:
    """Return a finding's options as study.json has them: what was loaded from a name is its description there.

    Raises ProbeError for a value out of range.
    """
    values = {}
    for each in options_of(finding.Options):
        value = held.get(each.name, each.default)
        values[each.name] = value if each.spec.load is not None else each.checked(value, finding.name)
    return finding.Options(**values)


def _unknown(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}."
    return f"Unknown option {name!r}; {hint}"
