from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from clipvil.errors import EncoderError, ImageError, StoreError, UsageError
from clipvil.features import layout
from clipvil.features.extract import ExtractReport, extract
from clipvil.features.store import Store
from clipvil.features.verify import verify
from clipvil.images.normalise import normalise
from clipvil.images.prepare import prepare
from clipvil.images.resize import policy
from clipvil.images.sources import ImageItem, ListSource, open_source
from tests.features.build import contents
from tests.features.tiny import tiny_encoder, write_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "pictures"
    write_pictures(folder, 30)
    return folder


def run(source: object, out: Path, **options: object) -> ExtractReport:
    settings: dict[str, object] = {
        "encoder": tiny_encoder(),
        "resize": "native",
        "precision": "fp32",
        "batch_size": 4,
        "shard_size": 8,
        "progress": False,
        **options,
    }
    return extract(source, out=out, **settings)  # type: ignore[arg-type]


def test_features_are_those_of_one_picture_at_a_time(pictures: Path, tmp_path: Path) -> None:
    report = run(pictures, tmp_path / "s", dtype="float32")
    assert (report.done, report.failed, report.skipped, report.exit_code, report.complete) == (30, 0, 0, 0, True)
    encoder, store = tiny_encoder(), Store.open(tmp_path / "s", check=True)
    for item in open_source(pictures):
        one = prepare(item.read(), policy("native"), encoder.preprocess, encoder.stride, where=item.where)
        expected = encoder.encode(normalise(one.pixels[None], encoder.preprocess))
        features = store[item.image_id]
        assert torch.allclose(features.grid, expected.grid[0].permute(1, 2, 0), atol=1e-5)
        assert features.pooled is not None and expected.pooled is not None
        assert torch.allclose(features.pooled, expected.pooled[0], atol=1e-5)
        assert (features.original_size, features.box) == (one.original_size, one.box)
    assert {tuple(shape) for shape in store.batch(store.ids()).shapes.tolist()} == {(4, 6), (6, 4), (4, 4), (2, 6)}
    assert verify(tmp_path / "s").ok


def test_bytes_do_not_depend_on_workers_slices_or_interruptions(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "whole", workers=0)
    expected = contents(tmp_path / "whole")
    run(pictures, tmp_path / "workers", workers=3)
    assert contents(tmp_path / "workers") == expected
    assert not run(pictures, tmp_path / "slices", shard="2/3").complete
    assert not run(pictures, tmp_path / "slices", shard="1/3").complete
    assert run(pictures, tmp_path / "slices", shard="3/3").complete
    assert contents(tmp_path / "slices") == expected


class Stop(Exception):
    """Stands for whatever ends a process in the middle."""


def stopping(after: int, error: BaseException) -> Callable[..., object]:
    """An encoder that fails at its n-th batch."""
    encoder = tiny_encoder()
    whole, calls = encoder.encode, iter(range(1000))

    def encode(pixels: torch.Tensor) -> object:
        if next(calls) == after:
            raise error
        return whole(pixels)

    encoder.encode = encode  # type: ignore[method-assign, assignment]
    return encoder  # type: ignore[return-value]


@pytest.mark.parametrize("after", [0, 1, 5, 8])
def test_going_on_after_an_error_gives_the_same_bytes(pictures: Path, tmp_path: Path, after: int) -> None:
    run(pictures, tmp_path / "whole")
    with pytest.raises(Stop):
        run(pictures, tmp_path / "s", encoder=stopping(after, Stop()))
    left = {path.name for path in (tmp_path / "s").iterdir()}
    assert not [name for name in left if name.endswith(".tmp")] and layout.INDEX not in left
    report = run(pictures, tmp_path / "s")
    assert report.done + report.skipped == 30 and (after < 5 or report.skipped >= 8)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_interrupt_leaves_nothing_half_written(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path / "s", encoder=stopping(4, KeyboardInterrupt()), workers=2)
    assert not list((tmp_path / "s").glob(".*"))
    assert run(pictures, tmp_path / "s").complete


def test_finished_store_is_not_touched_again(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "s")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("shard*")}
    report = run(pictures, tmp_path / "s", encoder=stopping(0, Stop()))
    assert (report.done, report.skipped) == (0, 30)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("shard*")} == before


def test_damaged_shards_are_made_again(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "s")
    expected = contents(tmp_path / "s")
    data = layout.shard_data(tmp_path / "s", 1)
    data.write_bytes(data.read_bytes()[:-10])
    layout.shard_index(tmp_path / "s", 2).write_bytes(b"nonsense")
    report = run(pictures, tmp_path / "s")
    assert report.done == 16 and contents(tmp_path / "s") == expected


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"encoder": tiny_encoder(seed=1, name="other")}, "encoder is tiny .* there, other .* asked"),
        ({"resize": "square"}, "resize is native there, square asked"),
        ({"dtype": "bfloat16"}, "dtype is float16 there, bfloat16 asked"),
        ({"precision": "bf16"}, r"precision is fp32\+channels_last there, bf16\+channels_last asked"),
        ({"store_pooled": False}, "pooled channels is 12 there, None asked"),
        ({"shard_size": 4}, "shard size is 8 there, 4 asked"),
    ],
)
def test_a_store_refuses_to_mix(pictures: Path, tmp_path: Path, change: dict, told: str) -> None:
    run(pictures, tmp_path / "s")
    before = contents(tmp_path / "s")
    with pytest.raises(StoreError, match=told):
        run(pictures, tmp_path / "s", **change)
    assert contents(tmp_path / "s") == before


