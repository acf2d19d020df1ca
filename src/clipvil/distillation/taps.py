"""Named places in a model whose states are matched, read by forward hooks: no model is edited."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from clipvil.errors import RecipeError
from clipvil.models.taps import Tap

__all__ = ["PLACES", "Tap", "Taps", "taps_of"]

PLACES = ("pooled", "text", "vision")


class Taps:
    """The taps of a model by place (`pooled`, `text`, `vision`, `logits`)."""

    def __init__(self, model: nn.Module, taps: Mapping[str, Tap]) -> None:
        """Raises RecipeError for a module that the model has not (with the names of those it has at that level)."""
        self.taps = dict(taps)
        self.modules: dict[str, nn.Module] = {}
        for place, tap in self.taps.items():
            if place not in (*PLACES, "logits"):
                raise RecipeError(f"no place '{place}' can be tapped; use {', '.join(PLACES)} or logits")
            try:
                self.modules[place] = model.get_submodule(tap.module)
            except AttributeError:
                known = ", ".join(name for name, _ in model.named_modules() if name and name.count(".") < 2)
                raise RecipeError(f"the model has no module '{tap.module}' to tap; it has {known}") from None

    @contextlib.contextmanager
    def reading(self, batch: Mapping[str, Tensor], states: dict[str, Tensor]) -> Iterator[None]:
        """Inside, whatever the model computes is put into `states` by place; of several passes the last one stays."""
        handles = [
            module.register_forward_hook(self._hook(place, batch, states)) for place, module in self.modules.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, place: str, batch: Mapping[str, Tensor], states: dict[str, Tensor]) -> Callable[..., None]:
        pick = self.taps[place].pick

        def read(_: nn.Module, __: Any, output: Any) -> None:
            states[place] = output if pick is None else pick(output, batch)

        return read


def taps_of(model: nn.Module) -> dict[str, Tap]:
    """The taps of one of our models: its own (`distillation_taps()`), or those of a body over text and cells.

    Raises RecipeError for a model without.
    """
    own = getattr(model, "distillation_taps", None)
    if own is None:
        raise RecipeError(
            f"the model {type(model).__name__} has no taps to distil into; take clip_vil_p, or give the model a method "
            "distillation_taps()"
        )
    return dict(own())
