"""`itlens findings [NAME]`: the findings that are installed, or one of them with all its options."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
    """List the findings (what each asks and reads, and its options), or explain one of them."""
    from itlens.study.catalogue import finding_facts, finding_named

    chosen = list(findings().values()) if name is None else [finding_named(name)]
    if as_json:
        facts = [finding_facts(finding) for finding in chosen]
        sys.stdout.write(json_line(facts if name is None else facts[0]))
    elif name is None:
        _print_list(chosen, Console())
    else:
        _print_finding(chosen[0], Console())


def _print_list(chosen: Sequence[Finding], console: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from itlens.study.catalogue import finding_lines

    for finding in chosen:
        question, *more = finding_lines(finding)
        console.print(Text(visible(finding.name), style="bold"))
        console.print(Padding(Text(visible(question)), (0, 0, 0, 4)))
        for line in more:
            console.print(Padding(Text(visible(line), style="dim"), (0, 0, 0, 4)))
    console.print("\n`itlens findings NAME` says what a finding measures, and explains its options.", highlight=False)


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
