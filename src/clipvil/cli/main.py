"""The `clipvil` command: builds the command table and turns errors into one line and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 done but with more bad inputs than allowed.
"""

from __future__ import annotations

import importlib
import os
import sys

import typer

from clipvil.errors import ClipvilError
from clipvil.version import __version__

# One module a command (clipvil.cli.<name>), in the order the help shows them.
_COMMANDS = (
    "compare",
    "extract",
    "features",
    "train",
    "evaluate",
    "predict",
    "submit",
    "score",
    "captions",
    "convert",
    "mini",
    "encoders",
    "doctor",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clipvil {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """The command table. Imports only typer and the thin command modules, so that `--help` is instant."""
    # Plain markup: loading rich for the help alone would cost more than everything else together.
    app = typer.Typer(
        name="clipvil",
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
        result = app(args=arguments, prog_name="clipvil", standalone_mode=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except ClipvilError as error:
        if os.environ.get("CLIPVIL_DEBUG"):
            raise
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; finished work is kept, run the same command again to go on", 130)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nothing is wrong.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        return 0
    except OSError as error:
        if os.environ.get("CLIPVIL_DEBUG"):
            raise
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", 1)
    return int(result or 0)


if __name__ == "__main__":
    sys.exit(main())
