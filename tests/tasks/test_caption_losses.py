from __future__ import annotations

import math

import pytest
import torch

from clipvil.convert.clip_vil_captioner import source_name
from clipvil.tasks.caption_losses import advantages, cross_entropy, self_critical, token_mask
from clipvil.tasks.self_critical import loss_of_samples
from tests.tasks.captioner_fixture import recorded

TOLERANCE = 1e-4


def test_recorded_cross_entropy_and_its_gradients() -> None:
    want = recorded()
    labels, mask = want.io["labels"].flatten(0, 1), want.io["label_masks"].flatten(0, 1)[:, 1:]
    model = want.model()
    log_probs = model(captions=labels[:, :-1], **want.pictures())
    loss = cross_entropy(log_probs, labels[:, 1:], mask)
    assert loss.item() == pytest.approx(want.io["xe_loss"].item(), abs=TOLERANCE)
    smooth = cross_entropy(log_probs, labels[:, 1:], mask, 0.1)
    assert smooth.item() == pytest.approx(want.io["label_smoothing_loss"].item(), abs=TOLERANCE)
    loss.backward()
    same_gradients(model, want.grad_norms["xe"])


@pytest.mark.parametrize(("greedy", "name"), [(True, "scst_loss"), (False, "rest_mean_baseline_loss")])
def test_recorded_self_critical_losses_and_gradients(greedy: bool, name: str) -> None:
    want = recorded()
    samples = want.io["sampled_tokens"].view(5, 3, -1)
    model = want.model()
    batch = {**want.pictures(), **want.references()}
    loss = loss_of_samples(model, batch, samples, want.io["greedy_tokens"] if greedy else None, want.reward())
    assert loss.item() == pytest.approx(want.io[name].item(), abs=TOLERANCE)
    if greedy:
        loss.backward()
        same_gradients(model, want.grad_norms["scst"])


def same_gradients(model: torch.nn.Module, want: dict[str, dict[str, float]]) -> None:
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        found = float(parameter.grad.double().norm())
        assert found == pytest.approx(want[source_name(name)]["l2"], rel=1e-3, abs=TOLERANCE), name


def test_recorded_rewards_and_advantages() -> None:
    want = recorded()
    references = [rows[:count].numpy() for rows, count in zip(*want.references().values(), strict=True)]
    places = torch.arange(5)
    said = want.reward()(want.io["sampled_tokens"].numpy(), references, places.repeat_interleave(3).numpy())
    greedy = want.reward()(want.io["greedy_tokens"].numpy(), references, places.numpy())
    torch.testing.assert_close(torch.from_numpy(said), want.io["sampled_cider"], rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.from_numpy(greedy), want.io["greedy_cider"], rtol=0, atol=1e-9)
    gained = advantages(torch.from_numpy(said).view(5, 3), torch.from_numpy(greedy))
    torch.testing.assert_close(gained.flatten(), want.io["reward"][:, 0], rtol=0, atol=1e-9)


def test_recorded_loss_of_arbitrary_rewards() -> None:
    want = recorded()
    tokens = want.io["sampled_tokens"]
    chosen = want.io["sampled_logprobs"].gather(2, tokens.unsqueeze(2)).squeeze(2)
    loss = self_critical(chosen, token_mask(tokens), want.io["random_reward"][:, 0])
    assert loss.item() == pytest.approx(want.io["scst_loss_random_reward"].item(), abs=TOLERANCE)


def test_tokens_count_up_to_and_including_the_end() -> None:
    rows = torch.tensor([[3, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]])
    assert token_mask(rows).sum(1).tolist() == [2, 1, 4]
    assert token_mask(rows)[0].tolist() == [True, True, False, False]


def test_a_smoothed_loss_is_least_where_the_model_says_the_smoothed_distribution() -> None:
    classes, smoothing = 5, 0.2
    target, mask = torch.tensor([[2]]), torch.ones(1, 1)
    shared = torch.full((1, 1, classes), smoothing / (classes - 1))
    shared[0, 0, 2] = 1 - smoothing
    assert cross_entropy(shared.log(), target, mask, smoothing).item() == pytest.approx(0.0, abs=1e-6)
    sure = torch.full((1, 1, classes), 0.001)
    sure[0, 0, 2] = 1 - 0.004
    assert cross_entropy(sure.log(), target, mask, smoothing).item() > 0.05
    assert cross_entropy(sure.log(), target, mask).item() == pytest.approx(-math.log(0.996), rel=1e-5)


def test_nothing_to_learn_from_is_a_loss_of_zero_with_gradients() -> None:
    log_probs = torch.randn(2, 3, 4, requires_grad=True)
    loss = cross_entropy(log_probs, torch.zeros(2, 3).long(), torch.zeros(2, 3))
    loss.backward()
    assert loss.item() == 0
    assert log_probs.grad is not None
    assert not log_probs.grad.any()


def test_the_others_of_a_picture_are_the_baseline() -> None:
    rewards = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])
    assert advantages(rewards).tolist() == [[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]
    assert advantages(rewards, torch.tensor([2.0, 1.0])).tolist() == [[-1.0, 0.0, 4.0], [4.0, 4.0, 4.0]]
    with pytest.raises(ValueError, match="at least two"):
        advantages(rewards[:, :1])
