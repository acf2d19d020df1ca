"""Fixtures of the encoder tests: the zoo is written once a session, each encoder built once."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch

from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.encoders.registry import create_encoder
from clipvil.encoders.weights import UntrainedWarning
from tests.encoders import zoo


@pytest.fixture(scope="session")
def zoo_names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return zoo.names(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def build(zoo_names: dict[str, str]) -> Callable[..., ModuleEncoder]:
    """A fresh encoder of the zoo by its short id."""

    def fresh(short: str, **choices: str) -> ModuleEncoder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UntrainedWarning)
            encoder = create_encoder(zoo_names[short], **choices)  # type: ignore[arg-type]
        assert isinstance(encoder, ModuleEncoder)
        return encoder

    return fresh


@pytest.fixture(scope="session")
def built(build: Callable[..., ModuleEncoder]) -> Callable[[str], ModuleEncoder]:
    """An encoder of the zoo with its defaults, shared by the session: tests must leave it as it was."""
    made: dict[str, ModuleEncoder] = {}

    def shared(short: str) -> ModuleEncoder:
        if short not in made:
            made[short] = build(short)
        return made[short]

    return shared


@pytest.fixture
def noise() -> Callable[..., torch.Tensor]:
    """Normalised pixels from a seed: batch, height, width."""

    def pixels(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
        return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))

    return pixels
