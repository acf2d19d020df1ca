"""`clipvil mini`: writes, re-uses and refuses with one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from clipvil.cli.mini import parse_sizes, register
from clipvil.errors import UsageError
from clipvil.mini.corpora import open_corpus


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return app


def test_it_writes_the_corpus_asked_for(app: typer.Typer, tmp_path: Path) -> None:
    root = tmp_path / "world"
    result = CliRunner().invoke(app, ["mini", str(root), "--sizes", "train=3,shifted=2", "--seed", "5"])
    assert result.exit_code == 0, result.output
    assert "train 3, shifted 2 pictures" in result.output
    corpus = open_corpus(root)
    assert (corpus.sizes, corpus.seed) == ({"train": 3, "shifted": 2}, 5)
    assert CliRunner().invoke(app, ["mini", str(root), "--sizes", "train=3"]).exit_code != 0
    assert CliRunner().invoke(app, ["mini", str(root), "--sizes", "train=3", "--force"]).exit_code == 0


@pytest.mark.parametrize("text", ["train", "train=", "train=many", "train=1,train=2", "=3,", "train=٣"])
def test_sizes_that_do_not_read_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--sizes"):
        parse_sizes(text)


def test_sizes_are_read_with_blanks() -> None:
    assert parse_sizes("train=10, val=2") == {"train": 10, "val": 2}
