"""What navigation is worth without a model: the walks that need none, from standing still to the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clipvil.compare.results import Baseline, Interval
from clipvil.records import Episode
from clipvil.simulator.agents import Policy, named_agent, walk
from clipvil.simulator.graph import Graph
from clipvil.simulator.world import World
from clipvil.tasks.base import Prediction, Score
from clipvil.tasks.navigation_results import score_walks

AGENTS = {
    "shortest": "shortest-path oracle",
    "random": "random walker",
    "stop": "stops at once",
}
"""Agents of `simulator.agents`, and what a comparison calls them."""


def navigation_baselines(
    task: str, split: str, episodes: Sequence[Episode], graphs: Mapping[str, Graph], shortest: str = "graph"
) -> list[Baseline]:
    """A row an agent, with intervals over paths. The random walker draws 5 moves with seed 0."""
    world = World(graphs, dict.fromkeys(episode.scan for episode in episodes))
    out = []
    for name, title in AGENTS.items():
        policy: Policy = named_agent(name, world, episodes)
        walks = walk(world, episodes, policy, turns=False)
        said = [
            Prediction(e.episode_id, e.image_id, " ".join(step[0] for step in walks[e.episode_id]), 1.0)
            for e in episodes
        ]
        scores = score_walks(said, episodes, graphs, shortest=shortest)
        breakdowns = {
            heading: {group: _interval(score) for group, score in groups.items()}
            for heading, groups in scores.breakdowns.items()
        }
        out.append(Baseline(name=title, task=task, split=split, mean=_interval(scores.overall), breakdowns=breakdowns))
    return out


def _interval(score: Score) -> Interval:
    return Interval(value=score.value, n=score.n, low=score.low, high=score.high)
