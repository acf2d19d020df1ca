"""A store that is there already as one more encoder: bottom-up regions beside a grid encoder."""

from __future__ import annotations

import base64
import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipvil.cli.main import main
from clipvil.compare.matrix import compare
from clipvil.compare.plan import make_plan
from clipvil.compare.report import render
from clipvil.compare.results import Results
from clipvil.compare.stores import stored_features
from clipvil.compare.suite import EncoderEntry, Suite, merge
from clipvil.compare.table import render_table
from clipvil.errors import RecipeError, StoreError, UsageError
from clipvil.features.foreign.base import Options
from clipvil.features.foreign.exporting import export_features
from clipvil.features.foreign.importing import import_features
from clipvil.training.predictor import load
from clipvil.training.run_files import read_run
from tests.compare.corpus import COLOURS, write_corpus, write_recipe


def write_regions(path: Path, corpus: Path, *, seed: int = 0) -> Path:
    """A TSV of two to four regions a picture, the colour of its squares in their features."""
    with (corpus / "questions.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["question_type"] == "color"]
    lines = []
    for number, row in enumerate(rows):
        rng = np.random.default_rng((seed, number))
        count = int(rng.integers(2, 5))
        features = rng.standard_normal((count, 6)).astype("<f4")
        features[:, list(COLOURS).index(row["answer"])] += 3
        boxes = np.sort(rng.uniform(0, 64, (count, 2, 2)), axis=1).reshape(count, 4).astype("<f4")
        arrays = [base64.b64encode(array.tobytes()).decode() for array in (boxes, features)]
        lines.append("\t".join([row["image"], "64", "64", str(count), *arrays]))
    path.write_text("\n".join(lines) + "\n")
    return path


def make_store(folder: Path, corpus: Path, *, name: str = "updn", seed: int = 0) -> Path:
    source = write_regions(folder / f"{name}.tsv", corpus, seed=seed)
    import_features(source, format="bottom-up-tsv", encoder_name="bottom-up", out=folder / name, progress=False)
    return folder / name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ready")
    data = write_corpus(folder / "corpus")
    store = make_store(folder, folder / "corpus")
    call = {
        "encoders": ["mini/random", f"store:{store}"],
        "recipe": write_recipe(folder / "tiny.yaml"),
        "data": data,
        "out": folder / "out",
        "quiet": True,
    }
    return {"folder": folder, "store": store, "call": call, "out": folder / "out", "results": compare(**call)}


def test_regions_are_one_more_encoder(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    assert results.complete and {row.encoder for row in results.rows} == {"mini/random", "store:updn", "question-only"}
    row = results.encoder("store:updn")
    assert row.grid == "2 to 4 regions x 6" and row.resize == "imported" and row.precision == "imported"
    pair = results.difference("tiny", "test", "store:updn", "mini/random")
    assert pair is not None and pair.n == 8


def test_what_was_not_measured_stays_empty(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    costs = results.encoder("store:updn").costs
    assert (costs.parameters, costs.gflops, costs.pictures_per_second, costs.store_bytes) == (None, None, None, None)
    assert results.encoder("mini/random").costs.gflops
    line = next(line for line in render_table(results).splitlines() if line.startswith("store:updn"))
    assert line.split()[-5:-1] == ["-"] * 4
    html = render(results)
    assert "store:updn" in html and "taken as they are" in html


def test_the_run_says_what_it_was_trained_on(world: dict[str, Any]) -> None:
    cell = next(cell for cell in world["results"].cells if cell.encoder == "store:updn")
    encoder = read_run(world["out"] / cell.path).result["encoder"]
    assert encoder["name"] == "bottom-up" and encoder["cells"] == "boxes"
    assert (encoder["layer"], encoder["resize"], encoder["channels"]) == ("imported", "imported", None)
    assert main(["evaluate", str(world["out"] / cell.path), "--split", "test"]) == 0
    with pytest.raises(UsageError, match="has no encoder for other pictures"):
        load(world["out"] / cell.path)


def test_nothing_is_run_twice_and_a_moved_store_is_known(world: dict[str, Any], tmp_path: Path) -> None:
    def stamps() -> dict[str, int]:
        cells = [cell for cell in world["results"].cells if cell.encoder == "store:updn"]
        return {cell.path: (world["out"] / cell.path / "result.json").stat().st_mtime_ns for cell in cells}

    before = stamps()
    assert compare(**world["call"]).complete and stamps() == before
    moved = world["folder"] / "elsewhere" / "updn"
    moved.parent.mkdir()
    world["store"].rename(moved)
    assert compare(**{**world["call"], "encoders": ["mini/random", f"store:{moved}"]}).complete
    assert stamps() == before
    moved.rename(world["store"])
    # Other features under the same name and path are another encoder.
    other = make_store(tmp_path, world["folder"] / "corpus", seed=1)
    assert compare(**{**world["call"], "encoders": ["mini/random", f"store:{other}"]}).complete
    assert stamps() != before


def test_features_that_went_out_and_came_back_give_the_same_score(world: dict[str, Any], tmp_path: Path) -> None:
    (store,) = world["out"].glob("features/mini-random-*")
    export_features(store, format="mmf-pth", out=tmp_path / "files", progress=False)
    import_features(
        tmp_path / "files", format="mmf-pth", encoder_name="theirs", out=tmp_path / "back",
        options=Options(layout="chw"), progress=False,
    )  # fmt: skip
    call = {**world["call"], "out": tmp_path / "out", "question_only": False}
    results = compare(**{**call, "encoders": [f"store:{tmp_path / 'back'}"]})
    for split in ("test", "shifted"):
        there, here = world["results"].row("tiny", split, "mini/random"), results.row("tiny", split, "store:back")
        assert there is not None and here is not None and there.mean == here.mean
    runs = [world["out"] / "cells/tiny/mini-random/seed-0", tmp_path / "out/cells/tiny/store-back/seed-0"]
    assert (runs[0] / "best.safetensors").read_bytes() == (runs[1] / "best.safetensors").read_bytes()


def test_a_process_of_its_own_finds_the_store(world: dict[str, Any]) -> None:
    names = {key: world["call"][key] for key in ("encoders", "recipe", "data")}
    plan = make_plan(merge(None, **names), world["out"])
    cell = next(cell for cell in plan.cells if cell.entry.title == "store:updn")
    assert plan.store_path(cell) == world["store"] and len(stored_features(cell, plan).batch(["0.png"]).cells) == 1


def test_regions_without_boxes_cannot_tell_a_model_where_they_are(world: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "updn_att"
    folder.mkdir()
    for number in range(40):
        regions = np.random.default_rng(number).standard_normal((3, 6)).astype(np.float32)
        np.savez(folder / f"{number}.png.npz", feat=regions)
    store = tmp_path / "store"
    import_features(folder, format="clipvil-caption", encoder_name="bottom-up", out=store, progress=False)
    call = {**world["call"], "out": tmp_path / "out", "encoders": [f"store:{store}"], "question_only": False}
    failed = compare(**call).failures
    assert len(failed) == 1 and "'model.cell_positions' needs to know where cells lie" in failed[0].error
    assert compare(**{**call, "overrides": ["model.cell_positions=false"]}).complete


def test_a_store_that_is_not_there_is_said_at_once(world: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no feature store here"):
        compare(**{**world["call"], "out": tmp_path / "a", "encoders": [f"store:{tmp_path}/nowhere"]})
    part = tmp_path / "part"
    import_features(
        world["folder"] / "updn.tsv", format="bottom-up-tsv", encoder_name="x", out=part, shard="1/2", shard_size=9,
        progress=False,
    )  # fmt: skip
    with pytest.raises(StoreError, match="is not finished"):
        compare(**{**world["call"], "out": tmp_path / "b", "encoders": [f"store:{part}"]})


def test_a_store_has_no_options() -> None:
    assert EncoderEntry(name="store:a/updn").title == "store:updn"
    with pytest.raises(RecipeError, match="is a store: its features are there, resize is too late"):
        Suite.from_values({"encoders": [{"name": "store:a/updn", "resize": "square"}]})
