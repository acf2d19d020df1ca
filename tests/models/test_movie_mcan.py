from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from clipvil.convert.mmf_movie_mcan import from_mmf, source_name
from clipvil.models.movie_mcan import MovieMcan
from tests.shared import shared


def fixture(padding: str = "published") -> tuple[MovieMcan, dict[str, Tensor]]:
    """The recorded network with all three heads running and no dropout."""
    folder = shared("fixtures", "movie_mcan")
    model = from_mmf(load_file(folder / "model.safetensors"), heads=4, padding=padding, padded_side=6).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return model, load_file(folder / "io.safetensors")


def grids(io: dict[str, Tensor], *chosen: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cells, mask and shapes of the recorded pictures, as a feature store gives them."""
    maps = [io[f"image_grid_{i}"] for i in chosen]
    shapes = torch.tensor([list(grid.shape[1:]) for grid in maps])
    count = int(shapes.prod(1).max())
    cells = torch.stack([functional.pad(g.flatten(1).T, (0, 0, 0, count - g[0].numel())) for g in maps])
    return cells, torch.arange(count) < shapes.prod(1, keepdim=True), shapes


@pytest.mark.parametrize(
    ("own", "recorded"),
    [
        ("question_states", "question_tokens_encoded"),
        ("question_vectors", "question_vectors"),
        ("attention_vector", "guided_attention_vector"),
        ("movie_vector", "modulated_conv_vector"),
        ("joint", "fused_vectors"),
    ],
)
def test_recorded_network(own: str, recorded: str) -> None:
    model, io = fixture()
    output = model(io["question_ids"], io["question_lengths"], *grids(io, *range(8)))
    torch.testing.assert_close(getattr(output, own), io[recorded], atol=1e-4, rtol=0)


def test_recorded_heads_and_loss() -> None:
    model, io = fixture()
    output = model(io["question_ids"], io["question_lengths"], *grids(io, *range(8)))
    heads = torch.stack(output.supervised, 1)
    print((heads - io["three_head_logits"]).abs().max())
    torch.testing.assert_close(heads, io["three_head_logits"], atol=1e-4, rtol=0)
