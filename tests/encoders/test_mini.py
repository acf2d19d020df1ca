"""The encoders of the miniature world come through the ordinary open_clip adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

import clipvil.mini
from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.encoders.registry import create_encoder
from clipvil.errors import ClipvilError, EncoderError
from tests.encoders.zoo import RESNET, write_open_clip


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins in the format of the packaged weights, so that the tests hold before the weights are trained."""
    write_open_clip(tmp_path / "contrastive", RESNET, seed=1)
    write_open_clip(tmp_path / "annotated", RESNET, seed=2)
    write_open_clip(tmp_path / "random", RESNET, seed=3)
    (tmp_path / "random" / "open_clip_model.safetensors").unlink()

    def folder(name: str) -> Path:
        if name not in ("contrastive", "annotated", "random"):
            raise ClipvilError("no such miniature encoder")
        return tmp_path / name

    monkeypatch.setattr(clipvil.mini, "weights_folder", folder)
    return tmp_path


@pytest.mark.usefixtures("weights")
def test_the_three_differ_and_the_untrained_one_is_always_the_same() -> None:
    made = {name: create_encoder(f"mini/{name}") for name in ("contrastive", "annotated")}
    with pytest.warns(UserWarning, match="untrained"):
        made["random"] = create_encoder("mini/random")
    with pytest.warns(UserWarning, match="untrained"):
        again = create_encoder("mini/random")
    assert again.fingerprint() == made["random"].fingerprint()
    assert len({encoder.fingerprint() for encoder in made.values()}) == 3
    for name, encoder in made.items():
        assert isinstance(encoder, ModuleEncoder)
        assert encoder.name == f"mini/{name}"
        assert type(encoder.module).__name__ == "ClipResNetTower"


def test_missing_weights_say_how_to_make_them(weights: Path) -> None:
    (weights / "annotated" / "open_clip_model.safetensors").unlink()
    with pytest.raises(EncoderError, match="no weights in"):
        create_encoder("mini/annotated")
    (weights / "annotated" / "open_clip_config.json").unlink()
    (weights / "annotated").rmdir()
    with pytest.raises(EncoderError, match="make mini-weights"):
        create_encoder("mini/annotated")
