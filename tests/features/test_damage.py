"""Damaged stores give one clear line, never a crash and never wrong data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipvil.errors import StoreError
from clipvil.features import layout
from clipvil.features.index import Index
from clipvil.features.manifest import Manifest, load_manifest
from clipvil.features.store import Store
from clipvil.features.tensorfile import TensorFile
from clipvil.features.verify import verify
from tests.features.build import grid_of, make_manifest, write_store

IDS = [f"p{number}" for number in range(6)]
QUIET = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "sound"
    write_store(folder, IDS, shapes=[(2, 3), (1, 2)], failed={"p2": "empty"})
    return folder


def copy(sound: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    return folder


def read_everything(folder: Path, *, check: bool) -> None:
    """Read all that a damaged store still offers; StoreErrors are fine, wrong values are not."""
    try:
        store = Store.open(folder, check=check)
        manifest = make_manifest(IDS)
        names = store.ids()
    except StoreError as error:
        assert "\n" not in str(error)
        return
    for number, image_id in enumerate(IDS):
        try:
            grid = store[image_id].grid if image_id in names else None
            store.batch([image_id])
        except StoreError as error:
            assert "\n" not in str(error)
            continue
        if grid is not None and check:
            assert torch.equal(grid, grid_of(number, [(2, 3), (1, 2)][number % 2], manifest))


FILES = [
    layout.INDEX,
    layout.MANIFEST,
    layout.FAILURES,
    "shard-00000.safetensors",
    "shard-00001.safetensors",
    "shard-00000.index.safetensors",
]


@QUIET
@given(data=st.data())
def test_flipped_bytes_are_found(sound: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = copy(sound, tmp_path)
    path = folder / data.draw(st.sampled_from(FILES))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    if path.read_bytes() == raw:
        return  # flipped back
    path.write_bytes(raw)
    report = verify(folder)
    # The padding of a header and the free text of a manifest or a metadata table carry nothing that could be wrong.
    harmless = path.name == layout.MANIFEST or _same_tensors(sound / path.name, path)
    assert harmless or not report.ok
    assert all("\n" not in problem for problem in report.problems)
    read_everything(folder, check=True)
    read_everything(folder, check=False)


def _same_tensors(one: Path, other: Path) -> bool:
    if one.suffix != ".safetensors":
        return False
    try:
        a, b = TensorFile(one), TensorFile(other)
    except StoreError:
        return False
    return a.dtypes == b.dtypes and all(a.arrays[key].tobytes() == b.arrays[key].tobytes() for key in a.arrays)


@QUIET
@given(data=st.data())
def test_truncated_or_extended_files_are_found(sound: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = copy(sound, tmp_path)
    path = folder / data.draw(st.sampled_from(FILES))
    raw = path.read_bytes()
    length = data.draw(st.integers(0, len(raw) + 50))
    if length == len(raw):
        return
    path.write_bytes(raw[:length] + b"\0" * max(0, length - len(raw)))
    report = verify(folder)
    only_newline = path.name == layout.MANIFEST and length == len(raw) - 1
    assert only_newline or not report.ok
    read_everything(folder, check=False)


@QUIET
@given(
    entry=st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=5), st.none())), data=st.data()
)
def test_lying_index_headers_are_found(sound: Path, tmp_path: Path, entry: dict, data: st.DataObject) -> None:
    folder = copy(sound, tmp_path)
    path = folder / data.draw(st.sampled_from([layout.INDEX, "shard-00000.safetensors"]))
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    name = data.draw(st.sampled_from(sorted(header)))
    number = st.integers(-(1 << 70), 1 << 70)
    field = data.draw(st.sampled_from(["shape", "data_offsets", "dtype", "whole"]))
    if field == "whole":
        header[name] = entry
    elif field == "dtype":
        header[name][field] = data.draw(st.sampled_from(["F64", "U8", "F32", "", "I64"]))
    else:
        header[name][field] = data.draw(st.lists(number | st.booleans() | st.integers(0, 40), max_size=5))
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    read_everything(folder, check=True)
    read_everything(folder, check=False)
    assert name == "__metadata__" or not verify(folder).ok or _same_tensors(sound / path.name, path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@QUIET
@given(value=JSON)
def test_any_manifest_gives_a_clear_line(tmp_path: Path, value: object) -> None:
    (tmp_path / layout.MANIFEST).write_text(json.dumps(value))
    with pytest.raises(StoreError, match=r"^[^\n]*manifest\.json[^\n]*$"):
        load_manifest(tmp_path)


@QUIET
@given(data=st.data())
def test_manifest_with_one_changed_field(sound: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = copy(sound, tmp_path)
    value = json.loads((folder / layout.MANIFEST).read_text())
    table = data.draw(st.sampled_from([value, value["encoder"], value["precision"], value["encoder"]["preprocess"]]))
    key = data.draw(st.sampled_from(sorted(table)))
    table[key] = data.draw(st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3))
    (folder / layout.MANIFEST).write_text(json.dumps(value))
    read_everything(folder, check=True)
    verify(folder)


@QUIET
@given(raw=st.binary(max_size=400))
def test_any_bytes_as_an_index(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "index.safetensors"
    path.write_bytes(raw)
    with pytest.raises(StoreError, match=r"^[^\n]*index\.safetensors[^\n]*$"):
        Index.load(path)


def test_deeply_nested_json(tmp_path: Path) -> None:
    (tmp_path / layout.MANIFEST).write_text("[" * 100_000)
    with pytest.raises(StoreError, match="not JSON"):
        load_manifest(tmp_path)
    text = b'{"a":' * 60_000
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(StoreError, match="not JSON"):
        TensorFile(tmp_path / "x.safetensors")


def test_newer_schema_asks_for_an_upgrade(sound: Path, tmp_path: Path) -> None:
    folder = copy(sound, tmp_path)
    value = json.loads((folder / layout.MANIFEST).read_text())
    value["schema_version"] = 2
    (folder / layout.MANIFEST).write_text(json.dumps(value))
    with pytest.raises(StoreError, match="upgrade clipvil"):
        Store.open(folder)


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no feature store here"):
        Store.open(tmp_path / "nothing")
    with pytest.raises(StoreError, match="no feature store here"):
        Store.open(tmp_path)


def test_missing_shard_data(sound: Path, tmp_path: Path) -> None:
    folder = copy(sound, tmp_path)
    layout.shard_data(folder, 0).unlink()
    store = Store.open(folder)
    with pytest.raises(StoreError, match=r"shard-00000\.safetensors: missing"):
        store.batch(["p0"])
    assert "missing" in verify(folder).problems[0]


def test_manifest_survives_its_own_round_trip() -> None:
    manifest = make_manifest(IDS)
    assert Manifest.model_validate_json(manifest.to_bytes()) == manifest
    assert manifest.differences(manifest) == []


def test_differences_name_the_fields() -> None:
    one, other = make_manifest(IDS), make_manifest([*IDS, "p6"], dtype="float32", shard_size=5)
    told = " | ".join(one.differences(other))
    assert "dtype is float16 there, float32 asked" in told and "shard size is 4 there, 5 asked" in told
    assert "pictures is 6" in told and "encoder" not in told
