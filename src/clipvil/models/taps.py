"""Named places in a model whose states training may look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Pick = Callable[[Any, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Tap:
    """Reads a state where a module called `module` gives its output ("" is the model itself).

    `pick(output, batch)` takes the states out of it: `pooled` (S, d), `text` (S, T, d) or `vision` (S, N, d) for S
    sequences, T tokens and N cells; None takes the output as it is. `width` is d.
    """

    module: str
    width: int
    pick: Pick | None = None
