"""The command line: `itlens demo | compare | report | findings | attribute | attend | words | concepts | inspect |
selftest | bench`.

Exit codes: 0 done; 1 `bench` found a ratio that fell; 2 wrong input, with one sentence on standard error; 130
interrupted (Ctrl-C) and 143 terminated (SIGTERM), with everything finished kept.
Heavy modules load inside the commands, so that `itlens --help` answers at once.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from itlens import __version__
from itlens.cli.attend import attend_command
from itlens.cli.attribute import attribute_command
from itlens.cli.bench import bench_command
from itlens.cli.compare import compare_command, demo_command, report_command, with_finding_options
from itlens.cli.concepts import concepts_command
from itlens.cli.examples import epilog
from itlens.cli.findings import findings_command
from itlens.cli.inspect import inspect_command
from itlens.cli.selftest import selftest_command
from itlens.cli.words import words_command
from itlens.errors import ItlensError
from itlens.files import system_reason, visible
from itlens.findings import findings

# typer brings its own copy of click or uses the installed one; its exceptions are reached through its public names
_ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def application() -> Any:
    """Return the command of the command line. The findings' options are read here, and not on import: one that cannot
    be loaded is one sentence. It is made once for each set of findings."""
    known = tuple(findings().values())
    if [id(finding) for finding in _made.get("known", ())] != [id(finding) for finding in known]:
        _made.update(known=known, command=_application())
    return _made["command"]


_made: dict[str, Any] = {}  # the findings, kept alive so that no other one gets their identity, and the command


def _application() -> Any:
    app = typer.Typer(
        name="itlens",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=epilog(""),
    )
    app.callback()(_options)
    commands = (
        *(demo_command, with_finding_options(compare_command), report_command, findings_command),
        *(attribute_command, attend_command, words_command, concepts_command, inspect_command, selftest_command),
        bench_command,
    )
    for command in commands:
        name = command.__name__.removesuffix("_command")
        app.command(name, epilog=epilog(name))(command)
    return typer.main.get_command(app)


def _say_version(asked: bool) -> None:
    if asked:
        print(f"itlens {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """What did instruction tuning change inside the model?"""  # the command line's help


def main() -> None:
    """The console script: run a command and exit with its code."""
    for stream in (sys.stdout, sys.stderr):  # a token that the terminal's encoding lacks is shown escaped
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with _terminable() as received, _log_shown():
        code = _ended()
    sys.exit(128 + received[0] if received else code)


def _ended() -> int:
    """Run a command and return its code; what is wrong with the input is said in one sentence."""
    try:
        code = application()(prog_name="itlens", standalone_mode=False)
    except _ClickException as error:
        return _fail(error.format_message())
    except ItlensError as error:
        return _fail(str(error))
    except OSError as error:  # what no module foresaw: a disk that fails while a model is fetched, a closed pipe
        return _fail(f"{f'{error.filename}: ' if error.filename else ''}{system_reason(error)}.")
    except MemoryError as error:  # of what no estimate foresaw
        return _fail(f"The memory of this machine ended ({str(error).rstrip('.') or 'no more could be had'}).")
    except (KeyboardInterrupt, typer.Abort):
        return 130
    return code if isinstance(code, int) else 0


@contextmanager
def _log_shown() -> Iterator[None]:
    """Show on standard error what modules of itlens log (a converted copy that is kept); --quiet raises the level."""
    logger, handler = logging.getLogger("itlens"), logging.StreamHandler()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def _terminable() -> Iterator[list[int]]:
    """Stop at SIGTERM (batch systems and `kill` send it) as at Ctrl-C, inside; the list says whether it came.

    Libraries turn a KeyboardInterrupt into exceptions of their own, from which the signal cannot be told.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
        received.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(sentence: str) -> int:
    if sentence:  # a bare `itlens` has shown its help already
        print(f"itlens: {visible(' '.join(sentence.split()))}", file=sys.stderr)
    return 2
