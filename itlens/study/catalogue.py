"""The findings that are installed, for `itlens findings`: what each asks, measures and reads, and its options."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import pandas as pd

from itlens.errors import ProbeError
from itlens.findings import findings
from itlens.findings.base import Finding
from itlens.findings.options import Option, options_of
from itlens.report.blocks import Column, Table

READS: Mapping[str, str] = {
    "prompts": "prompts, one model at a time",
    "weights": "weights",
    "weight_pair": "weights of both models",
    "pair": "prompts, both models on the same tokens",
}


def finding_named(name: str) -> Finding:
    """Return a finding. Raises ProbeError for a name that there is not, with the closest one."""
    known = findings()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}."
    raise ProbeError(f"There is no finding {name!r}; {hint}")


def finding_facts(finding: Finding) -> dict[str, Any]:
    """Return what is declared of a finding, as plain data.

    name, question, measures (its description), reads, unit (what a result file is of), uses (findings that it reads
    where they are there), package (where it is from), options: a list of name, flag (None: Python only), kind, default,
    least, choices, recompute (whether another value is another result), help.
    """
    return {
        "name": finding.name,
        "question": finding.question,
        "measures": " ".join(inspect.cleandoc(type(finding).__doc__ or finding.topic).split()),
        "reads": READS[finding.reads],
        "unit": finding.unit,
        "uses": list(finding.uses),
        "package": type(finding).__module__.partition(".")[0],
        "options": [_option(each) for each in options_of(finding.Options)],
    }


def _option(each: Option) -> dict[str, Any]:
    spec = each.spec
    default = each.default
    return {
        "name": each.name,
        "flag": (spec.flag or f"--{each.name.replace('_', '-')}") if spec.command_line else None,
        "kind": each.kind,
        "default": list(default) if isinstance(default, tuple) else default,
        "least": spec.at_least,
        "choices": list(spec.one_of),
        "recompute": spec.identity,
        "help": spec.help,
    }


def finding_lines(finding: Finding) -> tuple[str, str, str]:
    """Return what `itlens findings` prints of a finding: its question, what it reads, and its options by name."""
    facts = finding_facts(finding)
    names = ", ".join(each["name"] for each in facts["options"])
    return facts["question"], f"reads {facts['reads']}", f"options: {names or 'none'}"


def option_table(finding: Finding) -> Table:
    """Return the table of a finding's options: flag, meaning, default."""
    rows = [
        {
            "flag": each["flag"] or f"{each['name']}= (Python only)",
            "help": each["help"],
            "default": _shown(each["default"]),
        }
        for each in finding_facts(finding)["options"]
    ]
    columns = [Column("flag", "option"), Column("help", "meaning"), Column("default", "default")]
    return Table(pd.DataFrame(rows, columns=["flag", "help", "default"]), columns)


def _shown(default: Any) -> str:
    if default is None:
        return "–"
    return ",".join(map(str, default)) if isinstance(default, list) else str(default)
