from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from clipvil.convert.clip_vil_captioner import source_name
from clipvil.errors import DataError, RecipeError, UsageError
from clipvil.models.captioner_config import PRESETS, CaptionerConfig
from clipvil.models.captioner_layers import LONGEST, UnbiasedNorm, sinusoids
from clipvil.models.transformer_captioner import build
from tests.models.captioners import pictures, recorded, small
from tests.shared import shared


def close(own: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(own, wanted, atol=1e-4, rtol=0)


def captions(count: int, length: int = 6, words: int = 11) -> Tensor:
    rows = torch.randint(1, words, (count, length), generator=torch.Generator().manual_seed(3))
    rows[:, 0] = 0
    return rows


def test_recorded_log_probabilities_with_and_without_a_mask() -> None:
    model, io = recorded()
    cells, mask, labels = io["att_feats"], io["att_masks"].bool(), io["labels"]
    close(model(cells, labels.flatten(0, 1)[:, :-1], mask), io["teacher_forced_logprobs"])
    close(model(cells, labels[:, 0, :-1]), io["teacher_forced_logprobs_no_mask"])


def test_recorded_memory_and_places() -> None:
    model, io = recorded()
    mask = io["att_masks"].bool()
    longest = io["encoder_memory"].shape[1]
    real = mask[:, :longest]
    close(model.encode(io["att_feats"], mask).cells[:, :longest][real], io["encoder_memory"][real])
    close(sinusoids(32, 32), io["positional_encoding"])


def test_recorded_loss_and_gradients() -> None:
    model, io = recorded()
    labels, weight = io["labels"].flatten(0, 1), io["label_masks"].flatten(0, 1)[:, 1:]
    log_probs = model(io["att_feats"], labels[:, :-1], io["att_masks"].bool())
    loss = -(log_probs.gather(2, labels[:, 1:, None]).squeeze(2) * weight).sum() / weight.sum()
    assert loss.item() == pytest.approx(io["xe_loss"].item(), abs=1e-4)
    loss.backward()
    norms = json.loads(shared("fixtures", "captioner", "grad_norms.json").read_text(encoding="utf-8"))["xe"]
    parameters = {source_name(name): parameter for name, parameter in model.named_parameters()}
    assert parameters.keys() == norms.keys()
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        assert parameter.grad.norm().item() == pytest.approx(norms[name]["l2"], abs=1e-4), name
        assert parameter.grad.sum().item() == pytest.approx(norms[name]["sum"], abs=2e-4), name


def test_word_by_word_says_what_teacher_forcing_says() -> None:
    model = small()
    cells, mask = pictures(3)
    rows = captions(6)
    whole = model(cells, rows, mask)
    memory = model.encode(cells, mask)
    state = model.start(memory, rows_per_picture=2)
    for place in range(rows.shape[1]):
        torch.testing.assert_close(model.step(rows[:, place], state), whole[:, place], atol=1e-5, rtol=1e-5)
        after = model.after(memory, rows[:, : place + 1])
        torch.testing.assert_close(after, whole[:, place], atol=1e-5, rtol=1e-5)
    assert state.length == rows.shape[1]


def test_a_state_follows_the_captions_and_pictures_that_go_on() -> None:
    model = small()
    cells, mask = pictures(3)
    state = model.start(model.encode(cells, mask))
    model.step(torch.zeros(3, dtype=torch.int64), state)
    # Two captions of each picture, the pictures 2 and 0 alone, then within them the captions turned around.
    state = state.select(torch.tensor([0, 0, 1, 1, 2, 2]))
    model.step(torch.tensor([1, 2, 3, 4, 5, 6]), state)
    state = state.keep(torch.tensor([2, 0])).select(torch.tensor([1, 0, 3, 2]))
    said = model.step(torch.tensor([7, 8, 9, 10]), state)
    rows = torch.tensor([[0, 6, 7], [0, 5, 8], [0, 2, 9], [0, 1, 10]])
    whole = model(cells[[2, 0]], rows, mask[[2, 0]])
    torch.testing.assert_close(said, whole[:, -1], atol=1e-5, rtol=1e-5)


def test_a_picture_is_encoded_once_however_many_captions_it_has() -> None:
    model = small()
    cells, mask = pictures(2)
    seen: list[int] = []
    model.encoder[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[0]))
    together = model(cells, captions(6), mask)
    assert seen == [2]
    apart = model(cells.repeat_interleave(3, 0), captions(6), mask.repeat_interleave(3, 0))
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)
    memory = model.encode(cells, mask).repeat(3)
    assert len(memory) == 6
    torch.testing.assert_close(model.decode(memory, captions(6)), together, atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="5 captions are no multiple of 2 pictures"):
        model(cells, captions(5), mask)


