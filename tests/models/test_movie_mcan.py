from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from clipvil.convert.mmf_movie_mcan import from_mmf, source_name
from clipvil.errors import DataError, RecipeError
from clipvil.models.mcan_config import MOVIE_MCAN_PRESETS, MovieMcanConfig
from clipvil.models.mcan_layers import MultiHeadAttention
from clipvil.models.movie_mcan import MovieMcan, build
from clipvil.models.outputs import supervised
from clipvil.tasks.vqa import Vqa
from tests.shared import shared

SMALL = {
    "hidden": 16,
    "heads": 4,
    "text_layers": 1,
    "image_layers": 2,
    "movie_layers": 2,
    "movie_size": 8,
    "word_size": 6,
    "padded_side": 6,
}


def without_dropout(model: MovieMcan) -> MovieMcan:
    """In training, so that all heads run, but nothing is dropped."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return model


def fixture(padding: str = "published") -> tuple[MovieMcan, dict[str, Tensor]]:
    folder = shared("fixtures", "movie_mcan")
    model = from_mmf(load_file(folder / "model.safetensors"), heads=4, padding=padding, padded_side=6)
    return without_dropout(model), load_file(folder / "io.safetensors")


def stacked(maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Cells, mask and shapes of maps (C, h, w), as a feature store gives them."""
    shapes = torch.tensor([list(grid.shape[1:]) for grid in maps])
    count = int(shapes.prod(1).max())
    cells = torch.stack([functional.pad(g.flatten(1).T, (0, 0, 0, count - g[0].numel())) for g in maps])
    return cells, torch.arange(count) < shapes.prod(1, keepdim=True), shapes


