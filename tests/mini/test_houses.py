from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipvil.datasets import registry
from clipvil.datasets.connectivity import Graphs, graph_from_rows
from clipvil.datasets.r2r import read_r2r
from clipvil.errors import DataError, UsageError
from clipvil.mini.drawing import PAINT
from clipvil.mini.house_corpus import SPLITS, open_houses, view_file, write_houses
from clipvil.mini.house_drawing import cast, panorama
from clipvil.mini.house_paths import HOPS, episode, paths, way
from clipvil.mini.houses import PAIRS, SIDE, house
from clipvil.mini.world import HELD_OUT
from clipvil.simulator.agents import named_agent, walk
from clipvil.simulator.tables import ScanTables
from clipvil.simulator.world import World

SMALL = {"train": 1, "test": 1}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("houses") / "corpus"
    write_houses(root, SMALL)
    return root


def test_houses_are_whole_and_their_rooms_are_apart() -> None:
    for index in range(20):
        one = house(0, "train", index)
        graph = graph_from_rows(one.connectivity(), "made", one.scan)
        assert np.isfinite(graph.distance).all()
        lengths = [graph.distance[a, b] for a, b in one.doors]
        assert min(lengths) > 3.0
        names = [room.landmark.name for room in one.rooms]
        assert len(set(names)) == len(names)
        for (start, goal), path in one.paths.items():
            assert graph.distance[start, goal] == pytest.approx(one.length(path), abs=1e-4)
    assert not set(PAIRS) & HELD_OUT and len(PAIRS) == 60


def test_bearings_of_the_house_are_those_of_the_simulator() -> None:
    one = house(3, "test", 1)
    graph = graph_from_rows(one.connectivity(), "made", one.scan)
    table = ScanTables(graph).panoramic
    for here in range(len(graph)):
        for slot in range(int(table.count[here])):
            expected = one.bearing(here, int(table.viewpoint[here, slot]))
            apart = (table.bearing[here, slot] - expected + math.pi) % (2 * math.pi) - math.pi
            assert abs(apart) < 1e-4


def test_a_candidate_s_view_shows_the_landmark_of_its_room() -> None:
    one = house(0, "train", 0)
    table = ScanTables(graph_from_rows(one.connectivity(), "made", one.scan)).panoramic
    for here in range(0, len(one.rooms), 4):
        views = panorama(one, here).astype(int)
        for slot in range(int(table.count[here])):
            there, view = int(table.viewpoint[here, slot]), int(table.view[here, slot])
            room = one.rooms[there]
            color = "white" if room.landmark.color == "blue" else "blue"
            other = replace(room, landmark=replace(room.landmark, color=color))
            repainted = panorama(replace(one, rooms=(*one.rooms[:there], other, *one.rooms[there + 1 :])), here)
            changed = (views != repainted).any(-1).sum((1, 2))
            paint = np.array(PAINT[room.landmark.color])
            assert (np.abs(views[view] - paint).sum(-1) < 12).sum() > 60
            # The sign takes up a good part of that view, and nothing of what lies behind.
            behind = 12 + (view + 6) % 12
            assert changed[view] > 100 and changed[behind] == 0


def test_rays_end_at_walls() -> None:
    one = house(0, "train", 0)
    room = one.rooms[0]
    depth, cell = cast(one, room.x, room.y)
    west = depth[round(0.75 * len(depth))]
    assert west == pytest.approx(room.x, abs=0.05) and cell.min() >= 0 and cell.max() < len(one.rooms)
    assert depth.max() <= math.hypot(one.columns, one.rows) * SIDE


def test_the_same_seed_draws_the_same_pixels_and_another_does_not() -> None:
    assert np.array_equal(panorama(house(1, "test", 0), 2), panorama(house(1, "test", 0), 2))
    assert house(1, "test", 0) == house(1, "test", 0) != house(2, "test", 0)


def test_turns_have_names() -> None:
    degrees = [0, 40, 50, 130, 140, 180, -50, -140, 350, 300]
    assert [way(math.radians(angle)) for angle in degrees] == [
        "straight", "straight", "right", "right", "back", "back", "left", "back", "straight", "left",
    ]  # fmt: skip


