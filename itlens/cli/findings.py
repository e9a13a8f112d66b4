"""`itlens findings [NAME]`: the findings that are installed, or one of them with all its options."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from itlens.cli.options import JsonOption
from itlens.files import json_line, visible
from itlens.findings import findings
from itlens.findings.base import Finding


def _names(begun: str) -> list[str]:
    return [name for name in findings() if name.startswith(begun)]


def findings_command(
    name: Annotated[
        str | None,
        typer.Argument(help="One finding, with all its options; default: a list.", autocompletion=_names),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the findings (what each asks, measures and reads, and its options), or explain one of them."""
    from itlens.report.terminal import print_table
    from itlens.study.catalogue import finding_facts, finding_list, finding_named

    chosen = list(findings().values()) if name is None else [finding_named(name)]
    if as_json:
        facts = [finding_facts(finding) for finding in chosen]
        sys.stdout.write(json_line(facts if name is None else facts[0]))
    elif name is None:
        print_table(finding_list())
    else:
        _print_finding(chosen[0], Console())


def _print_finding(finding: Finding, console: Console) -> None:
    from itlens.report.terminal import print_table
    from itlens.study.catalogue import finding_facts, option_table

    facts = finding_facts(finding)
    lines = [
        f"{facts['name']}: {facts['question']}",
        "",
        f"Measures  {facts['measures']}",
        f"Reads     {facts['reads']}",
    ]
    lines.append(f"Results   by {facts['unit']}; what is finished is kept")
    if facts["uses"]:
        lines.append(f"Uses      {', '.join(facts['uses'])}, where they were computed before")
    lines += [f"Package   {facts['package']}", f"Run it    itlens compare BASE TUNED --probes {facts['name']}", ""]
    for line in lines:
        console.print(visible(line), markup=False, highlight=False)
    table = option_table(finding)
    if len(table.data):
        print_table(table, console)
    else:
        console.print("No options.", markup=False)
