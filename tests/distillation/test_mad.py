from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from clipvil.distillation import Curriculum, Distiller, Tap
from clipvil.distillation.mad import ramp
from clipvil.distillation.settings import DistillationChoice, RampChoice
from clipvil.errors import RecipeError
from tests.distillation.world import Bench, Pictures, choice_of, gradients, records, teacher

ROWS = [3, 0, 7, 11, 5, 20]
NAIVE = {"confidence": "constant", "selection": {"policy": "all", "stop_words": True}}


def plain(bench: Bench) -> dict[str, torch.Tensor]:
    bench.model.zero_grad()
    bench.task.loss(bench.model, bench.batch(ROWS)).backward()
    return gradients(bench.model)


def test_weight_zero_leaves_the_gradients_of_plain_fine_tuning_to_the_bit() -> None:
    bench = Bench()
    expected = plain(bench)
    bench.model.zero_grad()
    loss, distilled = bench.losses(ROWS)
    (loss + 0.0 * distilled).backward()
    found = gradients(bench.model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_no_confidence_in_any_example_is_plain_fine_tuning_too() -> None:
    bench = Bench()
    expected = plain(bench)
    told = bench.told(ROWS)
    told["teach.weight"] = torch.zeros_like(told["teach.weight"])
    bench.model.zero_grad()
    loss, distilled = bench.losses(ROWS, told)
    (loss + distilled).backward()
    assert all(torch.equal(value, expected[name]) for name, value in gradients(bench.model).items())


def test_constant_confidence_and_all_tokens_is_naive_distillation() -> None:
    bench = Bench(**NAIVE)
    _, found = bench.losses(ROWS)
    batch, curriculum, terms = bench.batch(ROWS), bench.curriculum, bench.choice.terms
    states = bench.model(batch["question"], batch["length"], batch["cells"], None, batch["shapes"]).sequence
    length = batch["question"].shape[1]
    heads, said = bench.distiller.heads, curriculum.said[0]
    assert said is not None
    told = bench.told(ROWS)
    expected = torch.zeros(())
    for row, number in enumerate(ROWS):
        distance = nn.functional.cosine_similarity
        pooled = 2 - 2 * distance(heads["0-pooled"](states[row, 0]), told["teach.0.pooled"][row], dim=0)
        text = int(curriculum.text[number])
        words = []
        for word in range(int(curriculum.counts[text])):
            place = int(curriculum.begins[text]) + word
            own = states[row, int(curriculum.token_begin[place]) : int(curriculum.token_end[place])].mean(0)
            words.append(
                2 - 2 * distance(heads["0-text"](own), said.words[int(said.begins[text]) + word].float(), dim=0)
            )
        joint = bench.curriculum.teachers[0].joint
        assert joint is not None
        theirs = joint(bench.pictures.cells[number])
        cells = 2 - 2 * distance(heads["0-vision"](states[row, length:]), theirs, dim=1)
        expected = expected + pooled + terms.text * torch.stack(words).mean() + terms.vision * cells.mean()
    torch.testing.assert_close(found, expected / len(ROWS))


def test_selection_matches_less_than_everything() -> None:
    assert Bench(**NAIVE).told(ROWS)["teach.cells"].shape == (6, 12)
    assert Bench().told(ROWS)["teach.cells"].shape == (6, 4)  # 0.3 of 12, rounded up


def test_neither_the_order_of_a_batch_nor_what_else_is_in_it_changes_a_lesson() -> None:
    bench = Bench()
    together, alone = bench.told(ROWS), bench.told(ROWS[2:3])
    for name, value in alone.items():
        other = together[name][2]
        if name == "teach.words":
            width = value.shape[2]
            shares = together["teach.words.share"][2]
            assert torch.equal(other[shares > 0][:, :width], value[0][alone["teach.words.share"][0] > 0])
        elif name in ("teach.words.share", "teach.0.text"):
            used = together["teach.words.share"][2] > 0
            assert torch.equal(other[used], value[0][alone["teach.words.share"][0] > 0])
        else:
            torch.testing.assert_close(other, value[0])


def test_student_keys_and_outputs_are_those_without_teachers() -> None:
    bench = Bench()
    keys, batch = list(bench.model.state_dict()), bench.batch(ROWS)
    inputs = (batch["question"], batch["length"], batch["cells"], None, batch["shapes"])
    optimiser = torch.optim.SGD([*bench.model.parameters(), *bench.distiller.parameters()], lr=0.1)
    loss, distilled = bench.losses(ROWS)
    (loss + distilled).backward()
    optimiser.step()
    assert list(bench.model.state_dict()) == keys
    assert not any(hooks for module in bench.model.modules() for hooks in (module._forward_hooks,))
    fresh = copy.deepcopy(bench.task).build({"name": "clip_vil_p", "preset": "mini"}, bench.pictures.spec)
    fresh.load_state_dict(bench.model.state_dict())
    with torch.no_grad():
        before = bench.model.eval()(*inputs).logits
        del bench.distiller, bench.curriculum
        assert torch.equal(bench.model(*inputs).logits, before)
        assert torch.equal(fresh.eval()(*inputs).logits, before)


def test_teachers_learn_nothing() -> None:
    bench = Bench()
    loss, distilled = bench.losses(ROWS)
    (loss + distilled).backward()
    one = bench.curriculum.teachers[0]
    assert one.texts is not None and one.joint is not None
    modules = [one.texts.text.module, *(step for step in one.joint.steps if isinstance(step, nn.Module))]  # type: ignore[attr-defined]
    assert all(p.grad is None and not p.requires_grad for module in modules for p in module.parameters())
    assert not any(value.requires_grad for value in bench.told(ROWS).values())


def test_distillation_brings_the_student_nearer_and_a_shuffled_teacher_does_not() -> None:
    def trained(steps: int, **values: Any) -> float:
        terms, targets = {"global": 0, "text": 0, "vision": 1}, {"standardise": True}
        values["selection"] = {"policy": "all"}
        bench = Bench(records(144), terms=terms, targets=targets, confidence="constant", seed=5, **values)
        optimiser = torch.optim.Adam([*bench.model.parameters(), *bench.distiller.parameters()], lr=3e-3)
        for step in range(steps):
            optimiser.zero_grad()
            bench.losses([(step * 24 + place) % 120 for place in range(24)])[1].backward()
            optimiser.step()
        # On examples that were not trained on: what is without rule can be learnt by heart.
        with torch.no_grad():
            return bench.losses(range(120, 144))[1].item()

    start, right, wrong = trained(0), trained(40), trained(40, shuffled=True)
    assert right < start - 0.3
    assert right < wrong - 0.3


def test_the_shuffled_control_gives_each_lesson_another_ones_teacher() -> None:
    own, other = Bench(), Bench(shuffled=True)
    assert sorted(other.curriculum.partner.tolist()) == list(range(24))  # type: ignore[union-attr]
    a, b = own.told(range(24)), other.told(range(24))
    assert not (a["teach.0.pooled"] == b["teach.0.pooled"]).all(1).any()
    assert a["teach.gold"].tolist() == b["teach.gold"].tolist()


@pytest.mark.parametrize("form", ["correctness", "entropy", "margin", "alignment", "relative"])
def test_every_form_of_confidence_gives_a_finite_loss(form: str) -> None:
    loss, distilled = Bench(confidence=form).losses(ROWS)
    assert torch.isfinite(loss) and torch.isfinite(distilled)


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "info_nce", "head": "mlp"},
        {"targets": {"pooled": "concat", "cells": "layer", "standardise": True}},
        {"selection": {"word_score": "leave_one_out", "shares": "relevance"}},
        {"selection": {"text": "random", "vision": "random", "policy": "sample"}},
        {"terms": {"global": 0, "text": 0}},
    ],
)
def test_the_named_options_work(values: dict[str, Any]) -> None:
    bench = Bench(**values)
    _, distilled = bench.losses(ROWS)
    distilled.backward()
    assert torch.isfinite(distilled)
    assert all(p.grad is not None for p in bench.distiller.parameters())


