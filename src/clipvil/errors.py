"""Every error that clipvil raises on purpose: one line that says what, where and what to do."""

from __future__ import annotations

from pathlib import Path


class ClipvilError(Exception):
    """Base of all errors meant for people; the command line prints it as one line and exits with `exit_code`."""

    exit_code = 1


class UsageError(ClipvilError):
    """The request itself is wrong: an unknown name, an impossible combination of options."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe or an override has an unknown key or a value of the wrong type."""


class EncoderError(ClipvilError):
    """An encoder cannot be had or used: weights that are missing, damaged or do not fit, pixels it cannot take."""


class EncoderNameError(EncoderError, UsageError):
    """What was asked for does not exist: no such library, model, tag or layer. Wrong use, so the exit code is 2."""

    exit_code = 2


class ItemError(ClipvilError):
    """One input of many cannot be used. `reason` is one of the statuses counted in a feature store."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ImageError(ItemError):
    """A picture cannot be used.

    Statuses: missing, unreadable, empty, unsupported, truncated, too_large, corrupt.
    """


class FeatureError(ItemError):
    """Features that somebody else computed cannot be used.

    Statuses: those of ImageError, and duplicate, misshapen, not_finite.
    """


class StoreError(ClipvilError):
    """A feature store is damaged, incomplete, or would mix encoders or policies."""


class CheckpointError(ClipvilError):
    """A run folder or a checkpoint cannot be read or does not fit the recipe."""


class DataError(ClipvilError):
    """A data file breaks its format. Names file, row and field, and says what to do."""

    def __init__(
        self,
        what: str,
        *,
        file: str | Path | None = None,
        row: int | str | None = None,
        line: int | None = None,
        field: str | None = None,
        fix: str = "",
    ) -> None:
        where = ", ".join(
            part
            for part in (
                str(file) if file is not None else "",
                f"row {row}" if row is not None else "",
                f"line {line}" if line is not None else "",
                f"field '{field}'" if field is not None else "",
            )
            if part
        )
        super().__init__((f"{where}: " if where else "") + what + (f"; {fix}" if fix else ""))
        self.file, self.row, self.field = file, row, field
