"""Sharded parameters in two processes on the CPU (FSDP2 over gloo): one process's training, checkpoints and all."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from clipvil.errors import UsageError
from clipvil.training import sharding
from clipvil.training.checkpoint import OPTIMISER, WEIGHTS
from clipvil.training.losses import LossModule
from clipvil.training.run_files import read_predictions
from tests.training import distributed_pictures, sharded
from tests.training.launching import SHARDED, launch, write_plan
from tests.training.picture_world import picture_recipe, write_pictures
from tests.training.test_distributed_pictures import curve
from tests.training.toy import ToyTask

# Micro-batches whose terms count differently many questions, dropout, two optimisers of which one has no state.
TERMS = {"task_settings__terms": "true", "training__evaluate_every": "5", "schedule__steps": "10"}
# A mean as the loss, which only a plain tensor says; our own optimiser; blocks computed twice; both kinds of clipping.
OTHER = {
    "schedule__steps": "3", "optimiser__name": "bert_adamw", "trunk__optimiser": "{name: adamax, lr: 0.001}",
    "trunk__checkpointing": "true", "training__grad_clip_value": "0.01", "training__mixed_precision": "bf16",
}  # fmt: skip
# A ViT, whose blocks run once a shape of picture, started from a run that is trained first, sharded as well.
VIT = {
    "schedule__steps": "3", "encoder__name": "timm/vit_tiny_patch16_224:random", "trunk__optimiser__lr": "0.001",
}  # fmt: skip
RUNS = {"terms": TERMS, "other": OTHER}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one/` by one process, `two/` sharded over two: ten updates, three others, and the first five of each resumed."""
    root = tmp_path_factory.mktemp("sharded")
    write_pictures(root / "pictures")

    plan = partial(write_plan, root)

    def half(name: str, way: str) -> Path:
        shutil.copytree(root / name / "terms", root / way)
        shutil.rmtree(root / way / "checkpoints" / "checkpoint-10")
        (root / way / "result.json").unlink()
        return plan(way, TERMS, resume=True)

    first = root / "first.yaml"
    first.write_text(picture_recipe(**VIT).to_yaml())
    for run, changes in {**RUNS, "vit": {**VIT, "init__recipe": str(first)}}.items():
        distributed_pictures.main(plan(f"one/{run}", changes))
        launch(sharded.__name__, plan(f"two/{run}", changes), processes=2, kind=SHARDED)
    launch(sharded.__name__, half("one", "one-two"), processes=2, kind=SHARDED)
    distributed_pictures.main(half("two", "two-one"))
    return root


def test_sharded_training_has_the_curve_of_one_process(runs: Path) -> None:
    keys = ("loss", "loss_all", "loss_left", "grad_norm", "lr", "lr_trunk")
    one, two = curve(runs / "one" / "terms", *keys), curve(runs / "two" / "terms", *keys)
    assert len(one) == 10
    assert sum(line[0] for line in one[-3:]) / 3 < 0.6 * one[0][0]
    for mine, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(mine, rel=2e-4, abs=1e-5)


def test_each_process_holds_its_part_only(runs: Path) -> None:
    held = [[int(n) for n in (runs / f"two-terms-10.held{rank}").read_text().split()[:3]] for rank in (0, 1)]
    (whole, first, blocks), (_, second, _) = held
    assert first + second == whole and 0.45 < first / whole < 0.55
    assert blocks > 3  # the residual blocks of the encoder


def test_other_losses_optimisers_and_recomputed_blocks(runs: Path) -> None:
    one, two = (curve(runs / name / "other", "loss", "grad_norm") for name in ("one", "two"))
    assert len(one) == 3
    for mine, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(mine, rel=2e-2)  # bf16


@pytest.mark.filterwarnings("ignore:.*random:UserWarning")
def test_a_vit_is_sharded_and_so_is_the_run_that_it_starts_from(runs: Path) -> None:
    for phase in ("vit/initial", "vit"):
        one, two = (curve(runs / name / phase, "loss", "grad_norm") for name in ("one", "two"))
        assert len(one) == 3
        for mine, theirs in zip(one, two, strict=True):
            assert theirs == pytest.approx(mine, rel=2e-3)
    held = [(runs / f"two-vit-3.held{rank}").read_text().split("\n")[:2] for rank in (0, 1)]
    for mine, theirs in zip(*held, strict=True):  # of the first phase, and of the second
        (whole, first, _), (_, second, _) = ([int(n) for n in line.split()] for line in (mine, theirs))
        assert first + second == whole and 0.45 < first / whole < 0.55
    begun, done = (load_file(runs / "two" / phase / "best.safetensors") for phase in ("vit/initial", "vit"))
    moved = [
        name
        for name in begun
        if name.startswith("trunk.module.trunk.blocks") and not torch.equal(begun[name], done[name])
    ]
    assert moved
    result = json.loads((runs / "two" / "vit" / "result.json").read_text())
    assert result["init"]["taken"] == "everything"