def test_padding_counts_nothing() -> None:
    model = small()
    cells, mask = pictures(3)
    rows = captions(3)
    dirty = torch.where(mask.unsqueeze(2), cells, 100.0)
    together = model(dirty, rows, mask)
    for i in range(3):
        alone = model(cells[i : i + 1, : int(mask[i].sum())], rows[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)


def test_words_behind_an_end_are_hidden_or_not() -> None:
    model = small()
    cells, mask = pictures(1)
    rows = torch.tensor([[0, 4, 5, 0, 0]])
    memory = model.encode(cells, mask)
    hidden, open_ = model.decode(memory, rows), model.decode(memory, rows, hide_padding=False)
    torch.testing.assert_close(hidden[:, :3], open_[:, :3], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(hidden[:, 3:], open_[:, 3:], atol=1e-3)


def test_positions_tell_where_a_cell_lies() -> None:
    cells, rows, shapes = torch.randn(1, 6, 6), captions(1), torch.tensor([[2, 3]])
    without, places = small(), small(cell_positions=True)
    close(without(cells, rows), without(cells.flip(1), rows))
    assert not torch.allclose(places(cells, rows, None, shapes), places(cells.flip(1), rows, None, shapes), atol=1e-3)
    with pytest.raises(DataError, match="cell_positions needs the shapes"):
        places(cells, rows)
    # Regions that lie where the cells of that grid lie.
    y, x = torch.meshgrid(torch.arange(2.0), torch.arange(3.0), indexing="ij")
    boxes = torch.stack([x / 3, y / 2, (x + 1) / 3, (y + 1) / 2], dim=2).view(1, 6, 4)
    close(places(cells, rows, None, shapes, boxes), places(cells, rows, None, shapes))


def test_published_norm_divides_by_unbiased_deviation_plus_a_little() -> None:
    x = torch.tensor([[1.0, 2.0, 4.0], [3.0, 3.0, 3.0]])
    normed = UnbiasedNorm(3)
    with torch.no_grad():
        normed.weight.fill_(2.0)
        normed.bias.fill_(1.0)
    wanted = 2 * (x[0] - x[0].mean()) / (x[0].std() + 1e-6) + 1
    torch.testing.assert_close(normed(x)[0], wanted)
    assert normed(x)[1].tolist() == [1.0, 1.0, 1.0]
    assert isinstance(small(norm="standard").decoder_norm, torch.nn.LayerNorm)


def test_tied_tables_are_one_and_stay_one() -> None:
    model = small(tied=True)
    assert model.output.weight is model.words.table.weight
    model(pictures(1)[0], captions(1)).sum().backward()
    other = small(tied=True, seed=4)
    other.load_state_dict(model.state_dict())
    assert other.output.weight is other.words.table.weight
    assert small().output.weight is not small().words.table.weight


def test_every_parameter_is_trained_and_starts_as_published() -> None:
    model = build({"preset": "mini"}, words=9, channels=6).train()
    model(torch.randn(2, 6, 6), captions(2, words=9), None, torch.tensor([[2, 3]] * 2)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    for parameter in model.parameters():
        if parameter.dim() > 1:
            bound = (6 / sum(parameter.shape)) ** 0.5
            assert 0.7 * bound < parameter.abs().max().item() <= bound


def test_dropout_is_where_it_is_published() -> None:
    """Eight modules of the published 0.1 and one of 0.5 over the cells; nothing changes while they are off."""
    model = build({"encoder_layers": 1, "decoder_layers": 1, "hidden": 16, "heads": 2}, words=9, channels=6)
    rates = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    # Encoder block: attention weights, feed-forward, what is added; decoder block: one attention more; words.
    assert sorted(rates) == [0.1] * 8 + [0.5]
    cells, rows = torch.randn(1, 4, 6), captions(1, words=9)
    assert not torch.equal(model.train()(cells, rows), model(cells, rows))
    assert torch.equal(model.eval()(cells, rows), model(cells, rows))


def test_log_probabilities_are_never_in_half_precision() -> None:
    model, cells, rows = small(), torch.randn(2, 5, 6), captions(2)
    with torch.autocast("cpu", torch.bfloat16):
        said = model(cells, rows)
    assert said.dtype == torch.float32
    torch.testing.assert_close(said.exp().sum(2), torch.ones(2, 6))
    assert model.double()(cells.double(), rows).dtype == torch.float64


def test_published_sizes() -> None:
    with torch.device("meta"):
        model = build({}, words=9488, channels=2560)
    shapes = {source_name(name): tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["att_embed.0.weight"] == (512, 2560)
    assert shapes["model.encoder.layers.5.feed_forward.w_1.weight"] == (2048, 512)
    assert shapes["model.decoder.layers.5.src_attn.linears.3.weight"] == (512, 512)
    assert shapes["model.generator.proj.weight"] == (9488, 512)
    assert "model.encoder.layers.6.feed_forward.w_1.weight" not in shapes
    assert PRESETS["published"] == CaptionerConfig()
    assert (CaptionerConfig().heads, CaptionerConfig().dropout, CaptionerConfig().cell_dropout) == (8, 0.1, 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hiden": 3}, "unknown key 'model.hiden' for captioner; did you mean 'hidden'"),
        ({"preset": "huge"}, "unknown captioner preset 'huge'"),
        ({"norm": "batch"}, "'model.norm' must be published or standard, not 'batch'"),
        ({"heads": 7}, "'model.hidden' must be a multiple of 'model.heads'"),
        ({"hidden": 9, "heads": 3}, "'model.hidden' must be even"),
        ({"cell_dropout": 1.0}, "'model.cell_dropout' must be at least 0 and below 1"),
        ({"decoder_layers": 0}, "'model.decoder_layers' must be larger"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(settings, words=9, channels=6)


def test_a_caption_longer_than_the_places_is_named() -> None:
    with pytest.raises(DataError, match=f"a caption of {LONGEST + 1} words, more than the {LONGEST}"):
        small()(torch.randn(1, 2, 6), torch.ones(1, LONGEST + 1, dtype=torch.int64))
