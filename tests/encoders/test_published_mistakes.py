"""The mistakes that published extractors made, each by name: none happens here unless it is asked for.

Sources: clip-vil issues 13 and 20 (positions), open_clip issue 771 and timm issue 2031 (QuickGELU), detectron2's BGR
default, pytorch-grad-cam's CLIP example (mean and std of 0.5).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.encoders.positions import PositionTable, resample_table
from clipvil.encoders.quickgelu import guard_local_file, has_quickgelu
from clipvil.encoders.registry import create_encoder
from clipvil.errors import EncoderError
from clipvil.images.normalise import normalise
from tests.encoders.zoo import IDS, TOKENS, VIT, write_open_clip

Built = Callable[[str], ModuleEncoder]
Build = Callable[..., ModuleEncoder]
Noise = Callable[..., Tensor]
WITH_POSITIONS = (*TOKENS, "open_clip-resnet")


def ramp(rows: int, columns: int) -> Tensor:
    """A table that tells rows from columns: channel 0 grows downwards, channel 1 to the right, after one prefix."""
    down, right = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    cells = torch.stack([down, 10.0 * right], dim=-1).reshape(-1, 2)
    return torch.cat([torch.tensor([[-7.0, -9.0]]), cells])


def test_position_embeddings_are_not_silently_zero_after_resizing() -> None:
    table = resample_table(ramp(7, 7), (7, 7), (18, 31), prefix=1)
    assert table.shape == (1 + 18 * 31, 2)
    assert (table != 0).any(dim=1).float().mean() > 0.99
    torch.testing.assert_close(table[1:].mean(dim=0), ramp(7, 7)[1:].mean(dim=0), atol=0.05, rtol=0)


def test_position_embeddings_are_untouched_when_the_size_is_unchanged() -> None:
    table = ramp(7, 5)
    assert resample_table(table, (7, 5), (7, 5), prefix=1) is table


def test_position_embeddings_keep_the_prefix_and_equal_timm_on_rectangles() -> None:
    table = torch.randn(1 + 49, 16, generator=torch.Generator().manual_seed(0))
    for new in ((12, 20), (20, 12), (3, 5), (49, 1)):
        ours = resample_table(table, (7, 7), new, prefix=1)
        assert torch.equal(ours[0], table[0])
        torch.testing.assert_close(ours, resample_abs_pos_embed(table[None], list(new), [7, 7])[0])


def test_rows_and_columns_of_position_embeddings_are_not_swapped() -> None:
    cells = resample_table(ramp(6, 6), (6, 6), (12, 20), prefix=1)[1:].reshape(12, 20, 2)
    assert (cells[1:, :, 0] > cells[:-1, :, 0]).all()
    assert (cells[:, 1:, 1] > cells[:, :-1, 1]).all()
    torch.testing.assert_close(cells[:, :1, 0].expand(12, 20), cells[:, :, 0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("short", WITH_POSITIONS)
def test_zero_positions_stay_selectable_and_differ(short: str, built: Built, build: Build, noise: Noise) -> None:
    resized, zero = built(short), build(short, positions="zero")
    for cells in ((4, 4), (3, 5)):
        pixels = noise(1, cells[0] * resized.stride, cells[1] * resized.stride)
        ours, theirs = resized.encode(pixels), zero.encode(pixels)
        assert ours.pooled is not None
        assert theirs.pooled is not None
        assert not torch.allclose(ours.pooled, theirs.pooled, atol=1e-4)
        # The attention pool alone has positions in a CLIP ResNet: its grid cannot change.
        assert torch.allclose(ours.grid, theirs.grid, atol=1e-4) == (short == "open_clip-resnet")


def test_zero_positions_make_a_vit_blind_to_where_things_are(build: Build, noise: Noise) -> None:
    """The published bug in one line: with an all-zero table, cells exchanged come out as the same cells exchanged."""
    encoder = build("open_clip-vit", positions="zero")
    pixels = noise(1, 96, 96)
    moved = pixels.roll(shifts=(16, 32), dims=(2, 3))  # whole cells: one row down, two columns right
    torch.testing.assert_close(
        encoder.encode(moved).grid, encoder.encode(pixels).grid.roll(shifts=(1, 2), dims=(2, 3)), atol=1e-4, rtol=1e-4
    )


def test_zero_positions_of_a_network_without_any_are_refused(build: Build) -> None:
    with pytest.raises(EncoderError, match="no learned position embeddings"):
        build("timm-resnet", positions="zero")


def test_a_cached_table_follows_its_parameter() -> None:
    table = nn.Parameter(ramp(4, 4), requires_grad=False)
    cache = PositionTable((4, 4), prefix=1)
    with torch.inference_mode():
        before = cache.at(table, (8, 6))
        assert cache.at(table, (8, 6)) is before
    assert not before.is_inference()
    with torch.no_grad():
        table.mul_(2)
    torch.testing.assert_close(cache.at(table, (8, 6)), 2 * before)
    table.requires_grad_(True)
    assert cache.at(table, (8, 6)).requires_grad


@pytest.mark.parametrize("short", IDS)
def test_rows_and_columns_of_the_grid_are_not_swapped(short: str, built: Built, noise: Noise) -> None:
    """A 3x5 grid has three rows, differs from the transposed picture's, and a change shows near where it was made."""
    encoder = built(short)
    side = encoder.stride
    pixels = noise(1, 3 * side, 5 * side)
    grid = encoder.encode(pixels).grid
    turned = encoder.encode(pixels.transpose(2, 3)).grid
    assert grid.shape[2:] == (3, 5)
    assert turned.shape[2:] == (5, 3)
    assert (turned - grid.transpose(2, 3)).abs().max() > 0.1 * grid.std()
    changed = pixels.clone()
    changed[:, :, : side // 2, 4 * side + side // 2 :] += 3.0  # inside the cell of row 0, column 4
    difference = (encoder.encode(changed).grid - grid).square().sum(dim=1)[0]
    row, column = divmod(int(difference.argmax()), 5)
    assert row <= 1  # a strided convolution may see it strongest from the neighbouring cell
    assert column >= 3


def test_quickgelu_is_not_missing_from_openai_weights(built: Built, noise: Noise) -> None:
    """The same weights give other outputs under GELU: the activation must come with them."""
    quick, plain = built("open_clip-quickgelu"), built("open_clip-vit")
    for key, value in plain.module.state_dict().items():
        assert torch.equal(value, quick.module.state_dict()[key])
    assert has_quickgelu(quick.module)
    assert not has_quickgelu(plain.module)
    pixels = noise(1, 96, 96)
    difference = (quick.encode(pixels).grid - plain.encode(pixels).grid).abs().max()
    assert difference > 1e-3


@pytest.mark.parametrize("model", ["ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "RN50", "RN50x64"])
def test_quickgelu_is_switched_on_by_the_openai_tag_under_the_plain_name(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The tag decides. Only the download is replaced: what is asserted is the configuration that would be built."""
    from clipvil.encoders import open_clip as adapter
    from clipvil.encoders.request import EncoderRequest

    monkeypatch.setattr(adapter.open_clip, "download_pretrained", lambda entry: str(tmp_path / "weights.safetensors"))
    assert adapter._source(EncoderRequest.parse(f"open_clip/{model}:openai")).quickgelu
    assert not open_clip.get_model_config(model).get("quick_gelu", False)
    if model == "ViT-B-32":
        assert not adapter._source(EncoderRequest.parse(f"open_clip/{model}:laion2b_s34b_b79k")).quickgelu


def test_quickgelu_of_a_local_file_is_refused_where_the_path_or_a_config_tells(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = write_open_clip(tmp_path / "downloaded", VIT, quick_gelu=True) / "open_clip_model.safetensors"
    with pytest.raises(EncoderError, match=r"open_clip/ViT-B-32-quickgelu:"):
        guard_local_file(told, model="ViT-B-32", quickgelu=False, name="open_clip/ViT-B-32:file")
    named = tmp_path / "ViT-B-32-openai.safetensors"
    named.touch()
    with pytest.raises(EncoderError, match="QuickGELU"):
        create_encoder(f"open_clip/ViT-B-32:{named}")
    silent = tmp_path / "plain" / "weights.safetensors"  # not in pytest's folder, whose name says quickgelu
    silent.parent.mkdir()
    shutil.copy(told, silent)
    with caplog.at_level(logging.WARNING, logger="clipvil.encoders"):
        guard_local_file(silent, model="ViT-B-32", quickgelu=False, name="x")
    assert "ViT-B-32-quickgelu" in caplog.text
    guard_local_file(told, model="ViT-B-32-quickgelu", quickgelu=True, name="x")


def test_quickgelu_is_built_where_timm_pairs_openai_weights_with_gelu(caplog: pytest.LogCaptureFixture) -> None:
    from clipvil.encoders.request import EncoderRequest
    from clipvil.encoders.timm import _names

    with caplog.at_level(logging.WARNING, logger="clipvil.encoders"):
        architecture, tag = _names(EncoderRequest.parse("timm/vit_base_patch16_clip_224.openai"))
    assert (architecture, tag) == ("vit_base_patch16_clip_quickgelu_224", "openai")
    assert timm.is_model(architecture)
    assert "QuickGELU" in caplog.text
    kept, _ = _names(EncoderRequest.parse("timm/vit_base_patch16_clip_224.laion2b"))
    assert kept == "vit_base_patch16_clip_224"


def test_bgr_only_when_asked_and_then_it_matters(built: Built, build: Build) -> None:
    rgb, bgr = built("open_clip-vit"), build("open_clip-vit", channels="BGR")
    assert rgb.preprocess.channels == "RGB"
    assert bgr.preprocess.channels == "BGR"
    picture = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    right, wrong = normalise(picture, rgb.preprocess), normalise(picture, bgr.preprocess)
    assert torch.equal(right.flip(1), wrong)
    assert not torch.allclose(rgb.encode(right).grid, bgr.encode(wrong).grid, atol=1e-3)


def test_mean_and_std_of_a_folder_are_those_written_beside_the_weights(built: Built) -> None:
    preprocess = built("open_clip-vit").preprocess
    assert (preprocess.mean, preprocess.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert preprocess.size == (96, 96)


def test_mean_and_std_of_open_clip_are_those_of_its_tags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from clipvil.encoders import open_clip as adapter
    from clipvil.encoders.request import EncoderRequest

    monkeypatch.setattr(adapter.open_clip, "download_pretrained", lambda entry: str(tmp_path / "weights.safetensors"))
    expected = {
        "RN50:openai": (0.48145466, 0.4578275, 0.40821073),
        "ViT-B-16-SigLIP:webli": (0.5, 0.5, 0.5),
        "ViT-L-14:laion2b_s32b_b82k": (0.5, 0.5, 0.5),
    }
    for name, mean in expected.items():
        request = EncoderRequest.parse(f"open_clip/{name}")

        class Tower:
            image_size = 224

        preprocess = adapter._preprocess(adapter._source(request), Tower(), request)
        entry = open_clip.get_pretrained_cfg(*name.split(":"))
        assert preprocess.mean == tuple(entry["mean"]) == mean
        assert preprocess.std == tuple(entry["std"])


@pytest.mark.parametrize("short", ["timm-vit", "timm-resnet", "timm-efficientnet"])
def test_mean_and_std_of_timm_are_its_own_data_config(short: str, built: Built) -> None:
    encoder = built(short)
    config = timm.data.resolve_model_data_config(encoder.module.trunk)
    assert encoder.preprocess.mean == tuple(config["mean"])
    assert encoder.preprocess.std == tuple(config["std"])
    assert encoder.preprocess.interpolation == config["interpolation"]
    assert encoder.preprocess.size == tuple(config["input_size"][1:])


@pytest.mark.parametrize("short", ["hf-clip", "hf-siglip", "hf-dinov2"])
def test_mean_and_std_of_hugging_face_are_its_processors(short: str, built: Built) -> None:
    import transformers

    encoder = built(short)
    processor = transformers.AutoImageProcessor.from_pretrained(encoder.name.removeprefix("hf/"))
    assert encoder.preprocess.mean == tuple(processor.image_mean)
    assert encoder.preprocess.std == tuple(processor.image_std)


def test_mean_and_std_of_torchvision_are_its_transforms(built: Built) -> None:
    from torchvision.models import ResNet18_Weights

    transform = ResNet18_Weights.DEFAULT.transforms()
    preprocess = built("torchvision-resnet").preprocess
    assert preprocess.mean == tuple(transform.mean)
    assert preprocess.std == tuple(transform.std)
    assert preprocess.size == (transform.crop_size[0],) * 2
    assert preprocess.interpolation == transform.interpolation.value