@pytest.mark.parametrize("file", [WEIGHTS, OPTIMISER])
@pytest.mark.parametrize("run", ["terms", "other"])
def test_a_checkpoint_is_the_one_that_a_single_process_writes(file: str, run: str, runs: Path) -> None:
    step = {"terms": 10, "other": 3}[run]
    one, two = (load_file(runs / n / run / "checkpoints" / f"checkpoint-{step}" / file) for n in ("one", "two"))
    assert {name: (t.shape, t.dtype) for name, t in two.items()} == {n: (t.shape, t.dtype) for n, t in one.items()}
    assert len(one) > 4
    if run == "terms":
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=2e-4)
    states = [
        json.loads((runs / n / run / "checkpoints" / f"checkpoint-{step}" / "state.json").read_text())
        for n in ("one", "two")
    ]
    assert states[0].keys() == states[1].keys()
    best = [load_file(runs / n / run / "best.safetensors") for n in ("one", "two")]
    assert {name: t.shape for name, t in best[0].items()} == {name: t.shape for name, t in best[1].items()}


@pytest.mark.parametrize("way", ["two-one", "one-two"])
def test_a_run_goes_on_sharded_or_not(way: str, runs: Path) -> None:
    undisturbed, changing = (curve(runs / name, "loss", "grad_norm") for name in ("one/terms", way))
    assert len(changing) == 10
    for mine, theirs in zip(undisturbed, changing, strict=True):
        assert theirs == pytest.approx(mine, rel=2e-4, abs=1e-5)
    processes = json.loads((runs / way / "result.json").read_text())["hardware"]["processes"]
    assert processes == {"two-one": 1, "one-two": 2}[way]


def test_each_record_is_judged_once_and_alike(runs: Path) -> None:
    asked = [record.question_id for record in write_pictures(runs / "pictures")["val"].records]
    one, two = ([p for p, _ in read_predictions(runs / name / "terms", "val")] for name in ("one", "two"))
    assert [prediction.record_id for prediction in two] == asked
    assert [prediction.output for prediction in two] == [prediction.output for prediction in one]


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("FSDP_VERSION", "1", "--fsdp_version 2"),
        ("FSDP_OFFLOAD_PARAMS", "true", "offload"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "trunk.checkpointing"),
        ("FSDP_AUTO_WRAP_POLICY", "SIZE_BASED_WRAP", "whole blocks"),
        ("FSDP_IGNORED_MODULES", "head", "ignored"),
    ],
)
def test_flags_that_would_not_be_kept_are_refused(
    flag: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    sharding.check(Accelerator(cpu=True))
    monkeypatch.setenv(flag, value)
    with pytest.raises(UsageError, match=said):
        sharding.check(Accelerator(cpu=True))


def test_a_parameter_without_dimensions_is_refused_by_name() -> None:
    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(UsageError, match="'scale' is a single number"):
        sharding.ShardedLosses(LossModule(ToyTask(), model), Accelerator(cpu=True))


def test_blocks_that_run_differently_often_belong_to_the_rest() -> None:
    def blocks(**said: bool) -> int:
        task, model = ToyTask(), nn.ModuleDict({"steady": _Blocks(), "trunk": _Blocks()})
        task.runs_vary = said.get("task", False)  # type: ignore[attr-defined]
        model["trunk"].runs_vary = said.get("trunk", False)
        losses = LossModule(task, model)
        return len(sharding._units(losses, losses, None))

    assert (blocks(), blocks(trunk=True), blocks(task=True)) == (4, 2, 0)
    losses = LossModule(ToyTask(), _Blocks())
    assert len(sharding._units(losses, losses, ["Bilinear"])) == 2
    with pytest.raises(UsageError, match="no layer of class Conv9d"):
        sharding._units(losses, losses, ["Conv9d"])
    tied = _Blocks()
    tied.outside = tied.blocks[0].inner  # type: ignore[assignment]
    losses = LossModule(ToyTask(), tied)
    assert len(sharding._units(losses, losses, None)) == 1


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Bilinear(2, 2, 2)


class _Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block() for _ in range(2))
