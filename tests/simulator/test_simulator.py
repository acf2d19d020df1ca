from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipvil.errors import ClipvilError, UsageError
from clipvil.simulator.simulator import STOP, Simulator, camera_steps
from clipvil.simulator.world import World
from tests.simulator.build import square
from tests.simulator.recorded import fixture, fixture_graphs


def test_recorded_rollouts_step_by_step() -> None:
    runs = fixture("simulator_rollouts.json")["rollouts"]
    world = World(fixture_graphs(), sorted({run["scan"] for run in runs}))
    simulator = Simulator(world)
    simulator.start_at(*([run[name] for run in runs] for name in ("scan", "viewpoint", "heading", "elevation")))
    for step in range(21):
        seen = simulator.locations()
        for agent, run in enumerate(runs):
            viewpoint, view, heading, elevation, listed = run["states"][step]
            assert simulator.state(agent) == (run["scan"], viewpoint, view)
            assert simulator.heading[agent] == pytest.approx(heading, abs=1e-9)
            assert simulator.elevation[agent] == pytest.approx(elevation, abs=1e-9)
            used = seen.real[agent]
            assert int(used.sum()) == len(listed) + 1
            first = world.offset[world.scans.index(run["scan"])]
            assert (seen.viewpoint[agent, used][1:] - first).tolist() == [entry[0] for entry in listed]
            found = np.stack([seen.heading, seen.elevation, seen.distance], -1)[agent, used][1:]
            assert np.allclose(found, np.array([entry[1:] for entry in listed]).reshape(-1, 3), atol=1e-6, rtol=0)
        if step < 20:
            simulator.act(*np.array([run["actions"][step] for run in runs]).T)
    assert (simulator.steps == 20).all()


def test_recorded_faults_fail() -> None:
    for case in fixture("simulator_rollouts.json")["must_fail"]:
        simulator = Simulator(World(fixture_graphs(), [case["scan"]]))
        with pytest.raises(ClipvilError):
            simulator.start_at([case["scan"]], [case["viewpoint"]], case.get("heading", 0), case.get("elevation", 0))
            simulator.act([case["index"]])


def test_going_to_a_candidate_ends_in_the_view_that_looks_at_it(tmp_path: Path) -> None:
    world = World(square(tmp_path))
    simulator = Simulator(world)
    simulator.start_at(["house"] * 2, ["sw", "ne"], [0.0, np.pi])
    first = simulator.candidates()
    names = [[world.name(v)[1] for v in row[used]] for row, used in zip(first.viewpoint, first.real, strict=True)]
    assert names == [["nw", "se"], ["far", "se", "nw"]]
    # North and east of the south-west corner; the second agent looks south, so north lies half a turn to its left.
    assert first.view[0, :2].tolist() == [12, 15]
    assert np.allclose(first.heading[0, :2], [0, np.pi / 2])
    assert np.allclose(first.heading[1, :3], [-np.pi, 0, np.pi / 2])
    simulator.go([1, STOP])
    assert simulator.state(0) == ("house", "se", 15) and simulator.state(1) == ("house", "ne", 18)
    simulator.go([1, 0])
    assert simulator.state(1) == ("house", "far", 24)


def test_an_action_that_is_not_listed_changes_nothing(tmp_path: Path) -> None:
    simulator = Simulator(World(square(tmp_path)))
    simulator.start_at(["house"] * 3, ["sw", "se", "nw"])
    before = [simulator.state(agent) for agent in range(3)]
    with pytest.raises(UsageError, match="agent 1: location 7 is not in its list of 2"):
        simulator.act([0, 7, 0])
    with pytest.raises(UsageError, match="agent 2: candidate 2 is not in its list of 2"):
        simulator.go([0, 0, 2])
    with pytest.raises(UsageError, match="agent 0: candidate -2"):
        simulator.go([-2, 0, 0])
    assert [simulator.state(agent) for agent in range(3)] == before and not simulator.steps.any()


def test_an_episode_cannot_start_outside(tmp_path: Path) -> None:
    world = World(square(tmp_path))
    simulator = Simulator(world)
    with pytest.raises(UsageError, match="viewpoint off is not included"):
        simulator.start([world.graphs[0].index["off"]])
    with pytest.raises(UsageError, match="numbers from 0 to 5"):
        simulator.start([6])
    with pytest.raises(UsageError, match="finite"):
        simulator.start([0], heading=float("nan"))


def test_camera_steps_go_right_only() -> None:
    assert camera_steps([12, 0, 13, 35], [12, 25, 12, 0]).tolist() == [0, 3, 11, 3]


def test_turns_that_are_no_numbers_change_nothing(tmp_path: Path) -> None:
    simulator = Simulator(World(square(tmp_path)))
    simulator.start([0, 0])
    before = (simulator.viewpoint.tolist(), simulator.view.tolist())
    for turns in (([0.0, np.nan], 0.0), (0.0, np.nan)):
        with pytest.raises(UsageError, match="changes of heading and elevation must be numbers"):
            simulator.act([1, 1], *turns)
    assert (simulator.viewpoint.tolist(), simulator.view.tolist()) == before
    simulator.act([0, 0], [np.inf, -np.inf])
    assert simulator.view.tolist() == [13, 23]
