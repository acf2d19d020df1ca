"""Trunks: weights left alone, padding that does not bleed, BatchNorm policies, checkpointing."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.encoders.registry import create_encoder
from clipvil.errors import DataError, EncoderError, RecipeError
from clipvil.models.clip_vil_p import build
from clipvil.models.grid_trunk import GridTrunk
from clipvil.models.picture_model import PictureModel
from clipvil.models.trunk_checkpointing import checkpoint_blocks
from clipvil.models.trunk_norms import SyncedBatchNorm, norms

ENCODERS = ("mini/contrastive", "timm/vit_tiny_patch16_224:random", "torchvision/resnet18:random")


def encoder(name: str) -> ModuleEncoder:
    with pytest.warns() if name.endswith(":random") else _quiet():
        return create_encoder(name)  # type: ignore[return-value]


class _quiet:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("name", ENCODERS)
def test_building_a_model_leaves_the_encoder_alone(name: str) -> None:
    """The original ran BERT's initialiser over the encoder, which destroyed its ViTs."""
    own = encoder(name)
    before = {key: value.clone() for key, value in own.module.state_dict().items()}
    fingerprint = own.fingerprint()
    head = build({"preset": "mini"}, words=20, channels=own.grid_channels, answers=3)
    PictureModel(GridTrunk(own), head, own.preprocess)
    after = own.module.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    own._fingerprint = None
    assert own.fingerprint() == fingerprint


def test_position_embeddings_of_another_size_are_resampled() -> None:
    """The original ran its ViTs with zeros in their place."""
    own = encoder("open_clip/ViT-S-32-alt:random")
    trunk = GridTrunk(own).eval()
    pixels = torch.randn(1, 3, 32, 96, generator=torch.Generator().manual_seed(0))
    cells, _, shapes = trunk(pixels)
    assert shapes.tolist() == [[1, 3]]
    assert torch.allclose(cells[0], own.encode(pixels).grid[0].flatten(1).t(), atol=1e-5)
    with torch.no_grad():
        own.module.visual.positional_embedding.zero_()
    assert not torch.allclose(trunk(pixels)[0], cells, atol=1e-3)
    # And they learn at that size.
    trunk(pixels)[0].sum().backward()
    gradient = own.module.visual.positional_embedding.grad
    assert gradient is not None and bool((gradient.abs().sum(dim=1) > 0).all())


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("training", [False, True])
def test_padding_does_not_reach_a_picture(name: str, training: bool) -> None:
    trunk = GridTrunk(encoder(name)).train(training)
    stride = trunk.stride
    pixels = torch.randn(3, 3, 3 * stride, 4 * stride, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 3 * stride, 4 * stride, dtype=torch.bool)
    mask[0, 2 * stride :] = False
    mask[1, :, : 2 * stride] = False
    cells, real, shapes = trunk(pixels, mask)
    assert real is not None and shapes.tolist() == [[2, 4], [3, 2], [3, 4]] and real.sum(dim=1).tolist() == [8, 6, 12]
    for row, cut in enumerate((pixels[:1, :, : 2 * stride], pixels[1:2, :, :, 2 * stride :], pixels[2:])):
        alone, nothing, _ = trunk(cut)
        assert nothing is None
        assert torch.allclose(cells[row, : alone.shape[1]], alone[0], atol=2e-5)
    whole, _, _ = trunk(pixels)
    assert not torch.allclose(whole[0, :8], cells[0, :8], atol=1e-3), "the test's padding changes nothing anyway"


def test_a_rectangle_is_rounded_outwards_to_cells() -> None:
    trunk = GridTrunk(encoder("mini/contrastive"), trained=False)
    stride = trunk.stride
    mask = torch.zeros(1, 4 * stride, 4 * stride, dtype=torch.bool)
    mask[0, stride + 1 : 2 * stride + 1, 3 : 2 * stride] = True
    _, _, shapes = trunk(torch.zeros(1, 3, 4 * stride, 4 * stride), mask)
    assert shapes.tolist() == [[2, 2]]
    with pytest.raises(DataError, match="without a single pixel"):
        trunk(torch.zeros(1, 3, 4 * stride, 4 * stride), torch.zeros_like(mask))
    with pytest.raises(DataError, match="must be"):
        trunk(torch.zeros(1, 3, 4 * stride, 4 * stride), mask[:, 1:])


@pytest.mark.parametrize("name", ENCODERS)
def test_what_wants_a_gradient_gets_one(name: str) -> None:
    trunk = GridTrunk(encoder(name), norm="per_device").train()
    trunk(torch.randn(2, 3, 2 * trunk.stride, 3 * trunk.stride))[0].square().mean().backward()
    for key, parameter in trunk.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
    assert any(parameter.requires_grad for parameter in trunk.parameters())


