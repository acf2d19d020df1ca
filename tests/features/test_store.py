from __future__ import annotations

import pickle
import threading
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from clipvil.errors import StoreError
from clipvil.features import layout
from clipvil.features.base import FeatureSource
from clipvil.features.store import Store
from clipvil.features.verify import verify
from tests.features.build import TORCH, contents, grid_of, pooled_of, write_store

IDS = [f"picture {number}.jpg" for number in range(10)]
SHAPES = [(2, 3), (3, 2), (1, 5)]


def expected_cells(number: int, manifest, shapes=SHAPES) -> torch.Tensor:  # type: ignore[no-untyped-def]
    return grid_of(number, shapes[number % len(shapes)], manifest).float().flatten(0, 1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("join", [True, False])
def test_round_trip(tmp_path: Path, dtype: str, join: bool) -> None:
    manifest = write_store(tmp_path / "s", IDS, shapes=SHAPES, dtype=dtype, join=join)
    store = Store.open(tmp_path / "s")
    assert len(store) == 10 and store.ids() == IDS and store.complete
    for number, image_id in enumerate(IDS):
        features = store[image_id]
        assert features.grid.dtype == TORCH[dtype]
        assert torch.equal(features.grid, grid_of(number, SHAPES[number % 3], manifest))
        assert features.pooled is not None and torch.equal(features.pooled, pooled_of(number, manifest))
        assert features.original_size == (100 + number, 200) and features.box == (-3, 1, 38, 31)


def test_batch_of_unequal_shapes_is_padded_and_masked(tmp_path: Path) -> None:
    manifest = write_store(tmp_path / "s", IDS, shapes=SHAPES)
    batch = Store.open(tmp_path / "s").batch([IDS[2], IDS[9], IDS[4], IDS[2]])
    assert batch.cells.dtype == torch.float32 and batch.cells.shape == (4, 6, 3)
    assert batch.shapes.tolist() == [[1, 5], [2, 3], [3, 2], [1, 5]] and batch.shapes.dtype == torch.int64
    assert batch.mask is not None and batch.mask.sum(1).tolist() == [5, 6, 6, 5]
    for place, number in enumerate((2, 9, 4, 2)):
        assert torch.equal(batch.cells[place][batch.mask[place]], expected_cells(number, manifest))
        assert batch.pooled is not None
        assert torch.equal(batch.pooled[place], pooled_of(number, manifest).float())
    assert not batch.cells[~batch.mask].any()


def test_batch_of_equal_shapes_has_no_mask(tmp_path: Path) -> None:
    manifest = write_store(tmp_path / "s", IDS, pooled=None)
    batch = Store.open(tmp_path / "s").batch(IDS[::-1])
    assert batch.mask is None and batch.pooled is None
    assert torch.equal(batch.cells[0], expected_cells(9, manifest, [(2, 3)]))


def test_a_store_is_a_feature_source(tmp_path: Path) -> None:
    write_store(tmp_path / "s", IDS, failed={IDS[3]: "truncated"})
    source: FeatureSource = Store.open(tmp_path / "s")
    assert IDS[0] in source and IDS[3] not in source and "nothing" not in source and 7 not in source
    assert (source.spec.name, source.spec.grid_channels, source.spec.pooled_channels) == ("tiny", 3, 2)


def test_failed_and_absent_pictures_are_named(tmp_path: Path) -> None:
    write_store(tmp_path / "s", IDS, failed={IDS[3]: "truncated", IDS[8]: "too_large"})
    store = Store.open(tmp_path / "s")
    assert [(failure.id, failure.reason) for failure in store.failures()] == [
        (IDS[3], "truncated"),
        (IDS[8], "too_large"),
    ]
    assert len(store) == 8 and IDS[3] not in store.ids()
    with pytest.raises(StoreError, match=r"'picture 3.jpg' has no features: truncated"):
        store.batch(IDS)
    with pytest.raises(StoreError, match="no features of picture 'other'"):
        store["other"]


def test_unfinished_store_reads_as_far_as_it_goes(tmp_path: Path) -> None:
    manifest = write_store(tmp_path / "s", IDS, skip_shards=(1,))
    store = Store.open(tmp_path / "s")
    assert not store.complete and len(store) == 6
    assert torch.equal(store.batch([IDS[9]]).cells[0], expected_cells(9, manifest, [(2, 3)]))
    with pytest.raises(StoreError, match="not finished"):
        store.batch([IDS[5]])
    assert not (tmp_path / "s" / layout.INDEX).exists()
    report = verify(tmp_path / "s")
    assert not report.ok and "1 of 3 shards are missing" in report.problems[0]


def test_opening_joins_a_complete_store_and_joining_is_repeatable(tmp_path: Path) -> None:
    write_store(tmp_path / "joined", IDS, failed={IDS[1]: "empty"})
    write_store(tmp_path / "loose", IDS, failed={IDS[1]: "empty"}, join=False)
    assert len(Store.open(tmp_path / "loose")) == 9
    assert contents(tmp_path / "loose") == contents(tmp_path / "joined")
    assert verify(tmp_path / "loose").ok


def test_strange_ids_survive(tmp_path: Path) -> None:
    ids = ["a\nb 🎈.jpg", "", "ünïcode", b"latin-\xe9.jpg".decode("utf-8", "surrogateescape"), "x" * 3000]
    write_store(tmp_path / "s", ids, failed={ids[3]: "corrupt", ids[0]: "corrupt"})
    store = Store.open(tmp_path / "s")
    assert store.ids() == [ids[1], ids[2], ids[4]]
    assert [failure.id for failure in store.failures()] == [ids[0], ids[3]]
    assert verify(tmp_path / "s").ok


def test_repeated_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="'b' occurs twice"):
        write_store(tmp_path / "s", ["a", "b", "c", "d", "e", "b"])


