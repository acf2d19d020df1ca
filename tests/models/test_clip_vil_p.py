"""CLIP-ViL_p against the recorded outputs, and its own promises: one projection a picture, masks, drawn cells."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from clipvil.errors import DataError, RecipeError
from clipvil.models.clip_vil_p import ClipVilP, ClipVilPModel, build
from clipvil.models.clip_vil_p_config import PRESETS, ClipVilPConfig, configure_clip_vil_p
from clipvil.models.clip_vil_p_layers import GridEmbeddings
from tests.models.recorded_clip_vil_p import PIXELS, PRETRAIN_CASES, case, recorded, with_trunk

SMALL = ClipVilPConfig(hidden=16, heads=4, layers=2, feed_forward=32, dropout=0.0, text_positions=24, grid_positions=6)
WORDS, CHANNELS = 30, 8


def small(**changes: object) -> ClipVilP:
    torch.manual_seed(0)
    body = ClipVilP(dataclasses.replace(SMALL, **changes), WORDS, CHANNELS)
    for parameter in body.parameters():  # away from the start, where zeros and ones hide mistakes
        torch.nn.init.normal_(parameter, std=0.3)
    return body


def batch(sentences: int, pictures: int, rows: int = 2, columns: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(1)
    tokens = torch.randint(5, WORDS, (sentences, 7))
    return {
        "tokens": tokens,
        "token_mask": torch.arange(7) < torch.randint(3, 8, (sentences, 1)),
        "cells": torch.randn(pictures, rows * columns, CHANNELS),
        "shapes": torch.tensor([[rows, columns]] * pictures),
    }


def read(body: ClipVilP, given: dict[str, Tensor], **more: Tensor | None) -> tuple[Tensor, Tensor]:
    values: dict[str, Tensor | None] = {"cell_mask": None, "picture": None, **given, **more}
    names = ("tokens", "token_mask", "cells", "cell_mask", "shapes", "picture")
    return body(*[values.pop(name) for name in names], **values)


@pytest.mark.parametrize("name", PRETRAIN_CASES)
def test_pretraining_outputs_are_the_recorded_ones(name: str) -> None:
    model, _ = with_trunk("pretrain")
    expected = case("pretrain_cases", name)
    with torch.no_grad():
        found = model.eval().head(
            expected["input_ids"],
            expected["attention_mask"],
            *model.grids(recorded("pixels")[PIXELS.get(name, name)]),
            segments=expected["segment_ids"],
            chosen=expected.get("sampled_index"),
        )
    for ours, theirs in (
        ("sequence", "sequence_output"), ("pooled", "pooled_output"), ("mlm", "mlm_logits"),
        ("itm", "matching_logits"), ("answers", "qa_logits"),
    ):  # fmt: skip
        assert torch.allclose(getattr(found, ours), expected[theirs], rtol=1e-5, atol=2e-5), ours


@pytest.mark.parametrize("name", ["landscape", "portrait"])
def test_inner_steps_are_the_recorded_ones(name: str) -> None:
    model, _ = with_trunk("pretrain")
    expected, seen = case("pretrain_cases", name), []
    body = model.head.body
    for block in body.blocks:
        block.register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        model.eval()
        cells, mask, shapes = model.grids(recorded("pixels")[name])
        placed = body.grid.place(cells, shapes)
        projected = body.grid(cells, shapes)
        text = body.text(expected["input_ids"])
        body(expected["input_ids"], expected["attention_mask"], cells, mask, shapes)
    assert mask is None and shapes.tolist() == [list(expected["visual_grid"].shape[2:])] * 2
    assert torch.allclose(cells, expected["visual_grid"].flatten(2).transpose(1, 2), atol=1e-4)
    assert torch.allclose(placed, expected["visual_tokens"], atol=1e-4)
    assert torch.allclose(projected, expected["visual_embedding"], atol=2e-5)
    assert torch.allclose(text, expected["text_embedding"], atol=2e-5)
    for number, states in enumerate(seen):
        assert torch.allclose(states, expected[f"block_{number}_output"], atol=2e-5)


@pytest.mark.parametrize("name", ["landscape", "portrait"])
def test_fine_tuned_outputs_are_the_recorded_ones(name: str) -> None:
    model, _ = with_trunk("vqa")
    expected = case("vqa_cases", name)
    with torch.no_grad():
        grids = model.eval().grids(recorded("pixels")[name])
        found = model.head(expected["input_ids"], expected["attention_mask"], *grids)
    assert torch.allclose(found.sequence, expected["sequence_output"], atol=2e-5)
    assert torch.allclose(found.pooled, expected["pooled_output"], atol=2e-5)
    assert torch.allclose(found.logits, expected["logits"], atol=2e-5)
    assert found.mlm is None and found.itm is None


def test_sentences_about_one_picture_share_its_projection() -> None:
    body, given = small().eval(), batch(5, 2)
    picture = torch.tensor([0, 1, 1, 0, 1])
    counted: list[int] = []
    body.grid.project.register_forward_hook(lambda _m, inputs, _o: counted.append(len(inputs[0])))
    sequence, pooled = read(body, given, picture=picture)
    assert counted == [2]
    spread = {**given, "cells": given["cells"][picture], "shapes": given["shapes"][picture]}
    alone, alone_pooled = read(body, spread)
    assert torch.allclose(sequence, alone, atol=1e-6) and torch.allclose(pooled, alone_pooled, atol=1e-6)


def test_sentences_without_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="3 sentences and 2 pictures"):
        read(small(), batch(3, 2))


def test_masked_cells_change_nothing_and_published_reads_them() -> None:
    given = batch(2, 2)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[:, 4:] = False
    other = {**given, "cells": given["cells"].clone()}
    other["cells"][:, 4:] += 3
    sane, published = small().eval(), small(behaviour="published").eval()
    assert torch.allclose(read(sane, given, cell_mask=mask)[1], read(sane, other, cell_mask=mask)[1], atol=1e-6)
    first, second = read(published, given, cell_mask=mask)[1], read(published, other, cell_mask=mask)[1]
    assert not torch.allclose(first, second, atol=1e-3)
    assert torch.allclose(first, read(published, given)[1], atol=1e-6)


def test_what_fills_up_a_smaller_grid_is_never_seen() -> None:
    given = batch(2, 2)
    given["shapes"] = torch.tensor([[2, 3], [2, 2]])
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    for behaviour in ("sane", "published"):
        body = small(behaviour=behaviour).eval()
        both = read(body, given, cell_mask=mask)[0]
        one = {name: value[1:] for name, value in given.items()}
        one["cells"] = one["cells"][:, :4]
        alone = read(body, one)[0]
        assert torch.allclose(both[1:, : 7 + 4], alone, atol=1e-6)


def test_text_padding_is_never_seen() -> None:
    body, given = small().eval(), batch(3, 3)
    other = {**given, "tokens": torch.where(given["token_mask"], given["tokens"], 3)}
    assert torch.allclose(read(body, given)[1], read(body, other)[1], atol=1e-6)


def test_cells_are_drawn_for_each_sentence_in_training_alone() -> None:
    body, given = small(keep_cells=3), batch(4, 1)
    picture = torch.zeros(4, dtype=torch.int64)
    mask = torch.tensor([[True, True, True, True, False, False]])
    body.train()
    drawn = [body._draw(4, 6, mask, picture) for _ in range(40)]
    index = torch.cat([one for one in drawn if one is not None])
    assert index.shape == (160, 3)
    assert (index.sort(dim=1).values.diff(dim=1) > 0).all(), "a cell was drawn twice"
    assert set(index.unique().tolist()) == {0, 1, 2, 3}, "padding was drawn, or a cell never"
    assert not torch.equal(index[0:4], index[0:1].expand(4, -1)), "sentences share one draw"
    assert read(body, given, picture=picture)[0].shape == (4, 7 + 3, 16)
    assert read(body.eval(), given, picture=picture)[0].shape == (4, 7 + 6, 16)
    published = small(keep_cells=3, behaviour="published").eval()
    assert read(published, given, picture=picture)[0].shape == (4, 7 + 3, 16)


def test_too_few_real_cells_stay_masked() -> None:
    body, given = small(keep_cells=3).train(), batch(2, 2)
    mask = torch.tensor([[True, True, False, False, False, False]] * 2)
    torch.manual_seed(3)
    first = read(body, given, cell_mask=mask)[1]
    given["cells"][:, 2:] += 5
    torch.manual_seed(3)
    assert torch.allclose(first, read(body, given, cell_mask=mask)[1], atol=1e-6)


def test_the_pooler_has_a_tanh_only_where_it_should() -> None:
    given = batch(2, 2)
    _, sane = read(small().eval(), given)
    _, published = read(small(behaviour="published").eval(), given)
    _, linear = read(small(pooler="linear").eval(), given)
    assert torch.allclose(published.tanh(), sane, atol=1e-6) and torch.allclose(published, linear, atol=1e-6)
    assert not torch.allclose(published, sane, atol=1e-3)


@pytest.mark.parametrize("behaviour", ["sane", "published"])
def test_first_rows_of_the_text_tables_learn_only_in_the_sane_behaviour(behaviour: str) -> None:
    body = small(behaviour=behaviour)
    read(body, batch(2, 2))[1].square().sum().backward()
    for table in (body.text.positions, body.text.segments):
        assert table.weight.grad is not None
        assert bool(table.weight.grad[0].abs().sum() > 0) == (behaviour == "sane")


def test_checkpointing_changes_no_gradient() -> None:
    found = []
    for checkpointing in (False, True):
        body = small(checkpointing=checkpointing, dropout=0.2).train()
        torch.manual_seed(5)
        read(body, batch(2, 2))[1].square().sum().backward()
        found.append([p.grad for p in body.parameters()])
    for plain, again in zip(*found, strict=True):
        assert (plain is None and again is None) or torch.equal(plain, again)


def test_a_larger_grid_is_stretched_over_the_table_or_refused() -> None:
    sane, published = (
        GridEmbeddings(SMALL, CHANNELS),
        GridEmbeddings(dataclasses.replace(SMALL, behaviour="published"), 8),
    )
    shapes = torch.tensor([[1, 11]])
    placed = sane.place(torch.zeros(1, 11, CHANNELS), shapes)
    table = sane.columns.weight
    assert torch.allclose(placed[0, 0] - sane.rows.weight[0], table[0], atol=1e-6)
    assert torch.allclose(placed[0, 10] - sane.rows.weight[0], table[5], atol=1e-6)
    assert torch.allclose(placed[0, 5] - sane.rows.weight[0], (table[2] + table[3]) / 2, atol=1e-6)
    with pytest.raises(DataError, match="published model knows 6"):
        published.place(torch.zeros(1, 11, CHANNELS), shapes)


def test_building_follows_the_presets_and_refuses_what_cannot_be() -> None:
    base = configure_clip_vil_p({})
    assert (base.layers, base.hidden, base.heads, base.feed_forward, base.behaviour) == (12, 768, 12, 3072, "sane")
    assert configure_clip_vil_p({"preset": "mini", "name": "clip_vil_p"}) == PRESETS["mini"]
    with pytest.raises(RecipeError, match="did you mean 'keep_cells'"):
        configure_clip_vil_p({"keep_cell": 3})
    with pytest.raises(RecipeError, match="multiple"):
        configure_clip_vil_p({"heads": 7})
    with pytest.raises(RecipeError, match="no head 'match'"):
        build({"preset": "mini"}, words=9, channels=4, answers=2, heads=("match",))
    with pytest.raises(DataError, match="30 word pieces"):
        read(small(), {**batch(1, 1), "tokens": torch.zeros(1, 30, dtype=torch.int64), "token_mask": torch.ones(1, 30)})


def test_base_starts_as_bert_does() -> None:
    torch.manual_seed(0)
    model = ClipVilPModel(dataclasses.replace(SMALL, hidden=256, heads=4), words=400, channels=64, answers=50)
    weight = model.body.blocks[0].wide.weight
    assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(model.heads["answers"].out.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not model.heads["answers"].out.bias.any() and not model.heads["mlm"].bias.any()
    assert torch.equal(model.body.text.norm.weight, torch.ones(256))


def test_the_word_head_reads_the_word_table() -> None:
    model = ClipVilPModel(SMALL, words=WORDS, channels=CHANNELS, answers=3)
    given = batch(2, 2)
    out = model(given["tokens"], given["token_mask"], given["cells"], None, given["shapes"], heads=("mlm",))
    assert out.mlm is not None and out.mlm.shape == (2, 7, WORDS) and out.answers is None
    assert sum(p.shape == (WORDS, 16) for p in model.parameters()) == 1
    chosen = given["token_mask"]
    assert torch.allclose(model.words_at(out.sequence[:, :7][chosen]), out.mlm[chosen], atol=1e-6)
    with pytest.raises(DataError, match="no answer head"):
        _ = out.logits


def test_half_precision_trains() -> None:
    """bf16 autocast, as accelerate runs it, and a whole model in bf16."""
    for whole in (False, True):
        body, given = small(keep_cells=4).train(), batch(3, 1)
        picture = torch.zeros(3, dtype=torch.int64)
        if whole:
            body.bfloat16()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not whole):
            sequence, pooled = read(body, given, picture=picture)
        pooled.float().square().sum().backward()
        assert sequence.shape == (3, 11, 16) and bool(pooled.isfinite().all())
        assert body.grid.rows.weight.grad is not None and bool(body.grid.rows.weight.grad.abs().sum() > 0)


def test_positions_are_projected_as_if_they_stood_on_the_cells() -> None:
    grid = small(normalise=True).grid
    cells, shapes = torch.randn(2, 12, CHANNELS), torch.tensor([[3, 4], [1, 11]])
    expected = grid.norm(grid.project(grid.place(cells, shapes)))
    assert torch.allclose(grid(cells, shapes), expected, atol=1e-5)