def test_grids_of_another_size_are_brought_to_the_students() -> None:
    bench = Bench()
    from clipvil.distillation import StudentCells

    told = bench.curriculum.batch(torch.tensor(ROWS), 0, StudentCells(torch.tensor([[2, 2]] * 6)))
    assert told["teach.cells"].max() < 4
    mixed = bench.curriculum.batch(
        torch.tensor(ROWS),
        0,
        StudentCells(
            torch.tensor([[2, 2]] * 5 + [[3, 4]]), mask=(torch.arange(12) < torch.tensor([4] * 5 + [12])[:, None])
        ),
    )
    torch.testing.assert_close(mixed["teach.0.vision"][0, :2], told["teach.0.vision"][0, :2])
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0]] * 2] * 6)
    regions = bench.curriculum.batch(torch.tensor(ROWS), 0, StudentCells(torch.tensor([[2, 1]] * 6), boxes))
    joint = bench.curriculum.teachers[0].joint
    assert joint is not None
    torch.testing.assert_close(regions["teach.0.vision"][0, 0], joint(bench.pictures.cells[ROWS[0]]).mean(0))


def test_a_mixture_has_heads_and_shares_of_each_teacher() -> None:
    train, bench = records(), Bench()
    choice = DistillationChoice.model_validate(
        {"weight": 1, "teachers": [{"weight": 3}, {"encoder": "mini/annotated", "text": False}]}
    )
    both = [teacher(bench.pictures), teacher(Pictures(24, seed=9, shape=(2, 2)), text=False)]
    curriculum = Curriculum(bench.task.teacher_inputs(train), both, choice)
    distiller = Distiller(bench.model, bench.distiller.taps.taps, curriculum.widths(), choice)
    assert sorted(distiller.heads) == ["0-pooled", "0-text", "0-vision", "1-pooled", "1-vision"]
    assert distiller.shares == [0.75, 0.25]
    bench.curriculum, bench.distiller = curriculum, distiller
    assert torch.isfinite(bench.losses(ROWS)[1])


