from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from clipvil.cli.main import main
from clipvil.encoders.base import EncoderSpec
from clipvil.errors import EncoderError, UsageError
from clipvil.features.base import GridBatch
from clipvil.tasks.clip_scores import clip_scores, text_side
from tests.datasets.build import write

ENCODER = "mini/contrastive"


class Texts:
    """A text side that turns words into counts, to see what is encoded."""

    channels = 3

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> Tensor:
        self.seen += texts
        return torch.tensor([[text.count("dog"), text.count("cat"), 1.0] for text in texts])


class Pictures:
    spec = EncoderSpec("mini/x", "0" * 16, 1, 3)

    def __init__(self, pooled: dict[str, list[float]] | None) -> None:
        self.vectors = pooled

    def __contains__(self, key: object) -> bool:
        return True

    def batch(self, ids: Sequence[str]) -> GridBatch:
        pooled = None if self.vectors is None else torch.tensor([self.vectors[i] for i in ids])
        return GridBatch(torch.zeros(len(ids), 1, 1), None, torch.ones(len(ids), 2), pooled)


def test_captions_are_encoded_behind_the_words_and_compared_by_picture() -> None:
    text = Texts()
    features = Pictures({"a": [2.0, 0.0, 2.0], "b": [0.0, 1.0, 0.0]})
    said, references = {"b": "cat", "a": "dog"}, {"a": ["dog", "cat"], "b": ["cat"]}
    found = clip_scores(said, features, text, references)
    assert text.seen[:2] == ["A photo depicts cat", "A photo depicts dog"]
    assert found["CLIPScore"].per_image == pytest.approx({"b": 2.5 / np.sqrt(2), "a": 2.5})
    score = 2.5 / np.sqrt(2)
    assert found["RefCLIPScore"].per_image == pytest.approx({"b": 2 * score / (score + 1), "a": 5 / 3.5})
    assert list(clip_scores(said, features, text)) == ["CLIPScore"]
    with pytest.raises(UsageError, match="hold no pooled vectors"):
        clip_scores(said, Pictures(None), text)


def test_encoders_without_a_text_side_are_refused() -> None:
    with pytest.raises(UsageError, match="has no pooled vector"):
        text_side(EncoderSpec("mini/annotated", "0" * 16, 1))
    with pytest.raises(EncoderError, match="text"):
        text_side(EncoderSpec("torchvision/resnet18:random", "0" * 16, 512, 512))


@pytest.mark.filterwarnings("ignore")
def test_right_captions_beat_wrong_ones_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mini", str(tmp_path / "m"), "--sizes", "test=12"]) == 0
    pictures, store = tmp_path / "m/images/test", tmp_path / "store"
    assert main(["extract", str(pictures), "--encoder", ENCODER, "--out", str(store)]) == 0
    corpus = json.loads((tmp_path / "m/captions_test.json").read_text())
    names = {image["id"]: image["file_name"] for image in corpus["images"]}
    given: dict[str, list[str]] = {}
    for row in corpus["annotations"]:
        given.setdefault(names[row["image_id"]], []).append(row["caption"])
    ids = list(given)
    right = {i: given[i][0] for i in ids}
    wrong = {i: given[ids[k - 1]][0] for k, i in enumerate(ids)}
    value = {}
    for name, said in (("right", right), ("wrong", wrong)):
        references, predictions = write(tmp_path / "r.json", given), write(tmp_path / "p.json", said)
        line = ["score", "captions", "--references", str(references), "--predictions", str(predictions)]
        line += ["--metrics", "CLIPScore", "RefCLIPScore", "BLEU-1", "--json", str(tmp_path / "out.json")]
        assert main(line) == 2
        assert "name their features with --store" in capsys.readouterr().err
        assert main([*line, "--store", str(store)]) == 0
        assert f"CLIPScore with {ENCODER}" in capsys.readouterr().err
        value[name] = json.loads((tmp_path / "out.json").read_text())["corpus"]
    assert list(value["right"]) == ["CLIPScore", "RefCLIPScore", "BLEU-1"]
    assert value["right"]["CLIPScore"] > value["wrong"]["CLIPScore"] + 0.1
    assert value["right"]["RefCLIPScore"] > value["wrong"]["RefCLIPScore"] + 0.1
