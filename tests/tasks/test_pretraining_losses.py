"""The losses that training calls against the recorded ones, and what counts in them."""

from __future__ import annotations

import pytest
import torch

from clipvil.tasks.pretraining_losses import counted_terms, mask_words
from clipvil.tasks.vqa import answer_loss
from tests.models.recorded_clip_vil_p import PRETRAIN_CASES, case


@pytest.mark.parametrize("name", PRETRAIN_CASES)
def test_pretraining_losses_are_the_recorded_ones(name: str) -> None:
    given = case("pretrain_cases", name)
    terms = counted_terms(
        {
            "mlm": (given["mlm_logits"], given["mlm_labels"]),
            "matching": (given["matching_logits"], given["matching_labels"]),
            "qa": (given["qa_logits"], given["qa_labels"]),
        }
    )
    for one, loss in zip(terms.names, terms.over(terms.weights), strict=True):
        assert float(loss) == pytest.approx(float(given[f"loss_{one}"]), rel=1e-5)
    assert float(terms.value()) == pytest.approx(float(given["loss_total"]), rel=1e-5)
    assert int(terms.weights[0]) == int((given["mlm_labels"] >= 0).sum())


def test_masked_places_alone_give_the_same_loss() -> None:
    given = case("pretrain_cases", "landscape")
    asked = given["mlm_labels"] >= 0
    terms = counted_terms({"mlm": (given["mlm_logits"][asked], given["mlm_labels"][asked])})
    assert terms.names == ("mlm",)
    assert float(terms.value()) == pytest.approx(float(given["loss_mlm"]), rel=1e-5)


@pytest.mark.parametrize("name", ["landscape", "portrait"])
def test_answer_losses_are_the_recorded_ones(name: str) -> None:
    given = case("vqa_cases", name)
    logits, targets = given["logits"], given["soft_targets"]
    assert float(answer_loss(logits, targets, 500.0)) == pytest.approx(float(given["loss_bce_times_500"]), rel=1e-5)
    assert float(answer_loss(logits, targets)) == pytest.approx(float(given["loss_bce_times_num_answers"]), rel=1e-5)


def test_a_loss_without_labels_is_zero() -> None:
    logits = torch.randn(4, 7, requires_grad=True)
    found = counted_terms({"qa": (logits, torch.full((4,), -1))}).value()
    found.backward()
    assert found.item() == 0 and logits.grad is not None
    assert not logits.grad.any(), "recorded: the head's gradient is exactly 0"


def test_words_are_hidden_at_the_published_rates() -> None:
    tokens = torch.randint(5, 1000, (400, 20), generator=torch.Generator().manual_seed(0))
    tokens[:, 0], tokens[:, 18], tokens[:, 19] = 2, 3, 0
    seen, labels = mask_words(tokens, special=(0, 2, 3), mask=4, words=1000, generator=torch.Generator().manual_seed(1))
    open_places = torch.zeros_like(tokens, dtype=torch.bool)
    open_places[:, 1:18] = True
    picked = labels != -1
    assert not picked[~open_places].any() and torch.equal(seen[~picked], tokens[~picked])
    assert torch.equal(labels[picked], tokens[picked])
    count = int(picked.sum())
    assert count / int(open_places.sum()) == pytest.approx(0.15, abs=0.015)
    assert int((seen[picked] == 4).sum()) / count == pytest.approx(0.8, abs=0.04)
    assert int((seen[picked] == tokens[picked]).sum()) / count == pytest.approx(0.1, abs=0.03)
    other = seen[picked & (seen != 4) & (seen != tokens)]
    assert len(other) / count == pytest.approx(0.1, abs=0.03) and int(other.max()) > 800


def test_masking_is_a_pure_function_of_its_generator() -> None:
    tokens = torch.arange(5, 105).reshape(5, 20)

    def hide(seed: int) -> torch.Tensor:
        return mask_words(tokens, special=(0,), mask=4, words=200, generator=torch.Generator().manual_seed(seed))[0]

    assert torch.equal(hide(3), hide(3)) and not torch.equal(hide(3), hide(4))
    assert torch.equal(tokens, torch.arange(5, 105).reshape(5, 20))
