"""The further CPU backends, in child processes: their native libraries are not to share one with all the rest."""

from __future__ import annotations

import importlib.util
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from clipvil.errors import ClipvilError, StoreError
from clipvil.features import backends
from clipvil.features.extract import extract
from clipvil.features.store import Store
from tests.features.tiny import tiny_encoder, write_pictures

NEEDS = {"openvino": ("openvino",), "onnx": ("onnx", "onnxruntime", "onnxscript")}


def run(pictures: Path, out: Path, **options: Any) -> float:
    settings = {"resize": "square", "precision": "fp32", "batch_size": 4, "shard_size": 8, **options}
    return extract(pictures, encoder=tiny_encoder(), out=out, progress=False, **settings).cosine


def run_and_answer(pictures: Path, out: Path, options: dict[str, Any], most: int, answer: Connection) -> None:
    backends._MOST_SHAPES = most
    try:
        answer.send(run(pictures, out, **options))
    except ClipvilError as error:
        answer.send(f"{type(error).__name__}: {error}")


def in_child(server: ForkServerContext, pictures: Path, out: Path, *, most: int = 4, **options: Any) -> Any:
    mine, theirs = server.Pipe()
    child = server.Process(target=run_and_answer, args=(pictures, out, options, most, theirs))
    child.start()
    child.join()
    assert child.exitcode == 0
    return mine.recv()


@pytest.mark.parametrize("backend", sorted(NEEDS))
def test_agrees_with_torch(server: ForkServerContext, tmp_path: Path, backend: str) -> None:
    if any(importlib.util.find_spec(name) is None for name in NEEDS[backend]):
        pytest.skip(f"the extra [{backend}] is not installed")
    write_pictures(tmp_path / "p", 10)
    run(tmp_path / "p", tmp_path / "torch")
    cosine = in_child(server, tmp_path / "p", tmp_path / backend, backend=backend)
    assert isinstance(cosine, float) and cosine > 0.9995
    one, other = Store.open(tmp_path / "torch"), Store.open(tmp_path / backend)
    assert torch.allclose(one.batch(one.ids()).cells, other.batch(one.ids()).cells, atol=5e-3)
    assert other.manifest.precision.backend == backend and len(other) == 10
    with pytest.raises(StoreError, match="backend is"):
        run(tmp_path / "p", tmp_path / backend)


def test_needs_one_canvas_size(server: ForkServerContext, tmp_path: Path) -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("the extra [openvino] is not installed")
    (tmp_path / "p").mkdir()
    for number in range(2):
        Image.new("RGB", (40 + 24 * number, 40)).save(tmp_path / "p" / f"{number}.png")
    options = {"resize": "native:short=32,long=200", "backend": "openvino"}
    told = in_child(server, tmp_path / "p", tmp_path / "s", most=1, **options)
    assert isinstance(told, str) and told.startswith("EncoderError") and "use --resize square" in told
