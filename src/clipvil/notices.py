"""Warnings that are meant for people, as one line each instead of a place in the code."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TextIO


def to_stderr(line: str) -> None:
    """Print a notice where progress goes."""
    print(f"clipvil: {line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def told(say: Callable[[str], None] = to_stderr) -> Iterator[None]:
    """Inside the block every UserWarning (untrained weights, say) is told through `say` as one line.

    Other categories speak to programmers and stay as Python shows them. Filters (`-W`) count as ever.
    """
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, UserWarning):
                say(" ".join(str(message).split()))
            else:
                before(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield
