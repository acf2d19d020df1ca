from __future__ import annotations

import pytest
import torch

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import RecipeError
from clipvil.features.base import GridBatch
from clipvil.models.layers import position_features
from clipvil.models.pythia import build
from clipvil.records import Question
from clipvil.tasks.vqa import Vqa
from clipvil.training.memory import MemorySource

SIZES = {
    "preset": "mini", "word_size": 8, "lstm_size": 8, "question_hidden": 8, "attention_size": 8, "fusion_size": 8,
    "narrow_size": 8, "wide_size": 8,
}  # fmt: skip


def grid_boxes(rows: int, columns: int) -> torch.Tensor:
    """Boxes that tile the picture as the cells of a grid do."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    edges = torch.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], -1)
    return edges.reshape(1, rows * columns, 4)


def test_boxes_that_tile_the_picture_lie_where_the_cells_of_a_grid_do() -> None:
    cells = position_features(torch.tensor([[3, 5]]), 15)
    boxes = position_features(torch.tensor([[15, 1]]), 15, grid_boxes(3, 5))
    assert torch.allclose(cells, boxes, atol=1e-5)


def test_the_order_of_regions_says_nothing_and_their_places_do() -> None:
    torch.manual_seed(0)
    model = build(SIZES, words=9, answers=5, channels=6).eval()
    question, length = torch.tensor([[1, 2, 3]]), torch.tensor([3])
    cells, boxes, shapes = torch.randn(1, 7, 6), torch.rand(1, 7, 4), torch.tensor([[7, 1]])
    order = torch.randperm(7)
    with torch.no_grad():
        plain = model(question, length, cells, None, shapes, boxes=boxes).logits
        mixed = model(question, length, cells[:, order], None, shapes, boxes=boxes[:, order]).logits
        moved = model(question, length, cells, None, shapes, boxes=boxes.flip(1)).logits
    assert torch.allclose(plain, mixed, atol=1e-5)
    assert not torch.allclose(plain, moved, atol=1e-5)


class _Regions:
    """Two pictures of three regions."""

    def __init__(self) -> None:
        self.spec = EncoderSpec("regions", "0" * 16, 6, cells="boxes")

    def __contains__(self, image_id: object) -> bool:
        return True

    def batch(self, image_ids: list[str]) -> GridBatch:
        cells = torch.stack([torch.full((3, 6), float(image_id)) for image_id in image_ids])
        boxes = torch.stack([torch.full((3, 4), float(image_id) / 10) for image_id in image_ids])
        return GridBatch(cells, None, torch.tensor([[3, 1]] * len(image_ids)), None, boxes)


def test_boxes_reach_the_model_from_the_store_and_from_memory() -> None:
    task = Vqa({})
    records = [Question("a", "1", "what is it", ("dog",)), Question("b", "2", "what is it", ("cat",))]
    task.prepare(records)
    model = task.build({"name": "pythia", **SIZES}, _Regions().spec).eval()
    for source in (_Regions(), MemorySource(_Regions(), ["1", "2"])):
        batch = task.collate(records[::-1], source)
        assert batch["boxes"][:, 0, 0].tolist() == [pytest.approx(0.2), pytest.approx(0.1)]
        assert task.loss(model, batch).isfinite()


def test_a_model_that_reads_grids_refuses_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    from clipvil.models import pythia

    class Grids(torch.nn.Module):
        def forward(self, question: torch.Tensor, lengths: torch.Tensor, cells: torch.Tensor) -> None: ...

    monkeypatch.setattr(pythia, "build", lambda *args, **kwargs: Grids())
    task = Vqa({})
    task.prepare([Question("a", "1", "what is it", ("dog",))])
    with pytest.raises(RecipeError, match="the model pythia reads grids, and regions has regions"):
        task.build({"name": "pythia"}, _Regions().spec)
