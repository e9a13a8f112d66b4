"""Examples that the help of each command ends with. Every one is run by a test.

Names of findings come from the findings, so that this file names none.
"""

from __future__ import annotations

from collections.abc import Mapping

from itlens.findings import findings
from itlens.findings.base import Reads

_SENTENCE = '"Translate into French: the cat sleeps"'


def examples() -> Mapping[str, tuple[str, ...]]:
    """Return example command lines by command; "" is of `itlens` itself."""
    return {
        "": (
            "itlens demo",
            "itlens compare BASE TUNED --prompts prompts.jsonl --out runs/mine",
            "itlens compare --help",
        ),
        "demo": ("itlens demo", "itlens demo --limit 20 --out runs/demo-20 --json > findings.json"),
        "compare": (
            "itlens compare BASE TUNED --prompts prompts.jsonl --out runs/mine",
            f"itlens compare BASE TUNED --probes {_first('weights')} --out runs/weights",
            f"itlens compare BASE TUNED --probes {_first('prompts')} --responses tuned --json > findings.json",
        ),
        "report": ("itlens report runs/mine", "itlens report runs/mine --quiet --json > findings.json"),
        "findings": ("itlens findings", f"itlens findings {_first('prompts')}", "itlens findings --json"),
        "attribute": (
            f'itlens attribute TUNED --prompt {_SENTENCE} --instruction "Translate into French:"',
            'itlens attribute TUNED --prompt "Two and two is" --response " four" --out tokens.html',
        ),
        "attend": (
            f"itlens attend TUNED --prompt {_SENTENCE} --layer 3",
            f"itlens attend BASE TUNED --prompt {_SENTENCE} --layer 3 --head 2 --out head.html",
        ),
        "words": (
            "itlens words TUNED --layer 3 --head 5",
            "itlens words TUNED --layer 3 --head 5 --top-k 50 --out pairs.parquet",
        ),
        "concepts": (
            "itlens concepts TUNED --layer 3",
            "itlens concepts TUNED --layer 3 --concept-vectors key --label --json > concepts.json",
        ),
        "inspect": ("itlens inspect TUNED", "itlens inspect BASE --no-check --json"),
        "bench": ("itlens bench --list", "itlens bench --json today.json --against yesterday.json"),
        "selftest": ("itlens selftest", "itlens selftest BASE --repeats 2 --seed 1 --out selftest.json"),
    }


def epilog(command: str) -> str:
    """Return the examples of a command as the end of its help: a paragraph each."""
    return "\n\n".join(("Examples:", *(f"  {line}" for line in examples()[command])))


def _first(reads: Reads) -> str:
    return next(name for name, finding in findings().items() if finding.reads == reads)
