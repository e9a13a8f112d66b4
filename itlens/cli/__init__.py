"""The command line: `itlens demo | compare | report | findings | attribute | attend | words | concepts | inspect |
selftest`.

Exit codes: 0 done; 2 wrong input, with one sentence on standard error; 130 interrupted, with everything finished kept.
Heavy modules load inside the commands, so that `itlens --help` answers at once.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from itlens import __version__
from itlens.cli.attend import attend_command
from itlens.cli.attribute import attribute_command
from itlens.cli.compare import compare_command, demo_command, report_command, with_finding_options
from itlens.cli.concepts import concepts_command
from itlens.cli.examples import epilog
from itlens.cli.findings import findings_command
from itlens.cli.inspect import inspect_command
from itlens.cli.selftest import selftest_command
from itlens.cli.words import words_command
from itlens.errors import ItlensError
from itlens.files import system_reason, visible

# typer brings its own copy of click or uses the installed one; its exceptions are reached through its public names
_ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def application() -> typer.Typer:
    """Return the command line. The findings' options are read here, and not on import: one that cannot be loaded is one
    sentence."""
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
    )
    for command in commands:
        name = command.__name__.removesuffix("_command")
        app.command(name, epilog=epilog(name))(command)
    return app


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
    try:
        code = application()(prog_name="itlens", standalone_mode=False)
    except _ClickException as error:
        _fail(error.format_message())
    except ItlensError as error:
        _fail(str(error))
    except OSError as error:  # what no module foresaw: a disk that fails while a model is fetched, a closed pipe
        _fail(f"{f'{error.filename}: ' if error.filename else ''}{system_reason(error)}.")
    except MemoryError as error:  # of what no estimate foresaw
        _fail(f"The memory of this machine ended ({str(error).rstrip('.') or 'no more could be had'}).")
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str) -> None:
    if sentence:  # a bare `itlens` has shown its help already
        print(f"itlens: {visible(' '.join(sentence.split()))}", file=sys.stderr)
    sys.exit(2)
