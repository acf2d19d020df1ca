"""The loss of distillation: the student's tapped states, projected, against what the teachers said of the examples."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.distillation.curriculum import PREFIX
from clipvil.distillation.heads import create_head
from clipvil.distillation.losses import LOSSES
from clipvil.distillation.settings import DistillationChoice, RampChoice
from clipvil.distillation.taps import PLACES, Tap, Taps
from clipvil.distillation.weighting import normalised, relative
from clipvil.errors import RecipeError


class Distiller(nn.Module):
    """Distils into any module through taps. Its own parameters are the projection heads, which inference never needs.

        distiller = Distiller(model, taps, curriculum.widths(), choice)
        optimiser = torch.optim.AdamW([*model.parameters(), *distiller.parameters()])
        ...
        with distiller.reading(batch):
            loss = task_loss(model(...))
        loss = loss + distiller(curriculum.batch(numbers, step, cells))

    The model stays what it is: no module of it is replaced, none is added, and hooks exist inside `reading` alone.
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Mapping[str, Tap],
        widths: list[dict[str, int]],
        choice: DistillationChoice,
    ) -> None:
        """`widths` are the channels of each teacher by place, as `Curriculum.widths` tells them.

        Heads start from torch's global seed. Raises RecipeError where a place is distilled that has no tap, and where
        nothing is left to distil.
        """
        super().__init__()
        self.choice = choice
        self.taps = Taps(model, taps)
        self.heads = nn.ModuleDict()
        for number, own in enumerate(widths):
            for place, channels in own.items():
                if place not in taps:
                    raise RecipeError(
                        f"'distillation.terms.{'global' if place == 'pooled' else place}': the model has no such tap; "
                        f"it has {', '.join(name for name in taps if name in PLACES)}"
                    )
                self.heads[f"{number}-{place}"] = create_head(choice.head, taps[place].width, channels)
        if not self.heads:
            raise RecipeError("'distillation': none of the teachers says anything of what the terms match")
        total = sum(teacher.weight for teacher in choice.teachers)
        self.shares = [teacher.weight / total for teacher in choice.teachers]
        self.states: dict[str, Tensor] = {}
        self.seen: dict[str, Tensor] = {}
        """Of the last batch: each term before its factor, and the mean trust before it was normalised."""

    @contextlib.contextmanager
    def reading(self, batch: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, the states of the model's forward pass are kept for the loss; `batch` is given to the taps."""
        self.states.clear()
        with self.taps.reading(batch, self.states):
            yield

    def forward(self, taught: Mapping[str, Tensor], trust: bool = True) -> Tensor:
        """The loss of the lessons of a batch: a scalar, the mean over lessons, before `choice.weight`.

        `taught` is what `Curriculum.batch` gave. Without `trust` every example weighs the same, and no label is used.
        """
        told = {name.removeprefix(PREFIX): value for name, value in taught.items() if name.startswith(PREFIX)}
        weight = normalised(self._trust(told)) if trust else torch.ones_like(told["weight"])
        sums: dict[str, Tensor] = {}
        for name, head in self.heads.items():
            number, place = name.split("-")
            distance = self._distance(place, head, told, f"{number}.{place}") * self.shares[int(number)]
            sums[place] = sums[place] + distance if place in sums else distance
        means = {place: (weight * each).mean() for place, each in sums.items()}
        self.seen = {place: value.detach() for place, value in means.items()}
        self.seen["trust"] = told["weight"].mean()
        self.states.clear()
        return torch.stack([self.choice.terms.places[place] * value for place, value in means.items()]).sum()

    def _trust(self, told: Mapping[str, Tensor]) -> Tensor:
        if self.choice.confidence != "relative":
            return told["weight"]
        if "logits" not in self.states:
            raise RecipeError("'distillation.confidence' relative: the model has no tap 'logits'")
        # However a task puts the choices of a record: as many rows as lessons.
        logits = self.states["logits"].detach().float().reshape(len(told["weight"]), -1)
        return relative(told["weight"], functional.cross_entropy(logits, told["gold"], reduction="none"))

    def _distance(self, place: str, head: nn.Module, told: Mapping[str, Tensor], key: str) -> Tensor:
        """(L,) of one head."""
        states, distance = self._state(place, told), LOSSES[self.choice.loss]
        if place == "pooled":
            return distance(head(states).float(), told[key])
        if place == "text":
            weights, shares = told["words"], told["words.share"]
            states = weights.to(states.dtype) @ states[:, : weights.shape[2]]
        else:
            cells, shares = told["cells"], told["cells.share"]
            states = states.gather(1, cells[..., None].expand(-1, -1, states.shape[2]))
        return (distance(head(states).float(), told[key]) * shares).sum(1)

    def _state(self, place: str, told: Mapping[str, Tensor]) -> Tensor:
        """The states of the lessons' sequences. Raises RecipeError where the forward pass did not come by."""
        found = self.states.get(place)
        if found is None:
            raise RecipeError(f"the tap '{place}' saw nothing: call the model inside `reading`")
        return found[told["row"]] if "row" in told else found


def ramp(schedule: RampChoice, step: int, steps: int) -> float:
    """What the weight of distillation is multiplied by for the update after `step` of `steps` updates were done.

    Linear up to 1 over the first `warmup` of all steps (the first update already has a part of it), then half a cosine
    down to `decay_to`.
    """
    warmup = schedule.warmup * steps
    if step < warmup:
        return min((step + 1) / warmup, 1.0)
    share = (step - warmup) / max(steps - warmup, 1)
    return schedule.decay_to + (1 - schedule.decay_to) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
