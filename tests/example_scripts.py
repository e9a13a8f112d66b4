"""How tests run the example scripts, and how they read the tables that these print."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import subprocess
import sys
import traceback
from pathlib import Path
from unittest import mock

EXAMPLES = Path(__file__).parents[1] / "examples"
RECOGNITION, VERBS, ROTATION = (
    EXAMPLES / f"finding{name}.py" for name in ("1_instruction_recognition", "2_instruction_verbs", "3_ffn_rotation")
)


def script(*arguments: object, path: Path = RECOGNITION) -> subprocess.CompletedProcess[str]:
    """What the script at `path` prints and returns with these arguments."""
    command = [sys.executable, str(path), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def called(*arguments: object, path: Path = RECOGNITION) -> subprocess.CompletedProcess[str]:
    """The same within this process, which has imported everything already."""
    words, code = [str(path), *map(str, arguments)], 0
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else int(done.code is not None)
        except Exception:  # as an interpreter of its own would end: with a traceback, and 1
            code = 1
            traceback.print_exc()
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def table(printed: str, title: str) -> dict[str, list[str]]:
    """The rows below a title that starts so, by their first column."""
    (block,) = [part for part in printed.split("\n\n") if part.startswith(title)]
    rows = [re.fullmatch(r"\s*(layers? \S+|\S+)(.*)", line) for line in block.splitlines()[1:]]
    return {row[1]: row[2].split() for row in rows if row}
