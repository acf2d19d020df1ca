from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from clipvil.errors import CheckpointError
from clipvil.training.checkpoint import Checkpoints, load_weights, save_weights
from clipvil.training.optim import create_optimiser
from clipvil.training.recipe import OptimiserChoice
from tests.full_disk import full_disk


def trained(name: str = "adamax", steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    optimiser = create_optimiser(OptimiserChoice(name=name, lr=0.01, momentum=0.5), dict(model.named_parameters()))  # type: ignore[arg-type]
    for _ in range(steps):
        step(model, optimiser)
    return model, optimiser


def step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    model(torch.arange(20.0).view(5, 4).sin()).square().sum().backward()
    optimiser.step()


@pytest.mark.parametrize("name", ["adamax", "adamw", "adam", "sgd"])
def test_training_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    model, optimiser = trained(name)
    Checkpoints(tmp_path).save(3, model, [optimiser], {"position": {"step": 3}})
    fresh, fresh_optimiser = trained(name, steps=0)
    Checkpoints(tmp_path).load(3, fresh, [fresh_optimiser])
    for _ in range(4):
        step(model, optimiser)
        step(fresh, fresh_optimiser)
    for key, value in model.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


def test_two_newest_and_the_best_stay(tmp_path: Path) -> None:
    model, optimiser = trained()
    checkpoints = Checkpoints(tmp_path)
    for number in (10, 20, 30, 40):
        checkpoints.save(number, model, [optimiser], {}, best_step=10)
    assert checkpoints.steps() == [10, 30, 40]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-30", "checkpoint-40"]


def test_what_a_kill_left_is_no_checkpoint_and_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint-7-x.tmp").mkdir()
    (tmp_path / ".checkpoint-5.trash").mkdir()
    (tmp_path / "checkpoint-abc").mkdir()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest() is None
    checkpoints.clean()
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint-abc"]
    assert Checkpoints(tmp_path / "nowhere").newest() is None


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    model, optimiser = trained()
    with pytest.raises(ValueError, match="JSON"):
        Checkpoints(tmp_path).save(1, model, [optimiser], {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x10
    path.write_bytes(bytes(data))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_flip, _cut, _remove])
@pytest.mark.parametrize("file", ["model.safetensors", "optimiser.safetensors", "state.json"])
def test_damage_is_told_and_an_older_one_taken_only_on_request(tmp_path: Path, file: str, damage: object) -> None:
    model, optimiser = trained()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, model, [optimiser], {"k": 1})
    checkpoints.save(2, model, [optimiser], {"k": 2})
    damage(tmp_path / "checkpoint-2" / file)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=r"checkpoint-2.*--allow-older.*step 1"):
        checkpoints.newest()
    found = checkpoints.newest(allow_older=True)
    assert found is not None
    number, state, skipped = found
    assert (number, state["k"]) == (1, 1)
    assert len(skipped) == 1
    assert "checkpoint-2" in skipped[0]
    assert (tmp_path / "damaged-checkpoint-2").is_dir()
    checkpoints.save(2, model, [optimiser], {"k": 3})
    assert checkpoints.check(2)["k"] == 3


def test_the_only_checkpoint_damaged_says_train_again(tmp_path: Path) -> None:
    model, optimiser = trained()
    Checkpoints(tmp_path).save(1, model, [optimiser], {})
    _flip(tmp_path / "checkpoint-1" / "model.safetensors")
    for allow in (False, True):
        with pytest.raises(CheckpointError, match="train again"):
            Checkpoints(tmp_path).newest(allow_older=allow)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    model, optimiser = trained()
    Checkpoints(tmp_path).save(1, model, [optimiser], {})
    state = tmp_path / "checkpoint-1" / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "schema": 99}))
    with pytest.raises(CheckpointError, match="schema 99"):
        Checkpoints(tmp_path).check(1)


def test_weights_of_another_shape_are_one_clear_line(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", nn.Linear(2, 3))
    with pytest.raises(CheckpointError, match="does not fit") as caught:
        load_weights(tmp_path / "w.safetensors", nn.Linear(2, 4))
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="no such file"):
        load_weights(tmp_path / "v.safetensors", nn.Linear(2, 4))
    (tmp_path / "w.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_weights(tmp_path / "w.safetensors", nn.Linear(2, 3))


def test_a_full_disk_names_the_file_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    model = nn.Linear(300, 300)
    optimiser = create_optimiser(OptimiserChoice(lr=0.01), dict(model.named_parameters()))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with full_disk(10_000):
        with pytest.raises(CheckpointError, match=r"checkpoint-3: cannot be written \(.*--resume") as caught:
            checkpoints.save(3, model, [optimiser], {})
        with pytest.raises(CheckpointError, match=r"w\.safetensors: cannot be written \(File too large"):
            save_weights(tmp_path / "w.safetensors", model)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    checkpoints.save(3, model, [optimiser], {})
    assert checkpoints.check(3)["step"] == 3


def test_tied_weights_survive(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

    model, other = Tied(), Tied()
    save_weights(tmp_path / "w.safetensors", model)
    load_weights(tmp_path / "w.safetensors", other)
    assert torch.equal(other.b.weight, model.a.weight)
    assert other.a.weight is other.b.weight
