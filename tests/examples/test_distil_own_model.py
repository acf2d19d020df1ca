"""The example runs as it stands, on a few drawn pictures."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "distil_own_model.py"


def test_it_trains_and_saves_the_student_alone(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    lines = ["picture,sentence,label"]
    for number, colour in enumerate(["red", "green", "blue", "red", "green", "blue"]):
        Image.new("RGB", (80, 60), colour).save(photos / f"{number}.png")
        lines += [
            f"{number}.png,the picture isn't {other},{'no' if other == colour else 'yes'}" for other in ("red", "blue")
        ]
    (tmp_path / "my.csv").write_text("\n".join(lines), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("distil_own_model", SCRIPT)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    losses = example.main(str(tmp_path / "my.csv"), str(photos), str(tmp_path / "out"), 60)
    assert losses[-1] < losses[0]
    saved = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    assert saved.keys() == example.Student(5, 2).state_dict().keys()
    assert (tmp_path / "out" / "teacher" / "manifest.json").is_file()