def recorded_grids(io: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return stacked([io[f"image_grid_{i}"] for i in range(8)])


def small(**options: object) -> MovieMcan:
    torch.manual_seed(0)
    return build({**SMALL, **options}, words=20, answers=7, channels=12).eval()


def questions(size: int = 3) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([3, 5, 1])[:size]
    words = torch.randint(4, 20, (size, 7), generator=torch.Generator().manual_seed(1))
    return words * (torch.arange(7) < lengths[:, None]), lengths


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
    output = model(io["question_ids"], io["question_lengths"], *recorded_grids(io))
    torch.testing.assert_close(getattr(output, own), io[recorded], atol=1e-4, rtol=0)


def test_recorded_heads_loss_and_gradients() -> None:
    model, io = fixture()
    cells, mask, shapes = recorded_grids(io)
    output = model(io["question_ids"], io["question_lengths"], cells, mask, shapes)
    torch.testing.assert_close(torch.stack(output.supervised, 1), io["three_head_logits"], atol=1e-4, rtol=0)
    batch = {"question": io["question_ids"], "length": io["question_lengths"], "targets": io["soft_targets"]}
    loss = Vqa({}).loss(model, {**batch, "cells": cells, "mask": mask, "shapes": shapes})
    assert loss.item() == pytest.approx(io["loss_triple"].item(), abs=1e-4)
    loss.backward()
    norms = json.loads(shared("fixtures", "movie_mcan", "grad_norms.json").read_text(encoding="utf-8"))
    parameters = {source_name(name): parameter for name, parameter in model.named_parameters()}
    assert parameters.keys() == norms.keys()
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        assert parameter.grad.norm().item() == pytest.approx(norms[name]["l2"], abs=1e-4), name
        assert parameter.grad.sum().item() == pytest.approx(norms[name]["sum"], abs=2e-4), name


def test_recorded_answers_come_from_the_first_head_alone() -> None:
    model, io = fixture()
    model.eval()
    output = model(io["question_ids"], io["question_lengths"], *recorded_grids(io))
    torch.testing.assert_close(output.logits, io["inference_logits"], atol=1e-4, rtol=0)
    assert len(output.supervised) == 1
    targets = io["soft_targets"]
    loss = functional.binary_cross_entropy_with_logits(output.logits, targets, reduction="sum") / len(targets)
    assert loss.item() == pytest.approx(io["loss_inference_only"].item(), abs=1e-4)


def test_recorded_empty_question() -> None:
    model, io = fixture()
    cells, mask, shapes = recorded_grids(io)
    nothing = torch.zeros(2, 14, dtype=torch.int64)
    logits = model.eval()(nothing, torch.zeros(2, dtype=torch.int64), cells[:2], mask[:2], shapes[:2]).logits
    torch.testing.assert_close(logits, io["all_padding_question_logits"], atol=1e-4, rtol=0)


def test_double_precision_agrees_more_closely() -> None:
    model, io = fixture()
    cells, mask, shapes = recorded_grids(io)
    heads = model.double()(io["question_ids"], io["question_lengths"], cells.double(), mask, shapes).supervised
    torch.testing.assert_close(torch.stack(heads, 1), io["three_head_logits_f64"], atol=1e-9, rtol=0)


def unit(name: str, count: int) -> np.ndarray:
    """The manifest's generator of weights: a hash of the name and the place, in -1..1."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(zlib.crc32(name.encode())) << np.uint64(32)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def generated(name: str, shape: list[int]) -> Tensor:
    u = unit(name, int(np.prod(shape)))
    leaf = name.rpartition(".")[2]
    if leaf == "running_var":
        values = 1 + np.float32(0.5) * u
    elif leaf == "running_mean":
        values = np.float32(0.3) * u
    elif leaf == "weight" and any(part in name for part in (".ln_", "layer_norm", ".bn")):
        values = 1 + np.float32(0.3) * u
    elif len(shape) >= 2:
        values = u * np.float32(1.2 * np.sqrt(3 / np.prod(shape[1:])))
    else:
        values = np.float32(0.3) * u
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def test_recorded_full_width_network() -> None:
    folder = shared("fixtures", "movie_mcan", "full_width")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    checks = manifest["weights_recipe"]["checks"]
    assert unit("abc", 4).tolist() == pytest.approx(checks['unit("abc") first 4'], abs=1e-7)
    state = {name: generated(name, shape) for name, shape in checks["state_keys"].items()}
    model = without_dropout(from_mmf(state))
    io = load_file(folder / "io.safetensors")
    maps = []
    for i, (h, w) in enumerate(manifest["config"]["image_shapes_hw"]):
        values = np.maximum(0, 2 * unit(f"image{i}", 96 * h * w))
        maps.append(torch.from_numpy(values.astype(np.float32)).reshape(96, h, w))
    with torch.no_grad():
        heads = model(io["question_ids"], (io["question_ids"] != 0).sum(1), *stacked(maps)).supervised
    torch.testing.assert_close(torch.stack(heads, 1), io["three_head_logits"], atol=1e-4, rtol=0)


def test_a_mixed_batch_says_what_each_picture_says_alone() -> None:
    model = small()
    maps = [torch.rand(12, h, w, generator=torch.Generator().manual_seed(h)) for h, w in ((4, 5), (1, 6), (5, 2))]
    words, lengths = questions()
    cells, mask, shapes = stacked(maps)
    # Whatever stands in the padding must not matter.
    cells = torch.where(mask.unsqueeze(2), cells, 100.0)
    together = model(words, lengths, cells, mask, shapes).logits
    for i, grid in enumerate(maps):
        own = grid.flatten(1).T.unsqueeze(0)
        alone = model(words[i : i + 1], lengths[i : i + 1], own, None, shapes[i : i + 1]).logits
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)


def test_a_full_square_needs_no_padding_and_both_ways_agree() -> None:
    words, lengths = questions()
    cells, shapes = torch.rand(3, 36, 12), torch.tensor([[6, 6]] * 3)
    masked, published = small(), small(padding="published")
    torch.testing.assert_close(
        masked(words, lengths, cells, None, shapes).logits, published(words, lengths, cells, None, shapes).logits
    )
    fewer, less = cells[:, :8], torch.tensor([[2, 4]] * 3)
    other = published(words, lengths, fewer, None, less).logits
    assert not torch.allclose(masked(words, lengths, fewer, None, less).logits, other, atol=1e-4)


def test_shapes_of_equal_size_are_told_apart_without_a_mask() -> None:
    model = small()
    words, lengths = questions(2)
    cells = torch.rand(2, 12, 12)
    shapes = torch.tensor([[3, 4], [4, 3]])
    together = model(words, lengths, cells, None, shapes).logits
    alone = model(words[1:], lengths[1:], cells[1:], None, shapes[1:]).logits
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-5)


def attended(model: MovieMcan, cells: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Image tokens that enter the first self-attention, and floating point operations of the whole network."""
    words, lengths = questions()
    seen: list[int] = []
    first = model.blocks[0].self_attention
    assert isinstance(first, MultiHeadAttention)
    handle = first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(words, lengths, torch.rand(3, cells, 12), None, torch.tensor([list(shape)] * 3))
    handle.remove()
    return seen[0], counter.get_total_flops()


def test_cost_falls_with_the_true_number_of_cells() -> None:
    tokens, flops = zip(*(attended(small(), h * w, (h, w)) for h, w in ((6, 6), (4, 4), (2, 3))), strict=True)
    assert tokens == (36, 16, 6)
    assert flops[0] > 2 * flops[1] > 3 * flops[2]


def test_published_padding_costs_the_same_whatever_the_grid() -> None:
    model = small(padding="published")
    assert attended(model, 36, (6, 6)) == attended(model, 6, (2, 3))
    assert attended(model, 6, (2, 3))[0] == 36


def test_grids_that_do_not_fit_and_shapes_that_lack_are_named() -> None:
    words, lengths = questions()
    with pytest.raises(DataError, match=r"7 x 1 cells does not fit into the published 6 x 6; choose padding: masked"):
        small(padding="published")(words, lengths, torch.rand(3, 7, 12), None, torch.tensor([[7, 1]] * 3))
    for padding in ("published", "masked"):
        with pytest.raises(DataError, match="needs the shapes"):
            small(padding=padding)(words, lengths, torch.rand(3, 6, 12))


def test_positions_tell_where_a_cell_lies() -> None:
    words, lengths = questions()
    cells, shapes = torch.rand(3, 6, 12), torch.tensor([[2, 3]] * 3)
    # Without convolutions the branches see a set of cells.
    without, places = small(movie_layers=0), small(movie_layers=0, cell_positions=True)
    torch.testing.assert_close(
        without(words, lengths, cells, None, shapes).logits,
        without(words, lengths, cells.flip(1), None, shapes).logits,
        atol=1e-5,
        rtol=1e-5,
    )
    assert not torch.allclose(
        places(words, lengths, cells, None, shapes).logits,
        places(words, lengths, cells.flip(1), None, shapes).logits,
        atol=1e-4,
    )


def test_all_heads_are_trained_and_one_is_asked() -> None:
    model = small()
    words, lengths = questions()
    batch = (words, lengths, torch.rand(3, 6, 12), None, torch.tensor([[2, 3]] * 3))
    assert len(supervised(model(*batch))) == 1
    heads = supervised(model.train()(*batch))
    assert len(heads) == 3
    torch.stack(heads).sum().backward()
    lacking = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert lacking == []


def test_published_sizes() -> None:
    with torch.device("meta"):
        model = build({"preset": "published"}, words=5, answers=3129, channels=2560)
    shapes = {source_name(name): tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["text_embeddings.module.lstm.weight_ih_l0"] == (4096, 300)
    assert shapes["text_embeddings.module.self_attns.5.fcn.0.weight"] == (4096, 1024)
    assert shapes["image_feature_embeddings_list.cbn.cbns.3.conv2.weight"] == (256, 256, 3, 3)
    assert shapes["image_feature_embeddings_list.cbn.cbns.0.cond.conv.weight"] == (256, 2560, 1, 1)
    assert shapes["image_feature_embeddings_list.sga_pool.linear.0.weight"] == (512, 1024)
    assert shapes["classifier.module.linears.2.weight"] == (3129, 2048)
    assert MOVIE_MCAN_PRESETS["large"] == MovieMcanConfig()
    assert MOVIE_MCAN_PRESETS["published"].padding == "published"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hiden": 3}, r"unknown key 'model.hiden' for MoVie\+MCAN; did you mean 'hidden'"),
        ({"preset": "huge"}, r"unknown MoVie\+MCAN preset 'huge'"),
        ({"padding": "none"}, "'model.padding' must be masked or published, not 'none'"),
        ({"heads": 3}, "must be a multiple of 'model.heads'"),
        ({"movie_size": 6}, "'model.movie_size' must be a multiple of 4"),
        ({"text_layers": 0}, "text_layers' must be larger, not 0"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(settings, words=5, answers=3, channels=2)


def test_one_constant_cell_is_a_question_only_model() -> None:
    torch.manual_seed(0)
    model = build({"preset": "mini"}, words=20, answers=7, channels=1).eval()
    words, lengths = questions()
    logits = model(words, lengths, torch.ones(3, 1, 1), None, torch.ones(3, 2, dtype=torch.int64)).logits
    assert torch.isfinite(logits).all()
    assert not torch.allclose(logits[0], logits[1])
