"""Rollouts: a batch of agents in the simulator, one decision after another, with what the losses need kept.

One step shows each agent its 36 views and the candidates around it, asks the model for scores, lets somebody choose
(the teacher, chance, or the best score) and moves. The teacher is right about the place the agent is at, however it
came there. Sources: the environment and agent of CLIP-ViL-VLN @ d806158, CLEAR's teacher for RxR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipvil.features.panorama import PanoramaFeatures
from clipvil.models.envdrop import EnvDrop, StepOutput
from clipvil.models.envdrop_layers import Instruction
from clipvil.simulator.simulator import STOP, Candidates, Simulator
from clipvil.simulator.views import angle_features
from clipvil.simulator.world import World

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Teacher = Literal["shortest", "reference"]
Choose = Callable[[Tensor, Indices], Tensor]
"""From logits (B, K) and the teacher's slots (B,), -100 where the episode has ended, the chosen slots (B,) int64."""
ENDED = -100
SUCCESS = 3.0


@dataclass(frozen=True)
class Journeys:
    """B episodes by numbers of the world: start headings in radians, paths (B, P) filled up with the goal."""

    heading: Floats
    path: Indices
    length: Indices
    """(B,) viewpoints a path."""

    def __len__(self) -> int:
        return len(self.path)

    @property
    def start(self) -> Indices:
        """(B,)."""
        return self.path[:, 0]

    @property
    def goal(self) -> Indices:
        """(B,)."""
        return self.path[:, -1]

    def take(self, rows: slice) -> Journeys:
        """Some of them."""
        return Journeys(self.heading[rows], self.path[rows], self.length[rows])


@dataclass(frozen=True)
class Place:
    """Where agents walk and what they see there: the graphs, and the features of all their views."""

    world: World
    panoramas: PanoramaFeatures

    def views(self, simulator: Simulator) -> Tensor:
        """(B, 36, D + A) float32."""
        return torch.from_numpy(self.panoramas.views(simulator.viewpoint, simulator.view))

    def candidates(self, simulator: Simulator, seen: Candidates) -> Tensor:
        """(B, K + 1, D + A) float32, K that of the agent with most; slot `count` of each is stopping, all zeros."""
        most = int(seen.count.max()) + 1
        return torch.from_numpy(self.panoramas.candidates(simulator.viewpoint, seen)[:, :most])


@dataclass
class Rollout:
    """What T steps of B agents left behind."""

    start: Indices
    logits: list[Tensor] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)
    slots: list[Indices] = field(default_factory=list)
    """Chosen (B,), by agents that had ended too."""
    teacher: list[Indices] = field(default_factory=list)
    """(B,): slot of the right way, or of stopping; ENDED for episodes that are over."""
    active: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    """(B,): not over before the step."""
    moved: list[Indices] = field(default_factory=list)
    """(B,): the candidate really gone to, STOP for none."""
    viewpoint: list[Indices] = field(default_factory=list)
    """(B,) before the first step and after each."""
    view: list[Indices] = field(default_factory=list)
    distance: list[Floats] = field(default_factory=list)
    """(B,) metres to the goal, before the first step and after each."""
    rewards: list[Floats] = field(default_factory=list)
    ended: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    last_hidden: Tensor | None = None
    """(B, H) of one more decision where some episode is not over: what the critic goes by for the rest of it."""

    def __len__(self) -> int:
        """Steps."""
        return len(self.slots)


def follow_teacher(logits: Tensor, teacher: Indices) -> Tensor:
    """Do as the teacher says."""
    return torch.from_numpy(np.maximum(teacher, 0)).to(logits.device)


def follow_chance(logits: Tensor, teacher: Indices) -> Tensor:
    """Draw from the policy, with torch's global generator."""
    return torch.multinomial(logits.detach().float().softmax(1), 1).squeeze(1)


def follow_best(logits: Tensor, teacher: Indices) -> Tensor:
    """Take the best score."""
    return logits.argmax(1)


class Guide:
    """The teacher of a batch: where each agent should go next.

    `shortest`: the shortest way to the goal from wherever it is. `reference`: along the reference path from the place
    reached on it, which is never an earlier one again; beside the path, the shortest way to the goal.
    """

    def __init__(self, world: World, journeys: Journeys, kind: Teacher) -> None:
        self.world, self.journeys, self.kind = world, journeys, kind
        self._reached = np.zeros(len(journeys), np.int64)

    def slots(self, viewpoint: Indices, seen: Candidates) -> Indices:
        """(B,): the candidate to take, or the one after the last, which is to stop."""
        target = self.world.next_hop(viewpoint, self.journeys.goal)
        if self.kind == "reference":
            target = self._along(viewpoint, target)
        hit = seen.viewpoint == target[:, None]
        return np.where(hit.any(axis=1), hit.argmax(axis=1), seen.count).astype(np.int64)

    def _along(self, viewpoint: Indices, otherwise: Indices) -> Indices:
        path, places = self.journeys.path, np.arange(self.journeys.path.shape[1])
        on = (path == viewpoint[:, None]) & (places >= self._reached[:, None])
        on &= places < self.journeys.length[:, None]
        rows, here = on.any(axis=1), on.argmax(axis=1)
        self._reached = np.where(rows, here, self._reached)
        after = np.minimum(here + 1, self.journeys.length - 1)
        chosen = np.where(rows, path[np.arange(len(path)), after], otherwise)
        # Reached now: what was passed is behind, so that a path that comes by twice is not walked in circles.
        self._reached = np.where(rows, np.minimum(here + 1, self.journeys.length - 1), self._reached)
        return np.asarray(chosen, np.int64)


