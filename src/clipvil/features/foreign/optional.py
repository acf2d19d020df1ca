"""Libraries of the extra `foreign`, imported when they are asked for."""

from __future__ import annotations

import importlib
from typing import Any

from clipvil.errors import UsageError


def require(module: str, format: str) -> Any:
    """The module. Raises UsageError with the way to get it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError(
            f"the format {format} needs the package {module}: pip install 'clipvil[foreign]' (or pip install {module})"
        ) from None
