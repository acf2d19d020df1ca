from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clipvil.features import layout
from clipvil.features.index import Index
from clipvil.features.locked import clean_abandoned, exclusive_write, open_locked, temporary_path
from clipvil.features.manifest import load_manifest
from clipvil.features.shard import ShardWriter
from tests.features.build import make_manifest, synthetic_index, write_store


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A merged index of 200,000 pictures with a manifest that fits it; no data, since opening must not look at any."""
    folder = tmp_path_factory.mktemp("large")
    ids, rows = synthetic_index(200_000)
    shards = -(-len(ids) // 256)
    index = Index.build(ids, rows, where="synthetic")
    index.generations = (0,) * shards
    with exclusive_write(folder / layout.INDEX) as stream:
        index.write(stream)
    (folder / layout.MANIFEST).write_bytes(make_manifest(ids, shard_size=256).to_bytes())
    return folder, ids


def test_finds_every_id(large: tuple[Path, list[str]]) -> None:
    folder, ids = large
    index = Index.load(folder / layout.INDEX)
    wanted = np.random.default_rng(0).integers(0, len(ids), 3000)
    assert index.find([ids[number] for number in wanted]).tolist() == wanted.tolist()
    assert index.find(["absent", ids[7] + " "]).tolist() == [-1, -1]
    index.check()


def test_opening_reads_next_to_nothing(large: tuple[Path, list[str]]) -> None:
    """Counted in bytes and not in seconds: a fresh process opens the index and finds an id while most stays on disk."""
    folder, ids = large
    size = (folder / layout.INDEX).stat().st_size
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from clipvil.features.index import Index\n"
        "pages = lambda: int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()\n"
        "before = pages()\n"
        "index = Index.load(Path(sys.argv[1]))\n"
        "assert index.find([sys.argv[2]]).tolist() == [123456]\n"
        "print(pages() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / layout.INDEX), ids[123_456]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert size > 20_000_000 and int(done.stdout) < size / 3


def test_equal_hashes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipvil.features.index.id_hash", lambda image_id: len(image_id))
    ids, rows = ["aa", "b", "bb", "cc", "ddd"], synthetic_index(5)[1]
    index = Index.build(ids, rows, where="collisions")
    assert index.find(["cc", "aa", "bb", "xx", "ddd"]).tolist() == [3, 0, 2, -1, 4]


def test_merging_keeps_rows_and_ids(tmp_path: Path) -> None:
    ids = [f"é{number}" for number in range(11)]
    write_store(tmp_path / "s", ids, shard_size=3)
    merged = Index.load(tmp_path / "s" / layout.INDEX)
    assert [merged.id(row) for row in range(11)] == ids
    assert merged.rows["shard"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]


def test_nothing_of_an_aborted_shard_stays(tmp_path: Path) -> None:
    manifest = make_manifest(["a", "b"])
    writer = ShardWriter(tmp_path, 0, manifest)
    assert [path.name for path in tmp_path.iterdir()] == [".shard-00000.safetensors.tmp"]
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_one_shard_are_refused(tmp_path: Path) -> None:
    from clipvil.errors import StoreError

    manifest = make_manifest(["a", "b"])
    writer = ShardWriter(tmp_path, 0, manifest)
    with pytest.raises(StoreError, match="another process is writing"):
        ShardWriter(tmp_path, 0, manifest)
    writer.abort()
    ShardWriter(tmp_path, 0, manifest).abort()


def test_only_dead_leftovers_are_cleaned(tmp_path: Path) -> None:
    alive = open_locked(tmp_path / "alive", wait=False)
    temporary_path(tmp_path / "dead").write_bytes(b"half")
    (tmp_path / "kept").write_bytes(b"x")
    (tmp_path / ".theirs.tmp").write_bytes(b"x")
    assert clean_abandoned(tmp_path, "alive|dead") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".alive.tmp", ".theirs.tmp", "kept"]
    alive.close()
    assert clean_abandoned(tmp_path, "alive|dead") == 1


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), exclusive_write(path) as stream:
        stream.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old" and [item.name for item in tmp_path.iterdir()] == ["file"]


def test_lying_totals_do_not_hang(tmp_path: Path) -> None:
    from clipvil.features.store import Store
    from clipvil.features.verify import verify

    write_store(tmp_path / "s", ["a", "b", "c"])
    path = tmp_path / "s" / layout.MANIFEST
    path.write_text(
        path.read_text().replace('"total": 3', '"total": 4000000000').replace('"shard_size": 4', '"shard_size": 1')
    )
    assert load_manifest(tmp_path / "s").shards == 4_000_000_000
    assert not verify(tmp_path / "s").ok
    from clipvil.errors import StoreError

    with pytest.raises(StoreError):
        Store.open(tmp_path / "s").batch(["a"])