def rollout(
    model: EnvDrop,
    place: Place,
    journeys: Journeys,
    instruction: Instruction,
    choose: Choose,
    *,
    teacher: Teacher = "shortest",
    steps: int = 35,
    noise: Tensor | None = None,
    avoid_visited: bool = False,
    bootstrap: bool = False,
) -> Rollout:
    """Let all agents walk until each has stopped, or `steps` decisions were made.

    `noise` (D,) is environmental dropout. `avoid_visited` leaves agents no way back to where they were. `bootstrap`
    asks for `last_hidden`.
    """
    simulator = Simulator(place.world)
    simulator.start(journeys.start, journeys.heading)
    guide, walker = Guide(place.world, journeys, teacher), _Walker(model, place, instruction, noise)
    out = Rollout(journeys.start, viewpoint=[simulator.viewpoint], view=[simulator.view])
    out.distance.append(place.world.distance(simulator.viewpoint, journeys.goal))
    ended = np.zeros(len(journeys), bool)
    for _ in range(steps):
        seen = simulator.candidates()
        said = walker.decide(simulator, seen)
        right = guide.slots(simulator.viewpoint, seen)
        logits = _without_visited(said.logits, seen, out.viewpoint) if avoid_visited else said.logits
        told = np.where(ended, ENDED, right)
        slots = choose(logits, told).cpu().numpy().astype(np.int64)
        moved = np.where(ended | (slots >= seen.count), STOP, slots)
        simulator.go(moved)
        _keep(out, said, logits, slots, told, moved, ended, simulator, journeys.goal)
        ended = ended | (moved == STOP)
        if ended.all():
            break
    out.ended = ended
    if bootstrap and not ended.all():
        out.last_hidden = walker.decide(simulator, simulator.candidates()).hidden
    return out


class _Walker:
    """Asks the model, step after step."""

    def __init__(self, model: EnvDrop, place: Place, instruction: Instruction, noise: Tensor | None) -> None:
        self.model, self.place, self.instruction, self.noise = model, place, instruction, noise
        self.device = instruction.h.device
        self.state = model.begin(instruction)
        self._heading: Floats | None = None

    def decide(self, simulator: Simulator, seen: Candidates) -> StepOutput:
        """The model's scores where the agents are."""
        said: StepOutput = self.model.step(
            self.state,
            self.instruction,
            self._action(simulator).to(self.device),
            self.place.views(simulator).to(self.device),
            self.place.candidates(simulator, seen).to(self.device),
            torch.from_numpy(seen.count.astype(np.int64) + 1).to(self.device),
            self.noise,
        )
        self.state = said.state
        return said

    def _action(self, simulator: Simulator) -> Tensor:
        heading, size = simulator.heading, self.model.config.angle_size
        before, self._heading = self._heading, heading
        if self.model.config.action_angles == "turn":
            heading = np.zeros_like(heading) if before is None else heading - before
        return torch.from_numpy(angle_features(heading, simulator.elevation, size))


def _keep(
    out: Rollout,
    said: StepOutput,
    logits: Tensor,
    slots: Indices,
    told: Indices,
    moved: Indices,
    ended: npt.NDArray[np.bool_],
    simulator: Simulator,
    goal: Indices,
) -> None:
    now = simulator.world.distance(simulator.viewpoint, goal)
    out.logits.append(logits)
    out.hidden.append(said.hidden)
    out.slots.append(slots)
    out.teacher.append(told)
    out.moved.append(moved)
    out.active.append(~ended)
    # As published: +2 or -2 for stopping within the margin or not, else +1 or -1 for coming nearer or not.
    step = np.sign(out.distance[-1] - now)
    reward = np.where(moved == STOP, np.where(now < SUCCESS, 2.0, -2.0), step)
    out.rewards.append(np.where(ended, 0.0, reward))
    out.distance.append(now)
    out.viewpoint.append(simulator.viewpoint)
    out.view.append(simulator.view)


def _without_visited(logits: Tensor, seen: Candidates, visited: list[Indices]) -> Tensor:
    been = (seen.viewpoint[:, :, None] == np.stack(visited, 1)[:, None, :]).any(axis=2)
    been = been[:, : logits.shape[1]]
    barred = np.zeros(tuple(logits.shape), bool)
    barred[:, : been.shape[1]] = been & seen.real[:, : been.shape[1]]
    return logits.masked_fill(torch.from_numpy(barred).to(logits.device), -torch.inf)
