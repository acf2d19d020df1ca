from __future__ import annotations

import pytest
import torch
from torch import nn

from clipvil.training.optim import (
    create_optimiser,
    create_optimisers,
    is_spared,
    learning_rate_factor,
    set_learning_rate,
)
from clipvil.training.recipe import OptimiserChoice, Recipe, ScheduleChoice

PYTHIA = ScheduleChoice(
    name="multistep",
    steps=22000,
    warmup_steps=1000,
    warmup_from=0.2,
    milestones=(15000, 18000, 20000, 21000),
    gamma=0.1,
)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.2), (500, 0.6), (999, 0.9992), (1000, 1.0), (14999, 1.0), (15000, 0.1), (17999, 0.1), (18000, 0.01),
        (20000, 1e-3), (20999, 1e-3), (21000, 1e-4), (21999, 1e-4),
    ],
)  # fmt: skip
def test_the_published_pythia_schedule(step: int, factor: float) -> None:
    assert learning_rate_factor(PYTHIA, step) == pytest.approx(factor, rel=1e-12)


def test_cosine_goes_from_one_to_final() -> None:
    schedule = ScheduleChoice(name="cosine", steps=110, warmup_steps=10, final=0.1)
    assert learning_rate_factor(schedule, 0) == 0.0
    assert learning_rate_factor(schedule, 10) == 1.0
    assert learning_rate_factor(schedule, 60) == pytest.approx(0.55)
    assert learning_rate_factor(schedule, 110) == pytest.approx(0.1)
    assert learning_rate_factor(schedule, 10**6) == pytest.approx(0.1)


def test_constant_stays() -> None:
    schedule = ScheduleChoice(name="constant", steps=5)
    assert {learning_rate_factor(schedule, step) for step in range(9)} == {1.0}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adamax", "Adamax"), ("adamw", "AdamW"), ("adam", "Adam"), ("sgd", "SGD")],
)
def test_each_optimiser_moves_the_weights_with_the_rate_it_is_given(name: str, kind: str) -> None:
    layer = nn.Linear(3, 1)
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    optimiser = create_optimiser(
        OptimiserChoice(name=name, lr=0.5), {**dict(layer.named_parameters()), "frozen": frozen}
    )  # type: ignore[arg-type]
    assert type(optimiser).__name__ == kind
    before = layer.weight.detach().clone()
    layer(torch.ones(1, 3)).sum().backward()
    set_learning_rate(optimiser, 0.0)
    optimiser.step()
    assert torch.equal(layer.weight, before)
    set_learning_rate(optimiser, 0.5)
    optimiser.step()
    assert not torch.equal(layer.weight, before)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 2


def test_options_reach_the_optimiser() -> None:
    choice = OptimiserChoice(name="adamax", lr=0.01, betas=(0.8, 0.9), eps=1e-4, weight_decay=0.3)
    defaults = create_optimiser(choice, dict(nn.Linear(1, 1).named_parameters())).defaults
    assert (defaults["betas"], defaults["eps"], defaults["weight_decay"]) == ((0.8, 0.9), 1e-4, 0.3)
    momentum = create_optimiser(OptimiserChoice(name="sgd", momentum=0.9), dict(nn.Linear(1, 1).named_parameters()))
    assert momentum.defaults["momentum"] == 0.9


def test_noam_rises_to_its_peak_and_falls_with_the_root_of_the_steps() -> None:
    schedule = ScheduleChoice(name="noam", steps=170_000, warmup_steps=20_000, d_model=512)
    factors = [learning_rate_factor(schedule, update - 1) for update in (1, 10_000, 20_000, 80_000)]
    peak = (512 * 20_000) ** -0.5
    assert factors == pytest.approx([peak / 20_000, peak / 2, peak, peak / 2], rel=1e-12)
    assert peak == pytest.approx(3.125e-4)
    with pytest.raises(ValueError, match="needs warmup_steps"):
        ScheduleChoice(name="noam", steps=5)


@pytest.mark.parametrize("update", [0, 1, 7, 8, 150, 309])
def test_linear_is_the_published_schedule_with_a_warm_up_that_is_not_whole(update: int) -> None:
    schedule = ScheduleChoice(name="linear", steps=310, warmup_ratio=0.025)
    # transformers' rule by hand; the warm-up lasts 7.75 updates.
    published = update / 7.75 if update < 7.75 else (310 - update) / (310 - 7.75)
    assert learning_rate_factor(schedule, update) == pytest.approx(published, rel=1e-12)


def test_the_encoder_has_its_own_optimiser_rate_and_schedule() -> None:
    recipe = Recipe.from_values(
        {
            "optimiser": {"name": "bert_adamw", "lr": 0.5, "weight_decay": 0.01, "no_decay": ["vectors"]},
            "schedule": {"name": "linear", "steps": 10, "warmup_ratio": 0.25},
            "trunk": {
                "optimiser": {"name": "sgd", "lr": 0.003, "weight_decay": 4e-4},
                "schedule": {"name": "multistep", "milestones": [4, 8]},
            },
        }
    )
    model = nn.ModuleDict({"trunk": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    optimisers = create_optimisers(recipe, model)
    assert [(part.name, type(part.optimiser).__name__) for part in optimisers.parts] == [
        ("model", "BertAdamW"), ("trunk", "SGD"),
    ]  # fmt: skip
    assert optimisers.set_rates(0) == {"model": 0.0, "trunk": 0.003}
    assert optimisers.set_rates(5)["trunk"] == pytest.approx(0.0003)
    decays = [[group["weight_decay"] for group in optimiser.param_groups] for optimiser in optimisers]
    assert decays == [[0.01, 0.0], [4e-4]]
    # Without a section of its own the encoder has what the rest has; without an encoder there is one part.
    plain = create_optimisers(Recipe(), model)
    assert [part.lr for part in plain.parts] == [1e-3, 1e-3]
    assert [part.name for part in create_optimisers(Recipe(), nn.Linear(1, 1)).parts] == ["model"]


@pytest.mark.parametrize(
    ("rules", "spared"),
    [((), []), (("vectors",), ["0.bias", "1.weight", "1.bias"]), (("bias", "LayerNorm.weight"), ["0.bias", "1.bias"])],
)
def test_what_weight_decay_leaves_alone(rules: tuple[str, ...], spared: list[str]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    assert [name for name, p in model.named_parameters() if is_spared(name, p, rules)] == spared
