from __future__ import annotations

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


def test_runs_share_a_folder_without_forgetting_each_others_pictures(
    corpus: dict[str, Dataset], tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "failures.jsonl").write_text("a feature store's own\n")
    other = write_pictures(tmp_path / "other", 3)
    for use in (corpus, other):
        opened(use, tmp_path / "run", features__store=str(shared), pictures__keep="disk")
    before = {path: path.stat().st_mtime_ns for path in shared.rglob("*") if path.is_file()}
    assert sum(path.name == "index.json" for path in before) == 2
    for use in (corpus, other):
        opened(use, tmp_path / "again", features__store=str(shared), pictures__keep="disk")
    assert {path: path.stat().st_mtime_ns for path in shared.rglob("*") if path.is_file()} == before
    assert (shared / "failures.jsonl").read_text() == "a feature store's own\n"
