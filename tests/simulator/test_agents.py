from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipvil.datasets.r2r import read_r2r
from clipvil.datasets.trajectories import match, read_walks, write_r2r
from clipvil.errors import UsageError
from clipvil.records import Episode
from clipvil.simulator.agents import AGENTS, named_agent, walk
from clipvil.simulator.world import World
from clipvil.tasks.navigation_scores import score_routes
from tests.shared import shared
from tests.simulator.build import square
from tests.simulator.recorded import real_graphs


def _means(agent: str, folder: Path) -> dict[str, float]:
    graphs = real_graphs()
    episodes = read_r2r(shared("data", "r2r", "R2R_val_seen.json"), graphs=graphs)
    world = World(graphs, {episode.scan for episode in episodes})
    write_r2r(walk(world, episodes, named_agent(agent, world, episodes)), folder / "said.json")
    routes = match(read_walks(folder / "said.json"), episodes, graphs, file="said.json")
    scores = score_routes(routes)
    assert len(scores.episodes) == 1021
    return {name: mean for name, (mean, _, _) in scores.means.items()}


def test_the_shortest_path_agent_scores_the_published_values(tmp_path: Path) -> None:
    means = _means("shortest", tmp_path)
    assert means.pop("PL") == pytest.approx(10.1864, abs=5e-5)
    assert means.pop("NE") == means.pop("OE") == 0
    assert means == pytest.approx(dict.fromkeys(("SR", "OSR", "SPL", "nDTW", "sDTW", "CLS"), 1.0))


def test_an_agent_that_stops_at_once_scores_the_published_values(tmp_path: Path) -> None:
    means = _means("stop", tmp_path)
    assert means["PL"] == means["SR"] == means["SPL"] == means["sDTW"] == 0
    assert means["NE"] == means["OE"] == pytest.approx(10.1864, abs=5e-5)
    assert means["nDTW"] == pytest.approx(0.2092, abs=5e-5) and means["CLS"] == pytest.approx(0.1781, abs=5e-5)


def _episodes(*paths: str) -> list[Episode]:
    return [Episode(f"{n}_0", "house", "Go.", tuple(path.split()), path_id=str(n)) for n, path in enumerate(paths)]


def test_the_reference_agent_walks_detours_and_the_oracle_does_not(tmp_path: Path) -> None:
    world, episodes = World(square(tmp_path)), _episodes("sw nw ne se", "se", "far ne nw")
    moves = {
        name: [
            [step[0] for step in steps]
            for steps in walk(world, episodes, named_agent(name, world, episodes), turns=False).values()
        ]
        for name in ("reference", "shortest", "stop")
    }
    assert moves["reference"] == [["sw", "nw", "ne", "se"], ["se"], ["far", "ne", "nw"]]
    assert moves["shortest"] == [["sw", "se"], ["se"], ["far", "ne", "nw"]]
    assert moves["stop"] == [["sw"], ["se"], ["far"]]


def test_turns_are_steps_of_their_own_as_published(tmp_path: Path) -> None:
    world, episodes = World(square(tmp_path)), _episodes("sw se")
    (steps,) = walk(world, episodes, named_agent("shortest", world, episodes)).values()
    degrees = [(name, round(np.degrees(heading)), round(np.degrees(up))) for name, heading, up in steps]
    assert degrees == [("sw", 0, 0), ("sw", 30, 0), ("sw", 60, 0), ("sw", 90, 0), ("se", 90, 0)]


def test_the_random_agent_follows_edges_and_its_seed(tmp_path: Path) -> None:
    graphs = square(tmp_path)
    world, episodes = World(graphs), _episodes(*["sw ne"] * 30)
    first = walk(world, episodes, named_agent("random", world, episodes, seed=3))
    assert first == walk(world, episodes, named_agent("random", world, episodes, seed=3))
    assert first != walk(world, episodes, named_agent("random", world, episodes, seed=4))
    write_r2r(first, tmp_path / "said.json")
    assert len(match(read_walks(tmp_path / "said.json"), episodes, graphs, file="said.json")) == 30


def test_agents_are_known_by_name(tmp_path: Path) -> None:
    world, episodes = World(square(tmp_path)), _episodes("sw")
    for name in AGENTS:
        assert walk(world, episodes, named_agent(name, world, episodes))
    with pytest.raises(UsageError, match="unknown agent 'clever'"):
        named_agent("clever", world, episodes)


def test_an_oracle_that_runs_out_of_steps_ends(tmp_path: Path) -> None:
    world, episodes = World(square(tmp_path)), _episodes("sw nw ne far")
    (steps,) = walk(world, episodes, named_agent("shortest", world, episodes), max_steps=2, turns=False).values()
    assert len(steps) == 3
