"""The packaged encoders: small, loadable by open_clip from their folder as it is, and the same in every part."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from clipvil.errors import ClipvilError
from clipvil.mini import WEIGHTS, weights_folder
from clipvil.mini.training.architecture import WEIGHTS_FILE, encode_picture, model_config

TRAINED = ("contrastive", "annotated")
open_clip = pytest.importorskip("open_clip")


def load(name: str) -> torch.nn.Module:
    model = open_clip.create_model(f"local-dir:{weights_folder(name)}")
    return model.eval()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ClipvilError, match="mini/contrastive, mini/annotated, mini/random"):
        weights_folder("clip")


@pytest.mark.parametrize("name", WEIGHTS)
def test_all_three_have_one_architecture(name: str) -> None:
    config = json.loads((weights_folder(name) / "open_clip_config.json").read_text())
    assert config["model_cfg"] == model_config()
    assert config["preprocess_cfg"]["size"] == [128, 128]
    assert (weights_folder(name) / WEIGHTS_FILE).exists() == (name in TRAINED)


@pytest.mark.parametrize("name", TRAINED)
def test_weights_are_small_and_those_that_the_record_tells_of(name: str) -> None:
    data = (weights_folder(name) / WEIGHTS_FILE).read_bytes()
    record = json.loads((weights_folder(name) / "training.json").read_text())
    assert len(data) <= 6_000_000
    assert hashlib.sha256(data).hexdigest() == record["sha256"]
    assert record["seconds"] > 0


def test_both_encoders_had_the_same_budget_on_the_pictures_they_are_said_to_have_seen() -> None:
    web, curated = (json.loads((weights_folder(name) / "training.json").read_text())["protocol"] for name in TRAINED)
    assert web["cycles"] == curated["cycles"]
    assert web["scenes"] >= 50_000
    assert curated["pictures"] <= 2_000


@pytest.mark.parametrize("name", WEIGHTS)
def test_open_clip_loads_the_folder_in_full_precision(name: str) -> None:
    model = load(name)
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        grid, pooled = encode_picture(model, pixels)
        assert grid.shape == (2, 512, 4, 4)
        torch.testing.assert_close(pooled, model.encode_image(pixels))


def test_the_tokenizer_comes_with_the_folder_and_knows_the_words_of_the_world() -> None:
    from clipvil.mini.captions import alt_text, captions
    from clipvil.mini.training.vocabulary import UNKNOWN, WordTable
    from clipvil.mini.world import scene, stream

    tokenizer = open_clip.get_tokenizer(f"local-dir:{weights_folder('contrastive')}")
    table = WordTable()
    for index in range(40):
        each = scene(0, "train", index)
        for text in [*captions(each), alt_text(stream(0, "t", index), each)]:
            ids = tokenizer([text])[0].tolist()
            own = table.encode(text)
            assert ids == own + [0] * (32 - len(own))
            assert UNKNOWN not in ids, text


def test_contrastive_tells_matching_text_from_other_text() -> None:
    from torchvision.transforms.functional import pil_to_tensor

    from clipvil.mini.drawing import draw
    from clipvil.mini.training.architecture import normalise
    from clipvil.mini.world import COLORS, HELD_OUT, Object, Scene

    model, tokenizer = load("contrastive"), open_clip.get_tokenizer(f"local-dir:{weights_folder('contrastive')}")
    colors = [color for color in COLORS if ("circle", color) not in HELD_OUT]
    shown = [Object("circle", color, "solid", "large", 64.0, 64.0, 19.0, 0.0, (0, 0, 0)) for color in colors]
    pixels = torch.stack([pil_to_tensor(draw(Scene("k", "sand", (thing,)))).permute(1, 2, 0) for thing in shown])
    with torch.no_grad():
        image = model.encode_image(normalise(pixels), normalize=True)
        text = model.encode_text(tokenizer([f"large {color} circle on sand" for color in colors]), normalize=True)
    right = ((image @ text.T).argmax(dim=1) == torch.arange(len(colors))).sum()
    assert right >= len(colors) - 1
