"""The `clipvil` command: builds the command table and turns errors into one line and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 done but with more bad inputs than allowed, 130 and 143 interrupted.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from clipvil.errors import ClipvilError
from clipvil.notices import told
from clipvil.version import __version__

# One module a command (clipvil.cli.<name>), in the order the help shows them.
_COMMANDS = (
    "compare",
    "protocol",
    "splits",
    "extract",
    "features",
    "train",
    "evaluate",
    "predict",
    "caption",
    "submit",
    "score",
    "captions",
    "navigation",
    "vcr",
    "convert",
    "mini",
    "encoders",
    "doctor",
)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, taken as Ctrl-C is: whatever holds a lock or a worker lets go of it."""


class _Ended(Exception):
    """Something outside ended a command: carries the exit code past typer, which would say nothing, or exit with 1."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Commands(TyperGroup):
    """The commands, with the ends that typer would swallow handed on to `main`."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _Terminated:
            raise _Ended(128 + signal.SIGTERM) from None
        except KeyboardInterrupt:
            raise _Ended(128 + signal.SIGINT) from None
        except BrokenPipeError:
            raise _Ended(0) from None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clipvil {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """The command table. Imports only typer and the thin command modules, so that `--help` is instant."""
    # Plain markup: loading rich for the help alone would cost more than everything else together.
    app = typer.Typer(
        name="clipvil",
        cls=_Commands,
        help="How much does a visual encoder help a vision-and-language task?",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def options(
        debug: bool = typer.Option(False, "--debug", help="Show the whole traceback of an error."),
        version: bool = typer.Option(
            False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ) -> None:
        if debug:
            os.environ["CLIPVIL_DEBUG"] = "1"

    for name in _COMMANDS:
        importlib.import_module(f"clipvil.cli.{name}").register(app)
    return app


def _fail(message: str, code: int) -> int:
    # One line whatever the message holds: a file name may carry a line break of its own.
    print("clipvil: " + message.replace("\r", "\\r").replace("\n", "\\n"), file=sys.stderr)
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    app = build_app()
    try:
        with told(), _sigterm():
            result = app(args=arguments, prog_name="clipvil", standalone_mode=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except _Ended as end:
        return _ended(end.code)
    except KeyboardInterrupt:
        return _ended(128 + signal.SIGINT)
    except Exception as error:
        if os.environ.get("CLIPVIL_DEBUG"):
            raise
        return _explain(error)
    return int(result or 0)


def _ended(code: int) -> int:
    if code:
        return _fail("interrupted; finished work is kept, run the same command again to go on", code)
    # The reader of our output went away (`| head`); nothing is wrong, and nothing more is to be written.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _explain(error: Exception) -> int:
    if isinstance(error, ClipvilError):
        return _fail(str(error), error.exit_code)
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror}{where}", 1)
    if isinstance(error, MemoryError):
        return _fail("there is not enough memory; take smaller batches, or fewer workers or jobs", 1)
    text = f": {error}" if str(error) else ""
    return _fail(f"internal error, {type(error).__name__}{text}; `clipvil --debug ...` shows where", 1)


@contextlib.contextmanager
def _sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exception inside the block, where this is the main thread."""

    def stop(number: int, frame: object) -> None:
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