def test_what_no_teacher_can_say_is_refused_in_one_line() -> None:
    bench = Bench()
    lessons = bench.task.teacher_inputs(records())
    with pytest.raises(RecipeError, match=r"selection\.vision.*both towers"):
        Curriculum(lessons, [teacher(bench.pictures, text=False)], choice_of(terms={"text": 0}))
    with pytest.raises(RecipeError, match=r"terms\.text"):
        Curriculum(lessons, [teacher(bench.pictures, text=False)], choice_of())
    with pytest.raises(RecipeError, match=r"confidence.*constant"):
        selection = {"policy": "all"}
        Curriculum(lessons, [teacher(bench.pictures, text=False)], choice_of(terms={"text": 0}, selection=selection))
    with pytest.raises(RecipeError, match="no module 'nowhere'"):
        Distiller(bench.model, {"pooled": Tap("nowhere", 4)}, [{"pooled": 4}], bench.choice)
    with pytest.raises(RecipeError, match="no such tap"):
        Distiller(bench.model, {"pooled": Tap("body", 4)}, [{"text": 4}], bench.choice)


def test_any_module_can_be_distilled_into() -> None:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    bench = Bench(terms={"text": 0, "vision": 0}, confidence="constant")
    choice = bench.choice
    distiller = Distiller(student, {"pooled": Tap("1", 8)}, bench.curriculum.widths(), choice)
    optimiser = torch.optim.Adam([*student.parameters(), *distiller.parameters()], lr=0.02)
    inputs, numbers, seen = torch.randn(24, 6), torch.arange(24), []
    for _ in range(30):
        with distiller.reading({}):
            loss = student(inputs).square().mean()
        loss = loss + distiller(bench.curriculum.batch(numbers, 0, None))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(loss.item())
    assert seen[-1] < 0.8 * seen[0]
    assert list(student.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_the_weight_rises_and_falls() -> None:
    schedule = RampChoice(warmup=0.1, decay_to=0.2)
    values = [ramp(schedule, step, 100) for step in range(101)]
    assert values[0] == pytest.approx(0.1) and values[9] == values[10] == 1
    assert values[100] == pytest.approx(0.2) and sorted(values[10:], reverse=True) == values[10:]
    assert ramp(RampChoice(warmup=0, decay_to=1), 0, 10) == 1
