from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clipvil.datasets.base import Dataset
from clipvil.encoders.base import Preprocess
from clipvil.errors import StoreError, UsageError
from clipvil.images.canvas import canvas_mask, normalise_canvas, picture_mask
from clipvil.images.normalise import normalise
from clipvil.training.picture_files import open_pictures
from clipvil.training.pixels import PictureSource
from tests.training.picture_world import SIZES, picture_recipe, write_pictures

HALF = Preprocess((0.5, 0.5, 0.5), (0.25, 0.5, 1.0), "bicubic", (64, 64))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Eight pictures of four shapes, one cut short."""
    folder = tmp_path_factory.mktemp("pictures")
    splits = write_pictures(folder, 8)
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:200])
    return splits


def opened(corpus: dict[str, Dataset], out: Path, **changes: object) -> PictureSource:
    return open_pictures(picture_recipe(**changes), corpus, out, quiet=True)


def test_a_batch_has_each_picture_once_whole_and_padded(corpus: dict[str, Dataset], tmp_path: Path) -> None:
    source = opened(corpus, tmp_path)
    batch = source.pixels(["1", "0", "1", "3", "0"])
    assert batch.rows.tolist() == [0, 1, 0, 2, 1]
    # native:short=32,long=64 of 96x64, 64x96 and 64x128.
    assert batch.sizes.tolist() == [[64, 32], [32, 64], [32, 64]]
    assert batch.pixels.shape == (3, 3, 64, 64)
    for place, image_id in enumerate(["1", "0", "3"]):
        height, width = batch.sizes[place].tolist()
        alone = source.pixels([image_id]).pixels[0]
        assert alone.shape == (3, height, width)
        assert torch.equal(batch.pixels[place, :, :height, :width], alone)
        assert int(batch.pixels[place, :, height:].sum()) == int(batch.pixels[place, :, :, width:].sum()) == 0
    assert torch.equal(batch.mask(), canvas_mask(batch.pixels, batch.sizes))


def test_a_broken_picture_is_known_before_training(corpus: dict[str, Dataset], tmp_path: Path) -> None:
    source = opened(corpus, tmp_path)
    assert "5" not in source
    assert "4" in source
    assert source.describe()["failed"] == {"truncated": 1}
    assert "truncated" in (tmp_path / "pictures" / "failures.jsonl").read_text()
    with pytest.raises(StoreError, match="'5' is unknown, or could not be read"):
        source.pixels(["5"])
    with pytest.raises(StoreError, match="no features"):
        source.batch(["4"])


@pytest.mark.parametrize("keep", ["memory", "disk", "nowhere"])
def test_where_pictures_are_kept_changes_nothing_but_how_often_they_are_decoded(
    corpus: dict[str, Dataset], tmp_path: Path, keep: str
) -> None:
    plain = opened(corpus, tmp_path / "plain", pictures__keep="nowhere")
    first = opened(corpus, tmp_path, pictures__keep=keep)
    again = opened(corpus, tmp_path, pictures__keep=keep)
    ids = [image_id for image_id in map(str, range(8)) if image_id in first]
    for source in (first, again):
        assert torch.equal(source.pixels(ids).pixels, plain.pixels(ids).pixels)
        assert source.decoded == (7 if keep == "nowhere" else 0)
    assert (tmp_path / "pictures" / "pixels.bin").exists() == (keep == "disk")
    # Room for none: all are decoded when they are asked for.
    small = opened(corpus, tmp_path / "small", pictures__keep=keep, pictures__keep_mb=0)
    assert torch.equal(small.pixels(ids).pixels, plain.pixels(ids).pixels)
    assert small.decoded == 7


def test_the_index_is_taken_for_a_part_and_not_for_another_policy(corpus: dict[str, Dataset], tmp_path: Path) -> None:
    opened(corpus, tmp_path)
    stamp = (tmp_path / "pictures" / "index.json").stat().st_mtime_ns
    part = opened({"val": corpus["val"]}, tmp_path)
    assert (tmp_path / "pictures" / "index.json").stat().st_mtime_ns == stamp
    assert set(part.index.ids) == set(corpus["val"].pictures) - {"5"}
    # Another policy: looked at again.
    opened(corpus, tmp_path, encoder__resize="square:64")
    assert (tmp_path / "pictures" / "index.json").stat().st_mtime_ns != stamp
    damaged = tmp_path / "pictures" / "index.json"
    damaged.write_text(damaged.read_text()[:-20])
    assert "5" not in opened(corpus, tmp_path, encoder__resize="square:64")


def part(corpus: dict[str, Dataset], numbers: str) -> dict[str, Dataset]:
    """A use of a few of the pictures."""
    paths = {key: path for split in corpus.values() for key, path in split.pictures.items() if key in numbers}
    return {"train": Dataset("pictures", "train", (), paths)}


def shared_by(folder: Path, pictures: dict[str, Dataset], keep: str = "disk", **changes: object) -> PictureSource:
    """A run of its own with the folder as `features.store`."""
    return opened(pictures, folder / "run", features__store=str(folder / "shared"), pictures__keep=keep, **changes)


@pytest.mark.parametrize("keep", ["memory", "disk", "nowhere"])
def test_a_shared_folder_forgets_no_pictures_of_another_use(
    corpus: dict[str, Dataset], tmp_path: Path, keep: str
) -> None:
    first = shared_by(tmp_path, part(corpus, "0125"))
    index, pixels = (tmp_path / "shared" / name for name in ("index.json", "pixels.bin"))
    size = pixels.stat().st_size
    second = shared_by(tmp_path, part(corpus, "1346"), keep)
    grown = pixels.stat().st_size
    assert (grown > size) == (keep == "disk")
    assert "5" in second.index.failures and '"5"' in (tmp_path / "shared" / "failures.jsonl").read_text()
    # Nothing is decoded again, by either of them.
    stamp = index.stat().st_mtime_ns
    again = shared_by(tmp_path, part(corpus, "0125"))
    assert (index.stat().st_mtime_ns, pixels.stat().st_size) == (stamp, grown)
    plain = opened(corpus, tmp_path / "plain", pictures__keep="nowhere")
    for source, ids in ((first, "012"), (second, "1346"), (again, "012")):
        assert torch.equal(source.pixels(list(ids)).pixels, plain.pixels(list(ids)).pixels)
    assert first.decoded == again.decoded == 0
    assert second.decoded == (4 if keep == "nowhere" else 0)
    # And with keep=disk now, only what is not there yet is added.
    third = shared_by(tmp_path, part(corpus, "1346"))
    assert third.index.kept == 6 and torch.equal(third.pixels(["6", "0"]).pixels, plain.pixels(["6", "0"]).pixels)


def test_a_changed_picture_alone_is_made_anew_in_a_shared_folder(corpus: dict[str, Dataset], tmp_path: Path) -> None:
    own = write_pictures(tmp_path / "own", 4)
    before = shared_by(tmp_path, own)
    kept = before.pixels(["1", "2", "3"]).pixels
    (tmp_path / "own" / "0.png").write_bytes((tmp_path / "own" / "3.png").read_bytes())
    after = shared_by(tmp_path, own)
    assert torch.equal(after.pixels(["1", "2", "3"]).pixels, kept) and after.decoded == 0
    assert torch.equal(after.pixels(["0"]).pixels, after.pixels(["3"]).pixels)
    # Who reads the old file goes on with it.
    assert torch.equal(before.pixels(["1", "2", "3"]).pixels, kept)


def test_a_shared_folder_of_something_else_is_refused(corpus: dict[str, Dataset], tmp_path: Path) -> None:
    shared_by(tmp_path, corpus)
    index = (tmp_path / "shared" / "index.json").read_bytes()
    with pytest.raises(StoreError, match="resized by another policy"):
        shared_by(tmp_path, corpus, encoder__resize="square:64")
    assert (tmp_path / "shared" / "index.json").read_bytes() == index
    store = tmp_path / "other" / "shared"
    store.mkdir(parents=True)
    for name in ("manifest.json", "failures.jsonl"):
        (store / name).write_text("its own")
    with pytest.raises(StoreError, match="is a feature store"):
        shared_by(tmp_path / "other", corpus)
    assert {path.name: path.read_text() for path in store.iterdir()} == {
        "manifest.json": "its own", "failures.jsonl": "its own",
    }  # fmt: skip


def test_damage_to_kept_pictures_is_found(corpus: dict[str, Dataset], tmp_path: Path) -> None:
    good = opened(corpus, tmp_path, pictures__keep="disk").pixels(["0", "1"]).pixels
    file, index = (tmp_path / "pictures" / name for name in ("pixels.bin", "index.json"))
    data = bytearray(file.read_bytes())
    data[1] ^= 4
    file.write_bytes(data)
    source = opened(corpus, tmp_path, pictures__keep="disk")
    with pytest.raises(StoreError, match=r"pixels.bin: picture '0' is damaged .*remove the file"):
        source.pixels(["1", "0"])
    file.unlink()
    assert torch.equal(opened(corpus, tmp_path, pictures__keep="disk").pixels(["0", "1"]).pixels, good)
    whole = index.read_text()
    index.write_text(whole.replace("[0, 0, 32, 64]", "[0, 0, 32, 32]", 1))
    assert index.read_text() != whole
    assert opened(corpus, tmp_path, pictures__keep="disk").index.boxes.tolist() == json.loads(whole)["boxes"]


def test_a_picture_that_changed_during_training_is_named(corpus: dict[str, Dataset], tmp_path: Path) -> None:
    write_pictures(tmp_path / "own", 4)
    own = write_pictures(tmp_path / "own", 4)
    source = opened(own, tmp_path, pictures__keep="nowhere")
    (tmp_path / "own" / "0.png").write_bytes((tmp_path / "own" / "1.png").read_bytes())
    with pytest.raises(StoreError, match="'0' is 64x32 pixels now and was 32x64"):
        source.pixels(["0"])


def test_aspect_groups_put_squares_with_portraits(corpus: dict[str, Dataset], tmp_path: Path) -> None:
    source = opened(corpus, tmp_path, encoder__resize="native:short=64,long=128")
    shapes = {image_id: SIZES[int(image_id) % 4] for image_id in "0123"}
    assert shapes == {"0": (64, 96), "1": (96, 64), "2": (64, 64), "3": (64, 128)}
    landscape, portrait, square, wide = source.aspects(list("0123"), 1)
    assert square == portrait != landscape
    assert landscape == wide
    assert len(set(source.aspects(list("0123"), 5))) == 4
    assert source.aspects(list("0123"), 0).tolist() == [0, 0, 0, 0]
    order = source.reading_order(["3", "1", "0", "3", "1"])
    assert sorted(order) == list(range(5))
    assert [["3", "1", "0", "3", "1"][place] for place in order] == ["0", "3", "3", "1", "1"]


def test_the_published_canvas_is_centred_and_its_padding_known(corpus: dict[str, Dataset], tmp_path: Path) -> None:
    source = opened(corpus, tmp_path, encoder__resize="clipvil-pretrain")
    batch = source.pixels(["2", "3"])
    assert batch.sizes.tolist() == [[640, 384], [384, 640]]
    assert batch.boxes.tolist() == [[128, 0, 384, 384], [32, 0, 320, 640]]
    assert int(batch.pixels[0, :, :128].sum()) == int(batch.pixels[0, :, 512:].sum()) == 0
    assert int(batch.mask().sum()) == 384 * 384 + 320 * 640
    assert source.aspects(["2", "3"], 1).tolist() == [2, 1]


def test_normalised_pixels_are_zero_beyond_a_canvas_and_black_padding_is_not() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 4, 6), dtype=np.uint8))
    sizes = torch.tensor([[4, 6], [2, 3]])
    out = normalise_canvas(pixels, sizes, HALF)
    assert torch.equal(out[0], normalise(pixels, HALF)[0])
    assert torch.equal(out[1, :, :2, :3], normalise(pixels, HALF)[1, :, :2, :3])
    assert float(out[1, :, 2:].abs().sum()) == float(out[1, :, :, 3:].abs().sum()) == 0
    mask = picture_mask(pixels, torch.tensor([[1, 2, 2, 3], [0, 0, 1, 1]]))
    assert mask.sum(dim=(1, 2)).tolist() == [6, 1]
    assert mask[0, 1:3, 2:5].all()


def test_an_encoder_that_sees_nothing_is_refused(corpus: dict[str, Dataset], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"features\.source must be store"):
        opened(corpus, tmp_path, encoder__name="question-only")