def test_instructions_lead_one_way_only() -> None:
    """Whoever sees landmarks and knows the turns can follow every sentence without a choice."""
    told = 0
    for index in range(4):
        one = house(5, "train", index)
        for path in paths(one, 5)[:10]:
            assert HOPS[0] <= len(path) - 1 <= HOPS[1]
            row = episode(one, path, 0, 5)
            for text in row["instructions"]:
                heading, sentences = row["heading"], text.split(" . ")
                assert len(sentences) == len(path)
                for sentence, (here, there) in zip(sentences, itertools.pairwise(path), strict=False):
                    fits = [n for n in one.neighbours[here] if one.rooms[n].landmark.name in sentence]
                    if not fits:
                        turn = next(
                            name
                            for name, words in (
                                ("left", ["left"]),
                                ("right", ["right"]),
                                ("back", ["around", "behind"]),
                                ("straight", ["straight", "forward"]),
                            )
                            if any(word in sentence for word in words)
                        )
                        fits = [n for n in one.neighbours[here] if way(one.bearing(here, n) - heading) == turn]
                    assert fits == [there], sentence
                    heading = one.bearing(here, there)
                    told += 1
    assert told > 200


def test_files_are_read_by_the_official_readers(corpus: Path) -> None:
    graphs = Graphs(corpus / "connectivity")
    assert (corpus / "connectivity" / "scans.txt").read_text().split() == sorted(graphs, reverse=True)
    for split in ("train", "val_seen", "test"):
        records = read_r2r(corpus / f"R2R_{split}.json", graphs=graphs)
        world = World(graphs)
        walked = walk(world, records, named_agent("shortest", world, records), turns=False)
        assert all(tuple(step[0] for step in walked[r.episode_id]) == r.path for r in records)
    data = {"format": "mini_r2r", "root": corpus}
    assert registry.split_names(data) == ["train", "val_seen", "test"]
    seen, train = registry.load(data, "val_seen"), registry.load(data, "train")
    assert {r.path for r in seen.records}.isdisjoint({r.path for r in train.records})
    assert len(train.pictures) % 36 == 0 and all(path.is_file() for path in train.pictures.values())
    plans = json.loads((corpus / "plans.json").read_text())
    assert all(len(plans[scan]["rooms"]) == len(graph) for scan, graph in graphs.items())
    with pytest.raises(DataError, match="there is no split 'val_unseen'"):
        registry.load(data, "val_unseen")
    named = {**data, "val": "val_seen"}
    assert registry.split_names(named) == ["train", "val", "test"]
    assert registry.load(named, "val").records == seen.records
    with pytest.raises(DataError, match="must be val_seen or val_unseen"):
        registry.split_names({**data, "val": "val_unseen"})


def test_the_same_seed_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    write_houses(tmp_path / "again", {"test": 1, "val_unseen": 1})
    scan = next((tmp_path / "again" / "views").glob("*test*"))
    for path in sorted(scan.iterdir()):
        assert path.read_bytes() == (corpus / "views" / scan.name / path.name).read_bytes()
    name = "R2R_test.json"
    assert (tmp_path / "again" / name).read_bytes() == (corpus / name).read_bytes()


def test_complete_houses_are_taken_as_they_are_and_others_are_not_overwritten(corpus: Path, tmp_path: Path) -> None:
    before = (corpus / "manifest.json").stat().st_mtime_ns
    assert write_houses(corpus, SMALL).houses == 2 and (corpus / "manifest.json").stat().st_mtime_ns == before
    assert open_houses(corpus).instructions.keys() <= set(SPLITS)
    with pytest.raises(UsageError, match="holds other houses"):
        write_houses(corpus, SMALL, seed=1)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty and no miniature houses"):
        write_houses(tmp_path / "letters", SMALL)
    with pytest.raises(UsageError, match="no group 'val' of houses"):
        write_houses(tmp_path / "new", {"val": 1})
    with pytest.raises(DataError, match="no miniature houses"):
        open_houses(tmp_path / "new")


def test_damage_is_named(tmp_path: Path) -> None:
    root = tmp_path / "houses"
    write_houses(root, {"test": 1})
    scan = (root / "connectivity" / "scans.txt").read_text().strip()
    viewpoint = json.loads((root / "plans.json").read_text())[scan]["rooms"][0]["viewpoint"]
    (root / view_file(scan, viewpoint, 7)).unlink()
    with pytest.raises(DataError, match="no whole number of panoramas"):
        open_houses(root)
    write_houses(root, {"test": 1}, force=True)
    (root / "R2R_test.json").write_text("[]")
    with pytest.raises(DataError, match="missing, or not what was written"):
        open_houses(root)
