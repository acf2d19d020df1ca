"""Learning rates and optimisers against the recorded traces of the original."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from clipvil.tasks.pretraining_losses import counted_terms
from clipvil.training.bert_adam import BertAdamW
from clipvil.training.optim import create_optimiser, is_spared, learning_rate_factor
from clipvil.training.recipe import OptimiserChoice, ScheduleChoice
from tests.models.recorded_clip_vil_p import case, off, published_name, recorded, with_trunk
from tests.shared import shared


def read(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(shared("fixtures", "clipvil_p", name).read_text())
    return value


PUBLISHED_NO_DECAY = ("bias", "LayerNorm.weight")
"""By the published names: `visn_layer_norm.weight` and the answer head's normalisation are decayed."""


def schedules(chosen: dict[str, Any]) -> tuple[ScheduleChoice, ScheduleChoice, int]:
    """The recipe's schedules of text and encoder that say what the trace's settings say, and updates an epoch.

    The published total is rounded down over all epochs; what is left over at an epoch's end waits for the next one.
    """
    micro, epochs, accumulation = (chosen[key] for key in ("micro_batches_per_epoch", "epochs", "accumulation"))
    total, epoch = micro * epochs // accumulation, micro // accumulation
    milestones = [epoch * milestone for milestone in chosen["sgd_milestones"]]
    return (
        ScheduleChoice(name="linear", steps=total, warmup_ratio=chosen["warmup_ratio"]),
        ScheduleChoice(name="multistep", steps=total, milestones=milestones),
        epoch,
    )


@pytest.mark.parametrize("name", ["stage_one_like", "stage_two_like", "vqa_like", "no_warmup", "long_warmup"])
def test_learning_rates_are_the_recorded_ones(name: str) -> None:
    trace = read("lr_traces.json")["traces"][name]
    chosen = trace["settings"]
    linear, multistep, epoch = schedules(chosen)
    assert linear.warmup_ratio is not None
    assert (linear.steps, linear.steps * linear.warmup_ratio) == (
        trace["total_updates_in_schedule"],
        trace["warmup_updates"],
    )
    assert epoch * chosen["epochs"] == trace["updates_done"]
    rates = [
        chosen["adamw_peak_lr"] * learning_rate_factor(linear, update) for update in range(trace["updates_done"] + 1)
    ]
    assert rates == pytest.approx([*trace["adamw_lr_at_update"], trace["adamw_lr_after_last_update"]], rel=1e-12)
    sgd = [chosen["sgd_lr"] * learning_rate_factor(multistep, epoch * place) for place in range(chosen["epochs"])]
    assert sgd == pytest.approx(trace["sgd_lr_at_epoch"], rel=1e-12)


def test_every_recorded_trace_has_a_test() -> None:
    assert len(read("lr_traces.json")["traces"]) == 5


@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_optimisers_train_as_recorded(checkpointing: bool) -> None:
    """Eight micro-batches, four updates: losses, gradient norms, rates and every final weight and statistic."""
    trace, chosen = read("train_trace.json"), read("train_trace.json")["settings"]
    model, kind = with_trunk("pretrain", norm="per_device", checkpointing=checkpointing)
    off(model.train())
    own = {published_name(kind, name): p for name, p in model.named_parameters() if not name.startswith("trunk.")}
    choice = OptimiserChoice(
        name="bert_adamw", betas=chosen["adam_betas"], eps=chosen["adam_eps"],
        weight_decay=chosen["adamw_weight_decay"], no_decay=PUBLISHED_NO_DECAY,
    )  # fmt: skip
    adam, names = create_optimiser(choice, own), {id(p): name for name, p in own.items()}
    for group, key in zip(adam.param_groups, ("adamw_with_decay", "adamw_without_decay"), strict=True):
        # The original also hands its optimiser the branch for boxes, which no gradient ever reaches.
        theirs = {name for name in trace["parameter_groups"][key] if "visn_fc.box_" not in name}
        assert {names[id(p)] for p in group["params"]} == theirs
    slow_choice = OptimiserChoice(name="sgd", momentum=chosen["sgd_momentum"], weight_decay=chosen["sgd_weight_decay"])
    sgd = create_optimiser(slow_choice, dict(model.trunk.named_parameters()))
    accumulation, micro = chosen["accumulation"], chosen["micro_batches_per_epoch"]
    (linear, multistep, _), update = schedules(chosen), 0
    for step in range(chosen["epochs"] * micro):
        place = step % micro
        given = case("train_trace", f"micro_{place}")
        pixels = recorded("pixels")[("landscape", "portrait")[place % 2]]
        text = given["input_ids"], given["attention_mask"]
        out = model.head(*text, *model.grids(pixels), segments=given["segment_ids"])
        assert out.mlm is not None and out.itm is not None
        terms = counted_terms(
            {
                "mlm": (out.mlm, given["mlm_labels"]),
                "itm": (out.itm, given["matching_labels"]),
                "qa": (out.logits, given["qa_labels"]),
            }
        )
        found = [*terms.over(terms.weights).tolist(), terms.value().item()]
        assert found == pytest.approx(trace["micro_losses_mlm_matching_qa_total"][step], rel=1e-5)
        (terms.value() / accumulation).backward()
        if (place + 1) % accumulation:
            continue
        expected = trace["updates"][update]
        norm = nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], chosen["max_grad_norm"])
        assert norm.item() == pytest.approx(expected["grad_norm_before_clip"], rel=1e-5)
        rate = chosen["adamw_lr"] * learning_rate_factor(linear, update)
        slow = chosen["sgd_lr"] * learning_rate_factor(multistep, update)
        assert (rate, slow) == pytest.approx((expected["adamw_lr"], expected["sgd_lr"]), rel=1e-12)
        for optimiser, value in ((adam, rate), (sgd, slow)):
            for group in optimiser.param_groups:
                group["lr"] = value
            optimiser.step()
            optimiser.zero_grad()
        _check_weights(model, kind, f"after_update_{update}/")
        update += 1
    assert update == len(trace["updates"])
    assert _check_weights(model, kind, "final/") > 100
    columns = trace["final_statistics_float64_run"]
    for name, value in model.named_parameters():
        published = published_name(kind, name)
        if published in columns and ".attention.self.key.bias" not in published:
            total_, length, _ = columns[published]
            assert value.detach().double().norm().item() == pytest.approx(length, rel=1e-4, abs=1e-6), name
            assert value.detach().double().sum().item() == pytest.approx(total_, rel=1e-4, abs=2e-3), name


