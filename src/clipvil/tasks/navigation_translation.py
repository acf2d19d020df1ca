"""Back-translation: paths that nobody described, told by the speaker, to be followed by the follower."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from clipvil.datasets.episodes import check_path
from clipvil.datasets.r2r import read_r2r
from clipvil.errors import DataError
from clipvil.models.envdrop_speaker import Speaker
from clipvil.records import Episode
from clipvil.simulator.simulator import Simulator
from clipvil.simulator.world import World
from clipvil.tasks.navigation_batches import encode_paths, journeys_of
from clipvil.tasks.navigation_rollout import Guide, Journeys, Place, Teacher
from clipvil.tasks.navigation_settings import NavigationSettings
from clipvil.tasks.navigation_text import Ids
from clipvil.text.instructions import PAD


@dataclass(frozen=True)
class ToldPath:
    """Paths as the speaker sees them: views (B, T, 36, F), actions (B, T, F), zeros where a path stops and behind, and

    mask (B, T) bool, True behind its end.
    """

    views: Tensor
    actions: Tensor
    mask: Tensor


def along(place: Place, journeys: Journeys, teacher: Teacher, steps: int) -> ToldPath:
    """Walk with the teacher and look around: at every viewpoint the 36 views and the way that is taken."""
    simulator, guide = Simulator(place.world), Guide(place.world, journeys, teacher)
    simulator.start(journeys.start, journeys.heading)
    views, actions, behind = [], [], []
    ended = np.zeros(len(journeys), bool)
    agents = torch.arange(len(journeys))
    for _ in range(steps):
        seen = simulator.candidates()
        slots = guide.slots(simulator.viewpoint, seen)
        stops = slots >= seen.count
        candidates = place.candidates(simulator, seen)
        views.append(place.views(simulator))
        # Stopping has no features; those of one who has stopped before are zeros too.
        chosen = candidates[agents, torch.from_numpy(slots)]
        actions.append(chosen.masked_fill(torch.from_numpy(ended | stops).unsqueeze(1), 0.0))
        behind.append(ended.copy())
        simulator.go(np.where(ended | stops, -1, slots))
        ended |= stops
        if ended.all():
            break
    mask = torch.from_numpy(np.stack(behind, 1))
    return ToldPath(torch.stack(views, 1), torch.stack(actions, 1), mask)


class Augmentation:
    """The paths of back-translation: those of a file, or shortest ways drawn in the training houses."""

    def __init__(self, world: World, settings: NavigationSettings, train: Sequence[Episode]) -> None:
        """Raises DataError where there is no path: the houses are too small, or the file's are others."""
        self.world, self.settings = world, settings
        scans = sorted({episode.scan for episode in train})
        self._starts: list[tuple[int, int]] = []
        self._episodes: list[Episode] = []
        if settings.augmented_paths is not None:
            self._read(settings.augmented_paths, set(scans))
            return
        for scan in scans:
            self._starts += _far_pairs(world, scan, settings.min_hops, settings.max_hops)
        if not self._starts:
            raise DataError(
                f"no training house has shortest ways of {settings.min_hops} to {settings.max_hops} doors",
                fix="lower task_settings.min_hops",
            )

    def _read(self, path: str, scans: set[str]) -> None:
        graphs = dict(zip(self.world.scans, self.world.graphs, strict=True))
        found = read_r2r(path, instructions=False)
        self._episodes = [episode for episode in found if episode.scan in scans]
        if not self._episodes:
            raise DataError("holds no path of a training house", file=path)
        for episode in self._episodes:
            try:
                check_path(graphs[episode.scan], episode.path)
            except DataError as error:
                raise DataError(f"path {episode.path_id}: {error}", file=path) from None

    def __len__(self) -> int:
        """How many paths there are."""
        return len(self._episodes or self._starts)

    def draw(self, count: int) -> dict[str, Tensor]:
        """`count` of them as of `encode_paths`, by lot (Python's global generator); drawn ones start at any heading."""
        if self._episodes:
            return encode_paths(self.world, random.choices(self._episodes, k=count))
        paths = []
        for start, goal in random.choices(self._starts, k=count):
            path = [start]
            while path[-1] != goal:
                path.append(int(self.world.next_hop(np.array(path[-1]), np.array(goal))))
            paths.append(path)
        longest = max(map(len, paths))
        return {
            "path": torch.tensor([path + path[-1:] * (longest - len(path)) for path in paths]),
            "path_length": torch.tensor([len(path) for path in paths]),
            "heading": torch.tensor([random.randrange(12) * np.pi / 6 for _ in paths], dtype=torch.float64),
        }


def _far_pairs(world: World, scan: str, least: int, most: int) -> list[tuple[int, int]]:
    """Pairs of viewpoints whose shortest way has so many doors, as numbers of the world."""
    graph = world.graph(scan)
    offset = world.find(scan, graph.viewpoints[int(np.flatnonzero(graph.included)[0])])
    offset -= int(np.flatnonzero(graph.included)[0])
    goals = np.arange(len(graph))
    here = np.repeat(goals[:, None], len(graph), axis=1)
    hops = np.where(graph.next_hop >= 0, 0, -1)
    for _ in range(most):
        there = graph.next_hop[np.maximum(here, 0), goals[None, :]]
        hops += (graph.next_hop >= 0) & (here != goals[None, :])
        here = np.where(there >= 0, there, here)
    pairs = np.argwhere((hops >= least) & (hops <= most) & (here == goals[None, :]))
    return [(offset + int(a), offset + int(b)) for a, b in pairs]


def translated(
    speaker: Speaker,
    place: Place,
    paths: Mapping[str, Tensor],
    words: Ids,
    settings: NavigationSettings,
    noise: Tensor | None,
) -> dict[str, Tensor]:
    """The paths with what the speaker says of them, as a batch of `Navigation`; an unfinished sentence gets its end."""
    device = next(speaker.parameters()).device
    journeys = journeys_of(paths)
    seen = along(place, journeys, "reference", settings.max_steps)
    longest = settings.max_words - 1
    with _quiet(speaker), torch.no_grad():
        context = speaker.encode(seen.views.to(device), seen.actions.to(device), noise)
        said = speaker.say(
            context, seen.mask.to(device), begin=words.begin, end=words.end, unknown=words.unknown, longest=longest
        )
    rows = torch.cat([torch.full_like(said[:, :1], words.begin), said], 1)
    unfinished = ~(rows == words.end).any(1)
    rows[unfinished, -1] = words.end
    return {
        "words": rows,
        "word_count": (rows != PAD).sum(1),
        **{key: value.to(device) for key, value in paths.items()},
    }


class _quiet:
    """Inside, a module is in evaluation mode."""

    def __init__(self, part: nn.Module) -> None:
        self.part, self.was = part, part.training

    def __enter__(self) -> None:
        self.part.eval()

    def __exit__(self, *error: object) -> None:
        self.part.train(self.was)
