"""The gradients of a batch do not depend on how it is cut."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from clipvil.errors import UsageError
from clipvil.tasks.losses import LossTerms
from clipvil.training.losses import LossModule
from clipvil.training.update import Gradients

SEEDS = [("seed", part) for part in range(4)]


def batch(rows: slice = slice(None)) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(12, 3, generator=random)
    return {"x": x[rows], "masked": (torch.arange(12) % 5 == 0)[rows]}


def mean(model: nn.Module, found: Mapping[str, Tensor]) -> Tensor:
    return model(found["x"]).square().mean()


def weights(found: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([torch.tensor(float(len(found["x"]))), found["masked"].sum().float()])


def terms(model: nn.Module, found: Mapping[str, Tensor]) -> LossTerms:
    each = model(found["x"])[:, 0].square()
    return LossTerms(torch.stack([each.sum(), (each * found["masked"]).sum()]), weights(found), ("all", "masked"))


def gradients(loss: Any, parts: int, **more: Any) -> tuple[Tensor, Any]:
    torch.manual_seed(1)
    model = nn.Linear(3, 1)
    task: Any = SimpleNamespace(name="small", loss=loss, **more)
    cut = [batch(slice(place, place + 12 // parts)) for place in range(0, 12, 12 // parts)]
    found = Gradients(task, LossModule(task, model), Accelerator(cpu=True), "no").compute(cut, SEEDS[:parts])
    assert model.weight.grad is not None
    return model.weight.grad, found


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("loss", [mean, terms])
def test_the_gradient_is_that_of_the_whole(loss: Any, parts: int) -> None:
    more = {"loss_weights": weights} if loss is terms else {}
    (whole, alone), (cut, together) = gradients(loss, 1, **more), gradients(loss, parts, **more)
    torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-6)
    assert together.loss == pytest.approx(alone.loss, rel=1e-6)
    assert together.terms == pytest.approx(alone.terms, rel=1e-6)
    assert set(alone.terms) == ({"all", "masked"} if loss is terms else set())


def test_terms_are_no_mean_of_means() -> None:
    def naive(model: nn.Module, found: Mapping[str, Tensor]) -> Tensor:
        return terms(model, found).value()

    whole, cut = gradients(naive, 1)[0], gradients(naive, 4)[0]
    assert not torch.allclose(whole, cut, rtol=1e-2)
    assert torch.allclose(whole, gradients(terms, 1)[0])


def test_a_term_that_counts_nothing_is_nothing() -> None:
    found = batch() | {"masked": torch.zeros(12, dtype=torch.bool)}
    assert float(terms(nn.Linear(3, 1), found).over(weights(found))[1]) == 0.0


def test_weights_have_to_be_known_before_the_first_backward_pass() -> None:
    gradients(terms, 1)
    with pytest.raises(UsageError, match="loss_weights"):
        gradients(terms, 2)
