"""Encoder names that mean a store which is there already: `store:PATH`."""

from __future__ import annotations

from pathlib import Path

PREFIX = "store:"


def ready_store(name: str) -> Path | None:
    """The folder of the store that an encoder's name asks for; None where it names an encoder."""
    return Path(name.removeprefix(PREFIX)).expanduser() if name.startswith(PREFIX) else None
