from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipvil.errors import ClipvilError, UsageError
from clipvil.records import Episode
from clipvil.simulator.environment import NavigationEnvironment, register
from clipvil.simulator.world import World
from tests.simulator.build import square


def _environment(folder: Path, *paths: str, **options: Any) -> NavigationEnvironment:
    episodes = [Episode(f"{n}_0", "house", "Go.", tuple(path.split())) for n, path in enumerate(paths)]
    return NavigationEnvironment(World(square(folder)), episodes, **options)


def test_walking_a_path_with_the_published_rewards(tmp_path: Path) -> None:
    environment = _environment(tmp_path, "sw se ne far")
    seen, info = environment.reset(options={"episode": 0})
    assert seen["places"] == ["nw", "se"] and seen["views"].tolist() == [12, 15] and seen["instruction"] == "Go."
    assert np.allclose(seen["headings"], [0, np.pi / 2]) and seen["distances"].tolist() == [2, 2]
    assert info["next"] in ("nw", "se") and info["distance"] == pytest.approx(4 + np.sqrt(40))
    rewards = []
    for place in ("se", "sw", "se", "ne", "far"):
        seen, reward, terminated, truncated, info = environment.step(seen["places"].index(place))
        rewards.append(reward)
        assert seen["viewpoint"] == place and not terminated and not truncated
    assert rewards == [1, -1, 1, 1, 1] and info["distance"] == 0 and info["next"] == "far"
    _, reward, terminated, truncated, _ = environment.step(-1)
    assert (reward, terminated, truncated) == (2.0, True, False)
    with pytest.raises(UsageError, match="call reset first"):
        environment.step(0)


def test_a_stop_too_far_away_and_too_many_steps(tmp_path: Path) -> None:
    environment = _environment(tmp_path, "sw far", max_steps=2)
    environment.reset()
    assert environment.step(-1)[1:4] == (-2.0, True, False)
    environment.reset()
    environment.step(0)
    assert environment.step(0)[2:4] == (False, True)


def test_the_view_of_the_original_simulator(tmp_path: Path) -> None:
    environment = _environment(tmp_path, "sw ne", choice="in_view")
    seen, _ = environment.reset()
    assert seen["places"] == ["sw", "nw"]
    seen, reward, *_ = environment.step((1, 0.01, -5))
    assert seen["viewpoint"] == "nw" and seen["view"] == 1 and reward == 1
    with pytest.raises(UsageError, match="location 5 is not in its list"):
        environment.step((5, 0, 0))
    with pytest.raises(UsageError, match="an action in view is"):
        environment.step(1)
    assert environment.step(None)[2] is True


def test_a_test_episode_has_no_goal_and_no_reward(tmp_path: Path) -> None:
    environment = _environment(tmp_path, "sw")
    _, info = environment.reset()
    assert "distance" not in info and environment.step(0)[1] == 0 and environment.step(-1)[1] == 0


def test_episodes_are_drawn_by_the_seed(tmp_path: Path) -> None:
    environment = _environment(tmp_path, *["sw ne", "ne sw", "se nw", "nw se"] * 5)
    drawn = [environment.reset(seed=seed)[1]["episode_id"] for seed in (1, 2, 3, 1)]
    assert drawn[0] == drawn[3] and len(set(drawn)) > 1
    with pytest.raises(UsageError, match="there is no episode 20"):
        environment.reset(options={"episode": 20})


def test_wrong_use_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown choice 'all'"):
        _environment(tmp_path, "sw ne", choice="all")
    with pytest.raises(UsageError, match="at least one episode"):
        _environment(tmp_path)


@pytest.mark.parametrize("action", ["x", 0.5, float("nan"), float("inf"), [0, 1], {}])
def test_actions_that_are_no_numbers_are_named_and_change_nothing(tmp_path: Path, action: Any) -> None:
    environment = _environment(tmp_path, "sw ne")
    before, _ = environment.reset()
    with pytest.raises(UsageError, match="a panoramic action is a whole number"):
        environment.step(action)
    assert environment.observation()["viewpoint"] == before["viewpoint"]
    with pytest.raises(UsageError, match="an episode is a whole number"):
        environment.reset(options={"episode": action})
    with pytest.raises(UsageError, match=r"a location is a whole number|an action in view is"):
        other = _environment(tmp_path / "other", "sw ne", choice="in_view")
        other.reset()
        other.step((action, 0, 0))
    assert environment.step(np.int64(0))[0]["viewpoint"] == "nw"


def test_gymnasium_is_not_needed_but_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ClipvilError, match="gymnasium is not installed"):
        register()


def test_gymnasium_makes_it(tmp_path: Path) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    ours = _environment(tmp_path, "sw ne")
    made = gymnasium.make(register(), world=ours.world, episodes=ours.episodes)
    assert made.reset(seed=0)[0]["places"] == ["nw", "se"]
