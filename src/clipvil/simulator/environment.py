"""One agent at a time, with the calls of Gymnasium (`reset`, `step`), without needing that package.

    environment = NavigationEnvironment(World(graphs), episodes)
    seen, info = environment.reset(options={"episode": 0})
    seen, reward, terminated, truncated, info = environment.step(2)

`register()` makes it known to an installed gymnasium as `clipvil/Navigation-v0`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from clipvil.errors import ClipvilError, UsageError
from clipvil.records import Episode
from clipvil.simulator.simulator import STOP, Simulator
from clipvil.simulator.world import World

Choice = Literal["panoramic", "in_view"]
ENVIRONMENT = "clipvil/Navigation-v0"
MARGIN = 3.0
MAX_STEPS = 35


class NavigationEnvironment:
    """An episode of R2R, RxR or R4R as an environment.

    `choice` names the view of "where can I go". With `panoramic` an action is a candidate's number, -1 stops; with
    `in_view` it is (location, heading change, elevation change) as in the original simulator, only signs of the changes
    count, and None stops. Rewards are those of the published agents: 2 for a stop within 3 m of the goal and -2 for
    another; otherwise 1 for coming nearer, -1 for moving away, 0 for neither. Episodes without a goal (test sets) give
    0. After `max_steps` actions an episode is truncated.
    """

    metadata: Mapping[str, Any] = {"render_modes": []}
    render_mode = None
    spec: Any = None

    def __init__(
        self,
        world: World,
        episodes: Sequence[Episode],
        *,
        choice: Choice = "panoramic",
        max_steps: int = MAX_STEPS,
    ) -> None:
        """Raises UsageError for an unknown choice, or no episodes."""
        if choice not in get_args(Choice):
            raise UsageError(f"unknown choice '{choice}'; choose one of {', '.join(get_args(Choice))}")
        if not len(episodes):
            raise UsageError("an environment needs at least one episode")
        self.world, self.episodes, self.choice, self.max_steps = world, episodes, choice, max_steps
        self.episode = episodes[0]
        self._simulator = Simulator(world)
        self._generator = np.random.default_rng()
        self._goal: int | None = None
        self._over = True

    @property
    def unwrapped(self) -> NavigationEnvironment:
        """Itself: it wraps nothing."""
        return self

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode: number `options["episode"]`, or one drawn evenly. Returns observation and info.

        Raises UsageError for a number that is none, DataError where the episode's scan or viewpoints are unknown.
        """
        if seed is not None:
            self._generator = np.random.default_rng(seed)
        chosen = (options or {}).get("episode")
        number = int(self._generator.integers(len(self.episodes))) if chosen is None else _whole(chosen, "an episode")
        if not 0 <= number < len(self.episodes):
            raise UsageError(f"there is no episode {number}; numbers go from 0 to {len(self.episodes) - 1}")
        self.episode = self.episodes[number]
        self._simulator.start_at([self.episode.scan], [self.episode.path[0]], [self.episode.heading])
        path = self.episode.path
        self._goal = self.world.find(self.episode.scan, path[-1]) if len(path) > 1 else None
        self._over = False
        return self.observation(), self._info()

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Act once: observation, reward, terminated, truncated, info. Raises UsageError for an impossible action."""
        if self._over:
            raise UsageError("the episode is over; call reset first")
        before = self._distance()
        panoramic = self.choice == "panoramic"
        terminated = action is None or (panoramic and _whole(action, "a panoramic action") == STOP)
        if terminated:
            reward = 0.0 if self._goal is None else 2.0 if before < MARGIN else -2.0
        else:
            self._act(action)
            reward = float(np.sign(before - self._distance())) if self._goal is not None else 0.0
        truncated = not terminated and int(self._simulator.steps[0]) >= self.max_steps
        self._over = terminated or truncated
        return self.observation(), reward, terminated, truncated, self._info()

    def _act(self, action: Any) -> None:
        if self.choice == "panoramic":
            self._simulator.go([_whole(action, "a panoramic action")])
            return
        try:
            location, heading, elevation = (float(part) for part in action)
        except (TypeError, ValueError):
            raise UsageError("an action in view is (location, heading change, elevation change), or None") from None
        self._simulator.act([_whole(location, "a location")], [heading], [elevation])

    def observation(self) -> dict[str, Any]:
        """Where the agent is, how it looks, what it was told and where it can go: plain values and arrays.

        viewpoint, view, heading, elevation, instruction; and of each place it can go to: `places` (ids), `headings`
        and `elevations` (radians, as the choice defines them), `distances` (metres), and panoramic ones' `views`.
        """
        simulator = self._simulator
        _, name, view = simulator.state(0)
        here = {
            "viewpoint": name,
            "view": view,
            "heading": float(simulator.heading[0]),
            "elevation": float(simulator.elevation[0]),
            "instruction": self.episode.instruction,
        }
        wide = simulator.candidates() if self.choice == "panoramic" else None
        seen = wide if wide is not None else simulator.locations()
        used = slice(0, int(seen.count[0]))
        out = {
            **here,
            "places": [self.world.name(int(number))[1] for number in seen.viewpoint[0, used]],
            "headings": seen.heading[0, used].copy(),
            "elevations": seen.elevation[0, used].copy(),
            "distances": seen.distance[0, used].copy(),
        }
        return {**out, "views": wide.view[0, used].copy()} if wide is not None else out

    def _distance(self) -> float:
        if self._goal is None:
            return 0.0
        return float(self.world.distance(self._simulator.viewpoint, np.array([self._goal]))[0])

    def _info(self) -> dict[str, Any]:
        """Episode id, scan, and what a teacher may know: metres to the goal and the next viewpoint towards it."""
        info: dict[str, Any] = {"episode_id": self.episode.episode_id, "scan": self.episode.scan}
        if self._goal is not None:
            following = int(self.world.next_hop(self._simulator.viewpoint, np.array([self._goal]))[0])
            info["distance"] = self._distance()
            info["next"] = self.world.name(following)[1] if following >= 0 else None
        return info

    def render(self) -> None:
        """Nothing: this world has no pictures of its own."""

    def close(self) -> None:
        """Nothing to let go of."""


def _whole(value: Any, what: str) -> int:
    """A whole number, also one of NumPy. Raises UsageError for anything else, half a number among it."""
    try:
        number = int(value)
        if not isinstance(value, str | bytes) and number == value:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"{what} is a whole number, not {value!r}")


def register(name: str = ENVIRONMENT) -> str:
    """Make the environment known to gymnasium: `gymnasium.make(name, world=..., episodes=...)`. Returns the name.

    Raises ClipvilError where gymnasium is not installed. Its spaces are left open, since the number of places varies.
    """
    try:
        gymnasium = importlib.import_module("gymnasium")
    except ImportError:
        raise ClipvilError(
            "gymnasium is not installed; `pip install gymnasium`, or use NavigationEnvironment"
        ) from None
    kind = type("GymnasiumNavigation", (NavigationEnvironment, gymnasium.Env), {})
    if name not in gymnasium.registry:
        gymnasium.register(id=name, entry_point=kind, disable_env_checker=True, order_enforce=False)
    return name
