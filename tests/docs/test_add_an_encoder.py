"""The page that shows how to add an encoder is run as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from clipvil.encoders import registry
from clipvil.encoders.base import Encoder
from clipvil.encoders.registry import create_encoder

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add-an-encoder.md"


def test_the_page_works_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, script = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in adapter.splitlines() if line.strip()]) <= 40
    (tmp_path / "patches.py").write_text(adapter, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_REGISTERED", {})
    exec(compile(script, str(PAGE), "exec"), {})  # noqa: S102 - the page's own code is what is under test
    encoder = create_encoder("patches/16")
    assert isinstance(encoder, Encoder)
    encoded = encoder.encode(torch.randn(2, 3, 64, 96))
    assert encoded.grid.shape == (2, 32, 4, 6)
    assert encoded.pooled is not None and encoded.pooled.shape == (2, 32)
    assert encoder.fingerprint() == create_encoder("patches/16").fingerprint()