def test_norm_policies() -> None:
    pixels = torch.randn(4, 3, 64, 64) + 1
    for trained, norm, moves in ((True, "frozen", False), (True, "per_device", True), (False, "frozen", False),
                                 (False, "per_device", True), (True, "sync", True)):  # fmt: skip
        trunk = GridTrunk(encoder("mini/contrastive"), trained=trained, norm=norm).train()  # type: ignore[arg-type]
        layer = next(norms(trunk.module))
        before = layer.running_mean.clone()
        out = trunk(pixels)[0]
        assert torch.equal(layer.running_mean, before) != moves, (trained, norm)
        assert out.requires_grad == trained
        assert any(p.requires_grad for p in layer.parameters()) == (trained and norm != "frozen")
        trunk.eval()
        before = layer.running_mean.clone()
        trunk(pixels)
        assert torch.equal(layer.running_mean, before)
    with pytest.raises(RecipeError, match="frozen, sync, per_device"):
        GridTrunk(encoder("mini/contrastive"), norm="thawed")  # type: ignore[arg-type]


def test_sync_refuses_networks_whose_norms_do_more() -> None:
    with pytest.raises(EncoderError, match="BatchNormAct2d"):
        GridTrunk(encoder("timm/efficientnet_lite0:random"), norm="sync")


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("norm", ["frozen", "per_device"])
def test_checkpointing_changes_no_gradient_and_no_statistic(name: str, norm: str) -> None:
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 64, 96, dtype=torch.bool)
    mask[0, 32:] = False
    found = []
    for checkpointing in (False, True):
        trunk = GridTrunk(encoder(name), norm=norm, checkpointing=checkpointing).train()  # type: ignore[arg-type]
        # Two passes before the first way back: each block must find its own picture's padding again.
        first, second = trunk(pixels, mask)[0], trunk(pixels)[0]
        (first.square().mean() + second.square().mean()).backward()
        gradients = {key: p.grad for key, p in trunk.named_parameters() if p.grad is not None}
        found.append((gradients, dict(trunk.named_buffers())))
    assert found[0][0].keys() == found[1][0].keys()
    for kind in (0, 1):
        for key, value in found[0][kind].items():
            assert torch.allclose(value, found[1][kind][key], rtol=1e-4, atol=1e-6), key


def test_blocks_are_found_in_any_network() -> None:
    for name, count in (
        ("mini/contrastive", 6),
        ("timm/vit_tiny_patch16_224:random", 12),
        ("torchvision/resnet18:random", 8),
    ):
        trunk = GridTrunk(encoder(name))
        assert checkpoint_blocks(trunk.module, trunk._recompute) == count


_SYNC = """
import sys, torch, torch.distributed as dist
from torch import nn
from clipvil.models.trunk_norms import SyncedBatchNorm
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
x = torch.load(f"{folder}/x.pt", weights_only=True)[rank * 2 : rank * 2 + 2].requires_grad_()
torch.manual_seed(0)
layer = SyncedBatchNorm(3)
out = layer(x)
(out ** 3).sum().backward()
torch.save([out.detach(), x.grad, layer.running_mean, layer.running_var], f"{folder}/{rank}.pt")
dist.barrier()
dist.destroy_process_group()  # a process that ends with gloo's threads running is aborted at times
"""


def test_sync_over_two_processes_is_batch_norm_over_the_whole_batch(tmp_path: Path) -> None:
    x = torch.randn(4, 3, 5, 5) * 2 + 1
    torch.save(x, tmp_path / "x.pt")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    commands = [[sys.executable, "-c", _SYNC, str(rank), str(tmp_path)] for rank in (0, 1)]
    running = [subprocess.Popen(command, env=environment) for command in commands]
    assert [process.wait(120) for process in running] == [0, 0]
    whole, plain = x.clone().requires_grad_(), nn.BatchNorm2d(3)
    out = plain(whole)
    (out**3).sum().backward()
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert torch.allclose(torch.cat([part[0] for part in parts]), out, atol=1e-5)
    assert whole.grad is not None
    assert torch.allclose(torch.cat([part[1] for part in parts]), whole.grad, atol=1e-3)
    for part in parts:
        assert torch.allclose(part[2], plain.running_mean, atol=1e-6)
        assert torch.allclose(part[3], plain.running_var, atol=1e-5)


def test_one_process_needs_no_other() -> None:
    layer = SyncedBatchNorm(3)
    plain = copy.deepcopy(layer)
    plain.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
    x = torch.randn(4, 3, 2, 2)
    assert torch.equal(layer(x), plain(x))
