from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.cli.main import main
from clipvil.metrics.captions import DocumentFrequencies
from clipvil.text.caption_vocabulary import CaptionVocabulary
from tests.datasets.build import write
from tests.datasets.test_captions import karpathy


def test_frequencies_of_a_karpathy_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "d.json", karpathy())
    out = tmp_path / "df.safetensors"
    assert main(["captions", "document-frequencies", str(path), "--out", str(out), "--min-count", "2"]) == 0
    assert "of 2 pictures in" in capsys.readouterr().out
    words = CaptionVocabulary.load(tmp_path / "df.vocabulary.json")
    assert words.words == ("a", "dog", "two", "x")  # of all splits
    found = DocumentFrequencies.load(out)
    assert (found.documents, found.vocabulary) == (2, words.fingerprint())  # train and restval
    assert found.counts[0].tolist() == [2] * 5
    again = tmp_path / "again.safetensors"
    line = ["captions", "document-frequencies", str(path), "--out", str(again)]
    assert main([*line, "--vocabulary", str(tmp_path / "df.vocabulary.json")]) == 0
    assert again.read_bytes() == out.read_bytes()
    assert main([*line, "--split", "dev"]) == 1
    assert "has no split 'dev'; --split is one of" in capsys.readouterr().err


def test_frequencies_of_other_files(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", {"a": ["A dog's tail."], "b": ["A cat!"]})
    out = tmp_path / "df.safetensors"
    assert main(["captions", "document-frequencies", str(path), "--out", str(out), "--min-count", "1"]) == 0
    words = CaptionVocabulary.load(tmp_path / "df.vocabulary.json")
    assert words.words == ("a", "dog", "'s", "tail", "cat")
    assert DocumentFrequencies.load(out).documents == 2
