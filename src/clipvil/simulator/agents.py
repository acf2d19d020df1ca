"""Agents that learn nothing: the floor and the ceiling of every table.

All walk the whole batch of episodes at once and return trajectories as submissions hold them. Angles in radians.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from clipvil.errors import UsageError
from clipvil.records import Episode
from clipvil.simulator.simulator import STOP, Candidates, Simulator
from clipvil.simulator.views import TURN, VIEW_ELEVATION, VIEW_HEADING, turns_to
from clipvil.simulator.world import World

Indices = npt.NDArray[np.int64]
Step = tuple[str, float, float]
Policy = Callable[[Simulator, Candidates], Indices]
"""Gives each agent's panoramic action: a candidate, or STOP, after which it is not asked again."""

MAX_STEPS = 35
"""The published bound on panoramic actions of an episode."""
RANDOM_STEPS = 5
"""Moves of the random agent, as in R2R's baseline."""


def stop_agent() -> Policy:
    """Stays where it starts."""
    return lambda simulator, seen: np.full(len(simulator), STOP, np.int64)


def shortest_agent(goals: Indices) -> Policy:
    """Walks the shortest way to the goals (B,) (numbers in the world) and stops there: the oracle."""

    def act(simulator: Simulator, seen: Candidates) -> Indices:
        return toward(seen, simulator.world.next_hop(simulator.viewpoint, goals))

    return act


def reference_agent(paths: Sequence[Indices]) -> Policy:
    """Walks the reference paths, which in RxR and R4R are not the shortest."""
    longest = max(map(len, paths))
    table = np.stack([np.pad(path, (0, longest + 1 - len(path)), mode="edge") for path in paths])

    def act(simulator: Simulator, seen: Candidates) -> Indices:
        at = np.minimum(simulator.steps + 1, longest)
        return toward(seen, table[np.arange(len(table)), at])

    return act


def random_agent(seed: int = 0, steps: int = RANDOM_STEPS) -> Policy:
    """Takes `steps` moves, each to a candidate drawn evenly, then stops."""
    generator = np.random.default_rng(seed)

    def act(simulator: Simulator, seen: Candidates) -> Indices:
        # One draw an agent whatever happens to the others, so that an episode's walk depends on its place alone.
        drawn = (generator.random(len(simulator)) * seen.count).astype(np.int64)
        return np.where((simulator.steps < steps) & (seen.count > 0), drawn, STOP)

    return act


def toward(seen: Candidates, target: Indices) -> Indices:
    """The candidate that is `target` (B,), STOP where it is none (as at the target itself)."""
    hit = seen.viewpoint == target[:, None]
    return np.where(hit.any(axis=1), hit.argmax(axis=1), STOP)


AGENTS = ("shortest", "reference", "random", "stop")


def named_agent(name: str, world: World, episodes: Sequence[Episode], seed: int = 0) -> Policy:
    """One of `AGENTS` for these episodes. Raises UsageError for another name."""
    if name == "stop":
        return stop_agent()
    if name == "random":
        return random_agent(seed)
    paths = [world.find_all([episode.scan] * len(episode.path), episode.path) for episode in episodes]
    if name == "shortest":
        return shortest_agent(np.array([path[-1] for path in paths]))
    if name == "reference":
        return reference_agent(paths)
    raise UsageError(f"unknown agent '{name}'; known are {', '.join(AGENTS)}")


def walk(
    world: World,
    episodes: Sequence[Episode],
    policy: Policy,
    *,
    max_steps: int = MAX_STEPS,
    turns: bool = True,
) -> dict[str, list[Step]]:
    """Let the policy walk all episodes together: episode id -> [(viewpoint, heading, elevation), ...].

    Every camera turn is a step of its own, as in the published R2R agents' submissions; without `turns` only moves are.
    Raises DataError for an unknown scan or start viewpoint.
    """
    simulator = Simulator(world)
    starts = world.find_all([episode.scan for episode in episodes], [episode.path[0] for episode in episodes])
    simulator.start(starts, [episode.heading for episode in episodes])
    viewpoints, views = [simulator.viewpoint], [simulator.view]
    going = np.ones(len(episodes), bool)
    for _ in range(max_steps):
        action = np.where(going, policy(simulator, simulator.candidates()), STOP)
        going &= action != STOP
        if not going.any():
            break
        simulator.go(action)
        viewpoints.append(simulator.viewpoint)
        views.append(simulator.view)
    places, looks = np.stack(viewpoints, 1), np.stack(views, 1)
    return {
        episode.episode_id: written(world, places[n].tolist(), looks[n].tolist(), turns=turns)
        for n, episode in enumerate(episodes)
    }


def written(world: World, places: Sequence[int], views: Sequence[int], *, turns: bool = True) -> list[Step]:
    """A panoramic walk as a submission's steps: the turns before each move (unless left out), and the move.

    `places` are numbers in the world and `views` the view after each action; repeated places are steps after STOP.
    """
    out = [_step(world, places[0], views[0])]
    for here, there, view, target in zip(places, places[1:], views, views[1:], strict=False):
        if here == there:
            continue
        for right, up in turns_to(view, target) if turns else ():
            view = int(TURN[view, right + 1, up + 1])
            out.append(_step(world, here, view))
        out.append(_step(world, there, target))
    return out


def _step(world: World, place: int, view: int) -> Step:
    return world.name(place)[1], float(VIEW_HEADING[view]), float(VIEW_ELEVATION[view])
