from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clipvil.errors import RecipeError
from clipvil.models.mcan import Mcan, build
from clipvil.models.mcan_config import MCAN_PRESETS
from clipvil.models.outputs import supervised

SMALL = {
    "hidden": 16,
    "heads": 4,
    "text_layers": 1,
    "image_layers": 2,
    "pool_hidden": 8,
    "joint_size": 24,
    "word_size": 6,
}


def small(**options: object) -> Mcan:
    torch.manual_seed(0)
    return build({**SMALL, **options}, words=20, answers=7, channels=12).eval()


def questions() -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([3, 5, 1])
    words = torch.randint(4, 20, (3, 7), generator=torch.Generator().manual_seed(1))
    return words * (torch.arange(7) < lengths[:, None]), lengths


@pytest.mark.parametrize(("preset", "millions"), [("small", 56.5), ("large", 201.0)])
def test_published_sizes(preset: str, millions: float) -> None:
    with torch.device("meta"):
        model = build({"preset": preset}, words=18_000, answers=3129, channels=2048)
    size = MCAN_PRESETS[preset].hidden
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert size == {"small": 512, "large": 1024}[preset]
    assert shapes["blocks.5.feed.wide.weight"] == (4 * size, size)
    assert shapes["pool_image.hidden.weight"] == (512, size)
    assert shapes["merge_text.weight"] == (2 * size, size)
    assert shapes["answer.weight"] == (3129, 2 * size)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=2)


def test_padding_changes_nothing() -> None:
    model = small()
    words, lengths = questions()
    cells = torch.rand(3, 6, 12)
    padded = torch.cat([cells, 100 * torch.ones(3, 3, 12)], dim=1)
    plain = model(words, lengths, cells)
    masked = model(words, lengths, padded, (torch.arange(9) < 6).expand(3, 9))
    torch.testing.assert_close(masked.logits, plain.logits, atol=1e-5, rtol=1e-5)
    assert masked.image_attention[:, 6:].abs().max() == 0
    longer = torch.cat([words, torch.zeros(3, 4, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(model(longer, lengths, cells).logits, plain.logits)
    # The same with all columns kept, where the mask has to do it.
    torch.testing.assert_close(model(longer, torch.tensor([11, 1, 1]), cells).logits, plain.logits, atol=1e-5, rtol=0)


def test_words_reach_cells_and_cells_reach_the_answer() -> None:
    model = small()
    words, lengths = questions()
    cells = torch.rand(3, 6, 12)
    first = model(words, lengths, cells)
    other = model(torch.where(words > 0, 23 - words, 0), lengths, cells)
    assert not torch.allclose(first.image_vector, other.image_vector, atol=1e-5)
    assert not torch.allclose(first.logits, model(words, lengths, cells.flip(2)).logits, atol=1e-5)
    assert supervised(first) == (first.logits,)


def test_positions_tell_where_a_cell_lies() -> None:
    words, lengths = questions()
    cells, shapes = torch.rand(3, 6, 12), torch.tensor([[2, 3]] * 3)
    without, places = small(), small(cell_positions=True)
    flipped = without(words, lengths, cells.flip(1), None, shapes).logits
    torch.testing.assert_close(without(words, lengths, cells, None, shapes).logits, flipped, atol=1e-5, rtol=1e-5)
    first = places(words, lengths, cells, None, shapes).logits
    assert not torch.allclose(first, places(words, lengths, cells.flip(1), None, shapes).logits, atol=1e-4)


def test_regions_lie_where_their_boxes_say() -> None:
    words, lengths = questions()
    cells, shapes = torch.rand(3, 2, 12), torch.tensor([[1, 2]] * 3)
    model = small(cell_positions=True)
    # The boxes of the two cells of a 1 x 2 grid have the centres of those cells.
    halves = torch.tensor([[0, 0, 0.5, 1], [0.5, 0, 1, 1]]).expand(3, 2, 4)
    grid = model(words, lengths, cells, None, shapes).logits
    torch.testing.assert_close(model(words, lengths, cells, None, shapes, halves).logits, grid)
    elsewhere = model(words, lengths, cells, None, shapes, halves.flip(1)).logits
    assert not torch.allclose(elsewhere, grid, atol=1e-4)


def test_every_parameter_learns() -> None:
    model = small(cell_positions=True, normalise=True).train()
    words, lengths = questions()
    model(words, lengths, torch.rand(3, 6, 12), None, torch.tensor([[2, 3]] * 3)).logits.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_word_vectors_start_the_table() -> None:
    vectors = torch.randn(20, 11)
    model = build({"preset": "mini"}, words=20, answers=7, channels=4, vectors=vectors)
    assert torch.equal(model.text.words.weight, vectors)
    assert model.config.word_size == 11


def test_scale_of_features_does_not_matter_when_normalised() -> None:
    words, lengths = questions()
    model, cells = small(normalise=True), torch.rand(3, 6, 12)
    torch.testing.assert_close(
        model(words, lengths, cells).logits, model(words, lengths, 1000 * cells + 5).logits, atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "published"}, "unknown MCAN preset 'published'; choose one of small, large, mini"),
        ({"padding": "published"}, "unknown key 'model.padding' for MCAN"),
        ({"heads": 3}, "must be a multiple of 'model.heads'"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(settings, words=5, answers=3, channels=2)
