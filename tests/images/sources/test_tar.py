"""Tar shards: pictures by offset, nothing unpacked, nothing lost in silence."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipvil.errors import DataError, ImageError
from clipvil.images.decode import Limits
from clipvil.images.sources import ImageItem, open_source
from tests.images.pictures import jpeg


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def build(path: Path, *members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def outcomes(path: str | Path, **options: object) -> dict[str, bytes | str]:
    return {item.image_id: outcome(item) for item in open_source(path, **options)}  # type: ignore[arg-type]


def outcome(item: ImageItem) -> bytes | str:
    try:
        return item.read()
    except ImageError as error:
        assert "\n" not in str(error)
        return error.reason


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pictures_of_a_shard_in_order_with_everything_else_left_out(tmp_path: Path, format: int) -> None:
    long = "deep/" * 17 + "picture.jpg" if format == tarfile.USTAR_FORMAT else "x" * 300 + "é.jpg"
    path = build(
        tmp_path / "shard.tar",
        member("0001.jpg", b"one"),
        member("0001.json", b"{}"),
        member("./sub/0000.PNG", b"two" * 1000),
        member("sub", type=tarfile.DIRTYPE),
        member("plain.txt", b"text"),
        member(long, b"long"),
        format=format,
    )
    source = open_source(path)
    assert source.ids() == ["0001.jpg", "sub/0000.PNG", long]
    assert source.name == "shard.tar"
    copy = pickle.loads(pickle.dumps([source, *source]))  # noqa: S301 - own bytes, as workers do
    assert [item.read() for item in copy[1:]] == [item.read() for item in copy[0]] == [b"one", b"two" * 1000, b"long"]
    assert source[0].where == f"{path}:0001.jpg"


def test_many_shards_are_one_source(tmp_path: Path) -> None:
    for shard in range(12):
        build(tmp_path / f"s-{shard:03}.tar", member(f"{shard}.jpg", bytes([shard])))
    everything = {f"{shard}.jpg": bytes([shard]) for shard in range(12)}
    assert outcomes(f"{tmp_path}/s-{{000..011}}.tar") == everything
    assert outcomes(f"{tmp_path}/s-*.tar") == everything
    assert list(outcomes(f"{tmp_path}/s-{{010..008}}.tar")) == ["10.jpg", "9.jpg", "8.jpg"]
    assert outcomes(f"{tmp_path}/s-0{{0..1}}{{0..1}}.tar").keys() == {"0.jpg", "1.jpg", "10.jpg", "11.jpg"}
    assert outcomes(tmp_path, kind="tar") == everything
    with pytest.raises(DataError, match=r"s-012\.tar: does not exist"):
        open_source(f"{tmp_path}/s-{{011..012}}.tar")
    with pytest.raises(DataError, match="no file matches"):
        open_source(f"{tmp_path}/t-*.tar")


def test_hostile_members_are_counted_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    path = build(
        tmp_path / "hostile.tar",
        member("good.jpg", b"good"),
        member("/etc/absolute.jpg", b"x"),
        member("../climbs.jpg", b"x"),
        member("a/../../climbs.jpg", b"x"),
        member("symbolic.jpg", type=tarfile.SYMTYPE, linkname=str(tmp_path / "secret.jpg")),
        member("hard.jpg", type=tarfile.LNKTYPE, linkname="good.jpg"),
        member("device.jpg", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        member("pipe.jpg", type=tarfile.FIFOTYPE),
        member("folder.jpg", type=tarfile.DIRTYPE),
        member("empty.jpg"),
        member("big.jpg", bytes(2000)),
        member("new\nline \U0001f600.jpg", b"odd"),
    )
    before = sorted(tmp_path.iterdir())
    assert outcomes(path, limits=Limits(max_bytes=1000)) == {
        "good.jpg": b"good",
        "/etc/absolute.jpg": "unsupported",
        "../climbs.jpg": "unsupported",
        "a/../../climbs.jpg": "unsupported",
        "symbolic.jpg": "unsupported",
        "hard.jpg": "unsupported",
        "device.jpg": "unsupported",
        "pipe.jpg": "unsupported",
        "folder.jpg": "unreadable",
        "empty.jpg": "empty",
        "big.jpg": "too_large",
        "new\nline \U0001f600.jpg": b"odd",
    }
    assert sorted(tmp_path.iterdir()) == before


def test_double_ids_name_both_shards(tmp_path: Path) -> None:
    build(tmp_path / "a.tar", member("1.jpg", b"x"))
    build(tmp_path / "b.tar", member("./1.jpg", b"y"))
    with pytest.raises(DataError, match=r"'1\.jpg' occurs twice: .*a\.tar:1\.jpg and .*b\.tar:1\.jpg"):
        open_source(f"{tmp_path}/*.tar")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a tar file"),
        (b"no tar at all" * 100, "not a tar file"),
        (bytes(10_240), "holds no pictures"),
        (b"\x1f\x8b" + bytes(600), "compressed with gzip"),
        (b"BZh9" + bytes(600), "compressed with bzip2"),
        (b"\xfd7zXZ" + bytes(600), "compressed with xz"),
    ],
)
def test_what_is_no_tar_is_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "x.tar")


def test_a_cut_shard_keeps_its_pictures_and_counts_the_loss(tmp_path: Path) -> None:
    whole = build(tmp_path / "a.tar", *(member(f"{n}.jpg", bytes([n]) * 1000) for n in range(5))).read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[: 3 * 1536 + 700])  # inside the fourth picture
    found = outcomes(cut)
    assert [found[f"{n}.jpg"] for n in range(3)] == [bytes([n]) * 1000 for n in range(3)]
    assert found["3.jpg"] == "truncated" and found["cut.tar"] == "truncated" and "4.jpg" not in found
    cut.write_bytes(whole[: 3 * 1536 + 100])  # inside a header
    assert outcomes(cut).keys() == {"0.jpg", "1.jpg", "2.jpg", "cut.tar"}
    garbled = bytearray(whole)
    garbled[3 * 1536 : 3 * 1536 + 512] = b"\xaa" * 512  # tarfile itself would end here without a word
    cut.write_bytes(garbled)
    assert outcomes(cut)["cut.tar"] == "truncated"


def test_a_shard_that_changed_or_vanished_after_it_was_indexed(tmp_path: Path) -> None:
    path = build(tmp_path / "a.tar", member("1.jpg", b"x" * 600), member("2.jpg", b"y"))
    source = open_source(path)
    path.write_bytes(path.read_bytes()[:700])
    assert [outcome(item) for item in source] == ["truncated", "truncated"]
    path.unlink()
    assert [outcome(item) for item in source] == ["missing", "missing"]


def test_headers_that_ask_for_gigabytes_or_point_backwards_end_the_shard(tmp_path: Path) -> None:
    for number, (kind, size) in enumerate(
        [(b"x", 2**33), (b"L", 2**33), (b"x", -512), (b"0", -1024), (b"L", -(2**40))]
    ):
        info = tarfile.TarInfo("pax.jpg")
        info.type, info.size = kind, size
        path = tmp_path / f"{number}.tar"
        good = build(tmp_path / "good.tar", member("good.jpg", b"g")).read_bytes()[:1024]
        path.write_bytes(good + info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
        found = outcomes(path)
        assert found["good.jpg"] == b"g"
        assert set(found.values()) <= {b"g", "truncated", "empty"} and len(found) <= 3


def test_children_of_a_fork_read_the_same_bytes(tmp_path: Path) -> None:
    path = build(tmp_path / "a.tar", *(member(f"{n}.jpg", jpeg(seed=n)) for n in range(8)))
    source = open_source(path)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            good = all(source[n].read() == jpeg(seed=n) for n in list(range(8)) * 5)
            os._exit(0 if good else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_items_or_one_clear_error(tmp_path: Path, data: st.DataObject) -> None:
    format = data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    path = build(
        tmp_path / "x.tar", member("a.jpg", b"a" * 100), member("b" * 200 + "é.jpg", b"b" * 600), member("c.jpg", b"c"),
        format=format,
    )  # fmt: skip
    damaged = bytearray(path.read_bytes()[:6000])
    for _ in range(data.draw(st.integers(1, 10))):
        block = data.draw(st.integers(0, 11)) * 512
        damaged[min(block + data.draw(st.integers(0, 511)), len(damaged) - 1)] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: data.draw(st.integers(0, 2 * len(damaged)))])
    try:
        source = open_source(path)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        for item in source:
            outcome(item)