def test_shards_are_ordinary_safetensors_files(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    manifest = write_store(tmp_path / "s", IDS, dtype="bfloat16")
    tensors = load_file(layout.shard_data(tmp_path / "s", 2))
    assert torch.equal(tensors["cells"][-6:], grid_of(8, (2, 3), manifest).flatten(0, 1))
    assert set(load_file(tmp_path / "s" / layout.INDEX)) >= {"rows", "hashes", "order", "id_bytes", "id_ends"}


def test_many_shards_need_few_file_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [str(number) for number in range(40)]
    manifest = write_store(tmp_path / "s", ids, shard_size=1)
    store = Store.open(tmp_path / "s")
    monkeypatch.setattr(store, "_limit", 8)
    for _ in range(2):
        cells = store.batch(ids).cells
        assert len(store._readers) <= 8
    assert torch.equal(cells[17], expected_cells(17, manifest, [(2, 3)]))


def test_threads_share_a_store(tmp_path: Path) -> None:
    manifest = write_store(tmp_path / "s", IDS, shapes=SHAPES, shard_size=1)
    store = Store.open(tmp_path / "s")
    store._limit = 2
    wrong: list[int] = []

    def read() -> None:
        for _ in range(30):
            batch = store.batch(IDS)
            for number in range(10):
                if not torch.equal(batch.cells[number][batch.mask[number]], expected_cells(number, manifest)):
                    wrong.append(number)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class Reading(Dataset[torch.Tensor]):
    def __init__(self, store: Store) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(IDS)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.store.batch([IDS[number]]).cells[0]


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_loader_workers_read_a_store(tmp_path: Path, context: str, workers: int) -> None:
    manifest = write_store(tmp_path / "s", IDS)
    store = Store.open(tmp_path / "s")
    store.batch(IDS[:2])  # already open in the parent: its maps are inherited by fork
    loader = DataLoader(Reading(store), batch_size=None, num_workers=workers, multiprocessing_context=context)
    for number, cells in enumerate(loader):
        assert torch.equal(cells, expected_cells(number, manifest, [(2, 3)]))


def test_a_store_pickles_small(tmp_path: Path) -> None:
    write_store(tmp_path / "s", IDS)
    store = Store.open(tmp_path / "s", check=True)
    store.batch(IDS)
    raw = pickle.dumps(store)
    assert len(raw) < 500
    again = pickle.loads(raw)  # noqa: S301 (a round trip of our own bytes)
    assert again.check and torch.equal(again.batch(IDS).cells, store.batch(IDS).cells)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
def test_reading_lets_go_of_the_pages_it_has_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [str(number) for number in range(64)]
    write_store(tmp_path / "store", ids, channels=1024, shapes=[(8, 8)], shard_size=64, pooled=None)  # 8 MB

    def mapped() -> int:
        """kB of the shard that this process holds."""
        lines = Path("/proc/self/smaps").read_text().split("\n")
        starts = [number for number, line in enumerate(lines) if line.endswith("store/shard-00000.safetensors")]
        return sum(int(lines[start + offset].split()[1]) for start in starts for offset in range(1, 8)
                   if lines[start + offset].startswith("Rss:"))  # fmt: skip

    store = Store.open(tmp_path / "store")
    first = store.batch(ids)
    assert mapped() > 6000
    monkeypatch.setattr("clipvil.features.store._HELD", 1 << 20)
    small = Store.open(tmp_path / "store")
    del store
    for image_id in ids * 2:
        assert torch.equal(small.batch([image_id]).cells[0], first.cells[int(image_id)])
    assert mapped() < 3000
