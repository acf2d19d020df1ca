from __future__ import annotations

import pytest
import torch
from torch import nn

from clipvil.encoders.base import Encoded
from clipvil.errors import UsageError
from clipvil.features import precision
from clipvil.features.precision import Precision, choose, least_cosine, named
from tests.features.tiny import tiny_encoder

PIXELS = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_names() -> None:
    convolutional, token = tiny_encoder().module, nn.Sequential(nn.Conv2d(3, 8, 16), nn.Linear(8, 8))
    assert named("fp32", convolutional).name == "fp32+channels_last"
    assert named("fp32", token).name == "fp32"
    assert named("bf16+channels_last", token) == Precision("bf16", True)
    for wrong in ("auto", "int8", "fp32+nchw", ""):
        with pytest.raises(UsageError, match="unknown precision"):
            named(wrong, token)


def test_cosine_is_the_lowest_one() -> None:
    one = torch.ones(2, 1, 1, 2)
    other = one.clone()
    other[1, 0, 0, 1] = 0
    assert least_cosine(Encoded(one, None), Encoded(one, None)) == pytest.approx(1)
    assert least_cosine(Encoded(one, None), Encoded(other, None)) == pytest.approx(0.5**0.5)
    assert least_cosine(Encoded(one, one), Encoded(one, -one)) == pytest.approx(-1)


def test_a_precision_that_changes_the_features_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 made fast by decree, and the threshold put above what it keeps: fp32 stays."""
    seconds = {"fp32+channels_last": 1.0, "bf16+channels_last": 0.1, "fp32": 1.0}
    trial = precision._trial
    order = iter(seconds)

    def timed(*arguments: object, **keywords: object) -> tuple[object, ...]:
        pixels, encoded, _ = trial(*arguments, **keywords)  # type: ignore[arg-type]
        return pixels, encoded, seconds[next(order)]

    monkeypatch.setattr(precision, "_trial", timed)
    monkeypatch.setattr(precision, "_half_types", lambda device: ("bf16",))
    choice = choose(tiny_encoder(), PIXELS, "cpu", quiet=True)
    assert choice.precision == Precision("bf16", True) and 0.9995 < choice.cosine < 1
    assert "bf16+channels_last 10.00x" in choice.told
    order = iter(seconds)
    monkeypatch.setattr(precision, "LEAST_COSINE", choice.cosine)
    assert choose(tiny_encoder(), PIXELS, "cpu", quiet=True).precision == Precision("fp32", True)


def test_emulated_bf16_is_not_tried(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(precision, "cpu", lambda: {"bf16": False})
    choice = choose(tiny_encoder(), PIXELS, "cpu")
    assert choice.precision.kind == "fp32" and choice.cosine > 0.99999
    assert "bf16 not tried" in capsys.readouterr().err


def test_a_trial_may_shrink_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_BUDGET", 0.0)
    choice = choose(tiny_encoder(), PIXELS, "cpu", quiet=True)
    assert choice.precision.name == "fp32+channels_last" and "not tried for time" in choice.told
