"""A model of grids with its encoder: who sees the padding around a picture."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from clipvil.encoders.registry import create_encoder
from clipvil.models.clip_vil_p import ClipVilPModel
from clipvil.models.clip_vil_p_config import PRESETS, Behaviour
from clipvil.models.grid_trunk import GridTrunk
from clipvil.models.picture_model import Padding, PictureModel

# A picture of 32 x 64 in the middle of a canvas of 96 x 64, and one that fills its canvas.
BOXES = torch.tensor([[32, 0, 32, 64], [0, 0, 96, 64]])
SIZES = torch.tensor([[96, 64], [96, 64]])


def model(behaviour: Behaviour, padding: Padding = "behaviour") -> PictureModel:
    encoder = create_encoder("mini/contrastive")
    torch.manual_seed(0)
    config = dataclasses.replace(PRESETS["mini"], behaviour=behaviour)
    head = ClipVilPModel(config, words=20, channels=encoder.grid_channels, answers=4, heads=("answers",))
    return PictureModel(GridTrunk(encoder), head, encoder.preprocess, padding=padding).eval()


def shapes_and_logits(whole: PictureModel, around: int) -> tuple[list[list[int]], torch.Tensor]:
    """Of the two pictures, the padding of the first being `around`."""
    pixels = torch.randint(256, (2, 3, 96, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    pixels[0, :, :32] = pixels[0, :, 64:] = around
    tokens, mask = torch.tensor([[2, 7, 3], [2, 9, 3]]), torch.ones(2, 3, dtype=torch.bool)
    with torch.no_grad():
        batch = whole.encoded({"pixels": pixels, "pixel_sizes": SIZES, "pixel_boxes": BOXES})
        said = whole.head(tokens, mask, batch["cells"], batch.get("mask"), batch["shapes"])
    return batch["shapes"].tolist(), said.logits


@pytest.mark.parametrize(
    ("behaviour", "padding", "seen"),
    [
        ("published", "behaviour", True),
        ("sane", "behaviour", False),
        ("published", "masked", False),
        ("sane", "visible", True),
    ],
)
def test_the_published_model_sees_padding_unless_the_recipe_says_otherwise(
    behaviour: Behaviour, padding: Padding, seen: bool
) -> None:
    whole = model(behaviour, padding)
    (black_shapes, black), (_, grey) = (shapes_and_logits(whole, around) for around in (0, 90))
    assert (black_shapes[0] == black_shapes[1]) == seen
    assert torch.allclose(black[0], grey[0], atol=1e-5) != seen
    assert torch.allclose(black[1], grey[1], atol=1e-5)


def test_a_head_without_a_behaviour_sees_no_padding() -> None:
    encoder = create_encoder("mini/contrastive")
    assert not PictureModel(GridTrunk(encoder), torch.nn.Identity(), encoder.preprocess).visible_padding