def test_a_store_refuses_another_list_of_pictures(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "s")
    items = list(open_source(pictures))
    with pytest.raises(StoreError, match=r"pictures is 30 .* there, 29 .* asked"):
        run(ListSource(items[:-1]), tmp_path / "s")
    with pytest.raises(StoreError, match="pictures is 30"):
        run(ListSource(items[::-1]), tmp_path / "s")


def test_other_folders_are_left_alone(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    (tmp_path / "notes" / ".draft.tmp").write_text("mine")
    with pytest.raises(StoreError, match="is not empty and holds no feature store"):
        run(pictures, tmp_path / "notes")
    with pytest.raises(StoreError, match="is a file"):
        run(pictures, tmp_path / "notes" / "diary.txt")
    assert sorted(path.name for path in (tmp_path / "notes").iterdir()) == [".draft.tmp", "diary.txt"]


@pytest.mark.parametrize(
    "options",
    [
        {"shard": "0/2"},
        {"shard": "3/2"},
        {"shard": "a"},
        {"max_bad": "some"},
        {"max_bad": "1.5"},
        {"max_bad": "-1"},
        {"dtype": "float8"},
        {"precision": "fp31"},
        {"backend": "tflite"},
        {"resize": "round"},
        {"batch_size": -1},
        {"device": "tpu"},
        {"backend": "onnx", "precision": "fp16"},
    ],
)
def test_wrong_use_is_refused_before_anything_is_written(pictures: Path, tmp_path: Path, options: dict) -> None:
    with pytest.raises(UsageError):
        run(pictures, tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


@pytest.fixture
def mixed(pictures: Path, tmp_path: Path) -> Path:
    """Thirty pictures of which three cannot be used."""
    folder = tmp_path / "mixed"
    shutil.copytree(pictures, folder)
    (folder / "0003.png").write_bytes(b"")
    (folder / "0011.png").write_text("not a picture")
    (folder / "0012.png").write_bytes((pictures / "0012.png").read_bytes()[:200])
    return folder


def test_failures_are_counted_and_the_rest_is_kept(mixed: Path, tmp_path: Path) -> None:
    report = run(mixed, tmp_path / "s")
    assert (report.done, report.failed, report.exit_code) == (27, 3, 0)
    assert report.reasons == {"empty": 1, "unsupported": 1, "truncated": 1}
    lines = [json.loads(line) for line in (tmp_path / "s" / layout.FAILURES).read_text().splitlines()]
    assert [(line["id"], line["reason"]) for line in lines] == [
        ("0003.png", "empty"),
        ("0011.png", "unsupported"),
        ("0012.png", "truncated"),
    ]
    assert all(line["path"].endswith(line["id"]) and line["message"] for line in lines)
    assert len(Store.open(tmp_path / "s")) == 27 and verify(tmp_path / "s").ok


@pytest.mark.parametrize(
    ("max_bad", "code"), [(0, 3), (2, 3), (3, 0), ("0.05", 3), ("0.1", 0), ("10%", 0), (0.09, 3), (None, 0)]
)
def test_max_bad(mixed: Path, tmp_path: Path, max_bad: object, code: int) -> None:
    report = run(mixed, tmp_path / "s", max_bad=max_bad)
    assert report.exit_code == code and report.done == 27
    assert run(mixed, tmp_path / "s", max_bad=max_bad).exit_code == code  # and again, when all is skipped


def test_a_store_without_one_usable_picture_is_never_a_success(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.png").write_bytes(b"")
    report = run(tmp_path / "p", tmp_path / "s", precision="auto")
    assert (report.exit_code, report.done, report.failed) == (3, 0, 1)
    assert len(Store.open(tmp_path / "s")) == 0 and verify(tmp_path / "s").ok


def test_retry_failed_recovers_what_can_be_read_now(mixed: Path, pictures: Path, tmp_path: Path) -> None:
    run(mixed, tmp_path / "s")
    before = contents(tmp_path / "s")
    assert run(mixed, tmp_path / "s", retry_failed=True).failed == 3
    assert contents(tmp_path / "s") == before
    for name in ("0003.png", "0011.png"):
        shutil.copy(pictures / name, mixed / name)
    shutil.copytree(tmp_path / "s", tmp_path / "again")
    assert run(mixed, tmp_path / "s").done == 0
    report = run(mixed, tmp_path / "s", retry_failed=True)
    assert (report.done, report.failed, report.skipped) == (2, 1, 27)
    assert verify(tmp_path / "s").ok and len(Store.open(tmp_path / "s")) == 29
    run(pictures, tmp_path / "clean")
    clean, store = Store.open(tmp_path / "clean"), Store.open(tmp_path / "s", check=True)
    for name in store.ids():
        assert torch.allclose(clean[name].grid.float(), store[name].grid.float(), atol=2e-3)
    # Stopped in the middle of a retry and started again: the same bytes.
    with pytest.raises(Stop):
        run(mixed, tmp_path / "again", retry_failed=True, encoder=stopping(1, Stop()))
    run(mixed, tmp_path / "again", retry_failed=True)
    assert contents(tmp_path / "again") == contents(tmp_path / "s")


def test_a_retry_notes_a_new_reason(mixed: Path, tmp_path: Path) -> None:
    run(mixed, tmp_path / "s")
    (mixed / "0003.png").write_bytes(b"no longer empty")
    run(mixed, tmp_path / "s", retry_failed=True)
    assert next(failure.reason for failure in Store.open(tmp_path / "s").failures()) == "unsupported"
    assert verify(tmp_path / "s").ok


def test_sources_that_raise_anything_are_counted(tmp_path: Path) -> None:
    def reading(error: Exception) -> Callable[[], bytes]:
        def read() -> bytes:
            raise error

        return read

    items = [
        ImageItem("a", "a", reading(ImageError("missing", "a: gone"))),
        ImageItem("b", "b", reading(PermissionError(13, "Permission denied"))),
        ImageItem("c", "c", reading(ValueError("odd"))),
    ]
    report = run(ListSource(items), tmp_path / "s")
    assert report.reasons == {"missing": 1, "unreadable": 1, "error": 1}


def test_an_archive_is_a_source(pictures: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for path in sorted(pictures.iterdir())[:9]:
            archive.write(path, f"inner/{path.name}")
    assert run(tmp_path / "p.zip", tmp_path / "s").done == 9
    assert Store.open(tmp_path / "s").ids()[0] == "inner/0000.png"


def test_no_pooled(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "asked", store_pooled=False)
    run(pictures, tmp_path / "lacking", encoder=tiny_encoder(pooled=False))
    for name in ("asked", "lacking"):
        store = Store.open(tmp_path / name)
        assert store.batch(store.ids()[:2]).pooled is None and store.spec.pooled_channels is None
        assert verify(tmp_path / name).ok


def test_values_beyond_the_dtype_are_refused(pictures: Path, tmp_path: Path) -> None:
    encoder = tiny_encoder()
    with torch.no_grad():
        encoder.module.layers[2].bias.fill_(70_000.0)  # type: ignore[union-attr, index, operator]
    with pytest.raises(EncoderError, match=r"--dtype bfloat16"):
        run(pictures, tmp_path / "half", encoder=encoder)
    assert run(pictures, tmp_path / "brain", encoder=encoder, dtype="bfloat16").done == 30


def test_wrongly_declared_channels_are_refused(pictures: Path, tmp_path: Path) -> None:
    encoder = tiny_encoder()
    encoder.grid_channels = 13
    with pytest.raises(EncoderError, match="channels"):
        run(pictures, tmp_path / "s", encoder=encoder)


def test_precision_is_decided_once(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(pictures, tmp_path / "s", precision="auto", progress=True, shard="1/2")
    assert "cosine to fp32" in capsys.readouterr().err
    entry = Store.open(tmp_path / "s").manifest.precision
    assert entry.choice == first.precision and entry.cosine > 0.9995
    second = run(pictures, tmp_path / "s", precision="auto", progress=True, shard="2/2")
    assert "cosine to fp32" not in capsys.readouterr().err
    assert second.precision == first.precision and second.complete


def test_bf16_is_measured_and_recorded(pictures: Path, tmp_path: Path) -> None:
    encoder = tiny_encoder()
    before = encoder.module.layers[0].weight.clone()  # type: ignore[union-attr, index, operator]
    report = run(pictures, tmp_path / "s", precision="bf16", encoder=encoder)
    assert report.precision == "bf16+channels_last" and 0.99 < report.cosine < 1
    assert torch.equal(encoder.module.layers[0].weight, before)  # type: ignore[union-attr, index]


def test_cost_is_recorded_apart(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "s", shard="1/2")
    run(pictures, tmp_path / "s", shard="2/2")
    cost = Store.open(tmp_path / "s").cost()
    assert cost["parameters"] == 1100 and cost["gflops"] > 0 and cost["pictures_per_second"] > 0
    # Grids of 24, 24, 16 and 12 cells in turn and a pooled vector, 12 channels of two bytes.
    assert 300 < cost["bytes_per_picture"] < 700
    assert [entry["slice"] for entry in cost["runs"]] == ["1/2", "2/2"]
    assert run(pictures, tmp_path / "s").done == 0
    assert Store.open(tmp_path / "s").cost() == cost


def test_policy_smaller_than_a_cell_is_an_error_of_use(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="less than one cell"):
        run(pictures, tmp_path / "s", resize="square:4")


def test_compiled_backends_without_their_extra_say_what_to_install(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EncoderError, match=r"pip install \"clipvil\[openvino\]\""):
        run(pictures, tmp_path / "s", resize="square", backend="openvino")
