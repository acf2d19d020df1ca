"""Compare: encoders x tasks x seeds, with intervals, costs and one report.

`clipvil.compare(...)` is the public function of `clipvil.compare.matrix`. This package has the same name and takes the
function's place as soon as any module of it was imported, so it can be called as well.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from clipvil.compare.matrix import compare

        return compare(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
