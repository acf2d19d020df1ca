"""Rollouts on the recorded graphs: every observation, reward, return and loss of the original agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from clipvil.convert import envdrop as source
from clipvil.features.panorama import PanoramaFeatures
from clipvil.models.envdrop import EnvDrop
from clipvil.simulator.agents import written
from clipvil.simulator.simulator import Simulator
from clipvil.simulator.world import World
from clipvil.tasks.navigation_losses import actor_critic_loss, imitation_loss
from clipvil.tasks.navigation_rollout import (
    Choose,
    Guide,
    Journeys,
    Place,
    Rollout,
    follow_best,
    follow_teacher,
    rollout,
)
from tests.models.test_envdrop import follower
from tests.shared import shared
from tests.simulator.build import square
from tests.simulator.recorded import fixture, fixture_graphs


class Recorded:
    """The toy data set of the recordings: six episodes in two real houses."""

    def __init__(self) -> None:
        self.io = load_file(shared("fixtures", "navigation", "a2c_rollout.safetensors"))
        self.said: dict[str, Any] = fixture("a2c_episodes.json")
        episodes = self.said["episodes"]
        self.world = World(fixture_graphs(), [row["scan"] for row in self.said["feature_rows"]])
        values = np.zeros((len(self.world), 36, 12), np.float32)
        for row, seen in zip(self.said["feature_rows"], self.io["in/view_features"], strict=True):
            values[self.world.find(row["scan"], row["viewpoint"])] = seen.numpy()
        self.place = Place(self.world, PanoramaFeatures(values, angle_size=8))
        ends = [[self.world.find(e["scan"], e["start"]), self.world.find(e["scan"], e["goal"])] for e in episodes]
        self.journeys = Journeys(np.array([e["heading"] for e in episodes]), np.array(ends), np.full(len(episodes), 2))

    def model(self) -> EnvDrop:
        return follower(self.io)

    def walk(self, model: EnvDrop, choose: Choose, steps: int = 6, **options: Any) -> Rollout:
        instruction = model.encode(self.io["a2c/instruction_ids"], self.io["a2c/lengths"])
        return rollout(model, self.place, self.journeys, instruction, choose, steps=steps, **options)

    def forced(self, kind: str) -> Choose:
        """Do what was recorded, step by step."""
        slots = iter(self.io[f"{kind}/action"])
        return lambda logits, teacher: next(slots)

    def gradients(self, kind: str, model: EnvDrop) -> None:
        for name, parameter in model.named_parameters():
            expected = self.io.get(f"{kind}/grad/" + source.source_name(name).replace(".", "/", 1))
            if expected is not None:
                torch.testing.assert_close(parameter.grad, expected, rtol=0.0, atol=1e-4)


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded()


def check_walk(recorded: Recorded, kind: str, found: Rollout) -> None:
    io, active = recorded.io, recorded.io[f"{kind}/active"].bool()
    assert len(found) == len(active)
    assert np.array_equal(np.stack(found.active), active.numpy())
    assert np.array_equal(np.stack(found.view)[:-1], io[f"{kind}/view_index"].numpy())
    assert np.array_equal(np.stack(found.moved), io[f"{kind}/env_action"].numpy())
    assert np.array_equal(np.stack(found.teacher), io[f"{kind}/teacher_slot"].numpy())
    assert np.array_equal(np.stack(found.rewards), io[f"{kind}/rewards"].numpy())
    np.testing.assert_allclose(np.stack(found.distance)[1:], io[f"{kind}/distance_after"].numpy(), atol=1e-5)
    for step, logits in enumerate(found.logits):
        real = (torch.arange(logits.shape[1]) < io[f"{kind}/candidate_lengths"][step].unsqueeze(1)).logical_and(
            active[step].unsqueeze(1)
        )
        torch.testing.assert_close(
            logits[real], io[f"{kind}/logits"][step][:, : logits.shape[1]][real], rtol=0.0, atol=1e-4
        )
        torch.testing.assert_close(
            found.hidden[step][active[step]], io[f"{kind}/h"][step][active[step]], rtol=0.0, atol=1e-4
        )
    for row, steps in enumerate(recorded.said[kind]["trajectories"]):
        places, views = [p[row] for p in found.viewpoint], [v[row] for v in found.view]
        ours = written(recorded.world, places, views)
        assert [step[0] for step in ours] == [step[0] for step in steps]
        np.testing.assert_allclose([step[1:] for step in ours], [step[1:] for step in steps], atol=1e-6)


def test_greedy_walk_is_the_recorded_one(recorded: Recorded) -> None:
    with torch.no_grad():
        check_walk(recorded, "greedy", recorded.walk(recorded.model(), follow_best))


def test_imitation_loss_and_gradients_are_the_recorded_ones(recorded: Recorded) -> None:
    model = recorded.model()
    found = recorded.walk(model, follow_teacher)
    check_walk(recorded, "teacher", found)
    loss = 0.2 * imitation_loss(found)
    assert float(loss) == pytest.approx(float(recorded.io["teacher/loss"]), rel=1e-4)
    loss.backward()
    recorded.gradients("teacher", model)


def test_actor_critic_loss_and_gradients_are_the_recorded_ones(recorded: Recorded) -> None:
    io, model = recorded.io, recorded.model()
    found = recorded.walk(model, recorded.forced("a2c"), bootstrap=True)
    check_walk(recorded, "a2c", found)
    assert found.last_hidden is not None
    unfinished = ~io["a2c/ended"].bool()
    torch.testing.assert_close(found.last_hidden[unfinished], io["a2c/last_h"][unfinished], rtol=0.0, atol=1e-4)
    losses = {kind: actor_critic_loss(model, found, normalise=kind) for kind in ("total", "batch", "none")}
    for kind, value in losses.items():
        assert float(value.loss) == pytest.approx(float(io[f"a2c/loss_{kind}"]), rel=1e-4)
    parts: dict[str, Tensor] = vars(losses["total"])
    for name in ("policy", "value", "entropy"):
        torch.testing.assert_close(parts[name], io[f"a2c/{name}_term"], rtol=1e-4, atol=1e-4)
    active = io["a2c/active"].bool()
    torch.testing.assert_close(parts["returns"][active], io["a2c/returns"][active], rtol=0.0, atol=1e-4)
    losses["total"].loss.backward()
    recorded.gradients("a2c", model)


def test_reference_teacher_follows_the_path_where_it_comes_by_twice(tmp_path: Path) -> None:
    world = World(square(tmp_path))
    names = ["sw", "se", "ne", "nw", "sw", "se"]
    path = np.array([[world.find("house", name) for name in names]])
    journeys = Journeys(np.zeros(1), path, np.array([6]))
    simulator, guide = Simulator(world), Guide(world, journeys, "reference")
    simulator.start(journeys.start)
    walked = ["sw"]
    for _ in range(8):
        seen = simulator.candidates()
        slot = guide.slots(simulator.viewpoint, seen)
        if slot[0] == seen.count[0]:
            break
        simulator.go(slot)
        walked.append(world.name(int(simulator.viewpoint[0]))[1])
    assert walked == names


def test_reference_teacher_leads_back_from_beside_the_path(tmp_path: Path) -> None:
    world = World(square(tmp_path))
    path = np.array([[world.find("house", name) for name in ("sw", "se", "ne", "far")]])
    journeys = Journeys(np.zeros(1), path, np.array([4]))
    simulator, guide = Simulator(world), Guide(world, journeys, "reference")
    simulator.start([world.find("house", "nw")])
    seen = simulator.candidates()
    assert world.name(int(seen.viewpoint[0, guide.slots(simulator.viewpoint, seen)[0]]))[1] == "ne"
