"""clipvil: plug any visual encoder into any vision-and-language task, and know honestly how much it helps.

Importing the package loads no torch; the public names below are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

from clipvil.version import __version__

# Public name -> where it lives. A table and not imports, so that `import clipvil` stays instant.
_PUBLIC = {
    "create_encoder": "clipvil.encoders.registry",
    "list_encoders": "clipvil.encoders.registry",
    "extract": "clipvil.features.extract",
    "Store": "clipvil.features.store",
    "Recipe": "clipvil.training.recipe",
    "train": "clipvil.training.run",
    "load": "clipvil.training.predictor",
    "compare": "clipvil.compare.matrix",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'clipvil' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
