from __future__ import annotations

import torch

from clipvil.distillation.probe import probe_chances, probe_features
from clipvil.distillation.weighting import alignment, choice_chances, confidence, normalised, relative

CHANCES = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
GOLD = torch.tensor([1, 0, 0])


def test_each_form_says_what_it_is() -> None:
    assert confidence("correctness", CHANCES, GOLD, None).tolist() == [CHANCES[0, 1].item(), 1.0, 0.5]
    torch.testing.assert_close(confidence("margin", CHANCES, GOLD, None), torch.tensor([0.5, 1.0, 0.0]))
    entropy = confidence("entropy", torch.full((1, 4), 0.25), None, None)
    torch.testing.assert_close(entropy, torch.zeros(1), atol=1e-6, rtol=0)
    assert confidence("entropy", CHANCES, None, None)[1] == 1


def test_weights_have_mean_one_and_none_divides_by_nothing() -> None:
    torch.testing.assert_close(normalised(torch.tensor([1.0, 3.0])), torch.tensor([0.5, 1.5]))
    assert normalised(torch.zeros(3)).tolist() == [0, 0, 0]


def test_alignment_turns_round_where_text_and_picture_do_not_belong_together() -> None:
    cosines = torch.tensor([0.1, 0.3, 0.2])
    found = alignment(cosines, torch.tensor([1.0, 1.0, 0.0]))
    assert found[0] < 0.5 < found[1] and found[2] == 0.5
    against = alignment(cosines, torch.tensor([-1.0, -1.0, -1.0]))
    assert against[0] > 0.5 > against[1]


def test_relative_trusts_only_who_knows_more() -> None:
    weights = relative(torch.tensor([0.9, 0.1]), torch.tensor([1.0, 1.0]))
    assert weights[0] > 0 and weights[1] == 0


def test_choices_are_judged_by_cosine() -> None:
    picture = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    choices = [torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0]])]
    found = choice_chances(picture, choices, 10.0)
    assert found[0, 1] > 0.99 and found[1].tolist() == [1.0, 0.0]


def test_a_probe_knows_what_can_be_known_and_nothing_of_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    gold = torch.randint(0, 2, (200,), generator=generator)
    pictures = torch.randn(200, 8, generator=generator)
    texts = pictures * (2 * gold[:, None] - 1) + 0.3 * torch.randn(200, 8, generator=generator)
    images = [str(number // 2) for number in range(200)]
    chances = probe_chances(probe_features(pictures, texts), gold, images)
    torch.testing.assert_close(chances.sum(1), torch.ones(200))
    assert float((chances.argmax(1) == gold).float().mean()) > 0.9
    noise = probe_chances(torch.randn(200, 32, generator=generator), gold, images)
    # One that had seen the example would be right on nearly all.
    assert float((noise.argmax(1) == gold).float().mean()) < 0.65