def _check_weights(model: nn.Module, kind: Any, prefix: str) -> int:
    """Compare what was recorded under a prefix; returns how many tensors that is."""
    tensors, count = recorded("train_trace"), 0
    for name, value in model.state_dict().items():
        expected = tensors.get(prefix + published_name(kind, name))
        if expected is not None:
            assert torch.allclose(value.to(expected.dtype), expected, rtol=0, atol=3e-5), name
            count += 1
    assert count == sum(key.startswith(prefix) for key in tensors)
    return count


def test_it_is_not_the_adamw_of_torch() -> None:
    moved = []
    for kind in (BertAdamW, torch.optim.AdamW):
        parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
        optimiser = kind([parameter], lr=0.1, betas=(0.9, 0.999), eps=1e-2, weight_decay=0.1)
        for _ in range(3):
            parameter.grad = torch.tensor([0.01, 0.02])
            optimiser.step()
        moved.append(parameter.detach())
    assert not torch.allclose(moved[0], moved[1], atol=1e-3)


def test_one_step_by_hand() -> None:
    parameter = nn.Parameter(torch.tensor([2.0]))
    optimiser = BertAdamW([parameter], lr=0.5, betas=(0.9, 0.99), eps=0.1, weight_decay=0.2)
    parameter.grad = torch.tensor([3.0])
    optimiser.step()
    mean, square = 0.1 * 3, 0.01 * 9
    moved = 2 - 0.5 * (0.01**0.5 / 0.1) * mean / (square**0.5 + 0.1)
    assert parameter.item() == pytest.approx(moved * (1 - 0.5 * 0.2), rel=1e-6)
    optimiser.step(lambda: 3.0)
    other = nn.Parameter(torch.tensor([1.0]))
    again = BertAdamW([other])
    again.load_state_dict(optimiser.state_dict())
    assert again.state[other]["step"] == 2
    with pytest.raises(ValueError, match="betas"):
        BertAdamW([other], betas=(1.0, 0.9))


def test_parameters_without_gradient_are_left_alone() -> None:
    with_gradient, without = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimiser = BertAdamW([with_gradient, without], lr=0.1, weight_decay=0.5)
    with_gradient.grad = torch.ones(2)
    optimiser.step()
    assert torch.equal(without, torch.ones(2)) and not torch.equal(with_gradient, torch.ones(2))


def test_what_decays() -> None:
    matrix, vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    assert not is_spared("body.text.words.weight", matrix, ["vectors"])
    for name in ("body.text.norm.weight", "heads.answers.norm.weight", "body.blocks.0.wide.bias"):
        assert is_spared(name, vector, ["vectors"])
    assert is_spared("body.blocks.0.norm_feed.weight", vector, ["vectors"])
    assert not is_spared("bert.encoder.visn_fc.visn_layer_norm.weight", vector, PUBLISHED_NO_DECAY)
    assert not is_spared("logit_fc.2.weight", vector, PUBLISHED_NO_DECAY)
    assert is_spared("bert.embeddings.LayerNorm.weight", vector, PUBLISHED_NO_DECAY)
