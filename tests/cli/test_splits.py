from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from clipvil.cli.main import main
from clipvil.datasets.registry import load, split_names
from clipvil.mini.corpora import write_corpus


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_corpus(folder / "mini", sizes={"train": 60, "val": 10, "test": 6}, seed=1)
    (folder / "data.yaml").write_text("format: mini\nroot: mini\n")
    return folder


def test_a_prior_shift_can_be_read_as_it_was_printed(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = world / "prior.json"
    assert main(["splits", "prior", "--data", str(world / "data.yaml"), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    section = yaml.safe_load(said.rpartition("data=")[2])
    assert split_names(section) == ["train", "val", "test", "prior_shift"]
    train, shifted = load(section, "train"), load(section, "prior_shift")
    assert not train.pictures.keys() & shifted.pictures.keys()
    assert f"train: {len(train.records)} questions about {len(train.pictures)} pictures" in said


def test_subsets_are_printed_for_a_recipe(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["splits", "subset", "--data", str(world / "data.yaml"), "--out", str(world / "lists")]
    assert main([*call, "--pictures", "20", "--pictures", "5"]) == 0
    said = capsys.readouterr().out
    assert "5 pictures, 40 records" in said and "20 pictures, 160 records" in said
    small, large = (json.loads((world / "lists" / f"draw-0-{n}.json").read_text()) for n in (5, 20))
    assert large[:5] == small
    assert main([*call, "--pictures", "61"]) == 2
    assert "61 pictures were asked for, the training split has 60" in capsys.readouterr().err


def test_hard_hypotheses_where_there_are_none(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "pairs.yaml").write_text("format: mini_snli_ve\nroot: mini\n")
    call = ["splits", "hypothesis-hard", "--data", str(world / "pairs.yaml"), "--out", str(world / "hard.json")]
    assert main(call) == 1
    assert "the hypotheses give nothing away" in capsys.readouterr().err and not (world / "hard.json").exists()
