"""`clipvil caption`: captions for any pictures, broken ones and interruptions included."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipvil.cli.main import main
from clipvil.compare.contact_sheet import write_contact_sheet
from clipvil.errors import CheckpointError, DataError, RecipeError, UsageError
from clipvil.training import caption_folder as module
from clipvil.training.caption_folder import caption_pictures
from clipvil.training.inputs import load_datasets
from clipvil.training.recipe import Recipe
from clipvil.training.run import train
from clipvil.training.run_files import read_predictions
from tests.training.conftest import caption_recipe

NAMES = ("captions.jsonl", "failures.jsonl", "contact_sheet.html")


@pytest.fixture(scope="module")
def pictures(caption_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of the training split, one of another shape and mode, two broken ones, in two folders."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "more").mkdir()
    for number, path in enumerate(sorted((caption_run.parent / "data" / "images" / "train").iterdir())[:20]):
        shutil.copy(path, folder / ("more" if number % 2 else ".") / path.name)
    Image.new("RGBA", (90, 31), (10, 200, 30, 128)).save(folder / "\u00fcmlaut \u2603.png")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "more" / "cut.png").write_bytes(path.read_bytes()[:300])
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_captions_agree_with_the_evaluation_of_the_same_pictures(caption_run: Path, tmp_path: Path) -> None:
    data = load_datasets(Recipe.from_file(caption_run / "recipe.yaml").data, ("test",))["test"]
    report = caption_pictures(data.images, caption_run, tmp_path / "out", quiet=True)
    assert (report.done, report.skipped, report.failed, report.exit_code) == (8, 0, 0, 0)
    found = {line["image_id"]: line for line in lines(tmp_path / "out" / "captions.jsonl")}
    for prediction, _ in read_predictions(caption_run, "test"):
        line = found[prediction.image_id]
        assert line["caption"] == prediction.output
        assert line["confidence"] == pytest.approx(prediction.confidence, abs=5e-3)
        assert line["path"] == str(data.pictures[prediction.image_id])
    assert not (tmp_path / "out" / "contact_sheet.html").exists()


def test_a_folder_with_broken_pictures(
    caption_run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["caption", str(pictures), str(caption_run), "--out", str(tmp_path / "out"), "--quiet", "--beams", "3"]
    assert main([*command, "--max-bad", "2", "--show", "1"]) == 0
    said = capsys.readouterr()
    assert "21 pictures captioned" in said.err
    assert "2 failed (1 truncated, 1 unsupported; see failures.jsonl)" in said.err
    assert said.out.count("\n") == 2
    assert "and 20 more in" in said.out
    found, bad = lines(tmp_path / "out" / "captions.jsonl"), lines(tmp_path / "out" / "failures.jsonl")
    assert [line["image_id"] for line in found] == sorted(line["image_id"] for line in found)
    assert [line["id"] for line in bad] == ["broken.png", "more/cut.png"]
    assert all(0 < line["confidence"] <= 1 and 1 <= len(line["alternatives"]) <= 2 for line in found)
    assert any(line["image_id"] == "\u00fcmlaut \u2603.png" for line in found)
    # Told again, it does nothing again, and judges by the number that is allowed now.
    before = {name: (tmp_path / "out" / name).read_bytes() for name in NAMES}
    assert main([*command, "--max-bad", "1"]) == 3
    assert "0 pictures captioned, 21 were there already, 2 failed" in capsys.readouterr().err
    assert before == {name: (tmp_path / "out" / name).read_bytes() for name in NAMES}
    assert main(["caption", str(pictures), str(caption_run), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_the_contact_sheet_needs_nothing_else_and_escapes_what_it_shows(
    caption_run: Path, tmp_path: Path, pictures: Path
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    shutil.copy(next(pictures.glob("mini*")), folder / "<b>&'\".png")
    shutil.copy(next(pictures.glob("mini*")), folder / "z.png")
    caption_pictures(folder, caption_run, tmp_path / "out", sheet=write_contact_sheet, quiet=True)
    page = (tmp_path / "out" / "contact_sheet.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 2
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page
    assert "default-src &#x27;none&#x27;" in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert "all 2 pictures" in page


def test_a_large_folder_is_shown_in_part_and_the_page_says_so(
    caption_run: Path, pictures: Path, tmp_path: Path
) -> None:
    report = caption_pictures(
        pictures, caption_run, tmp_path / "out", sheet=write_contact_sheet, sheet_pictures=3, quiet=True
    )
    assert report.shown == 3
    page = (tmp_path / "out" / "contact_sheet.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 3
    assert "the first 3 of 21 pictures; captions.jsonl has the captions of all of them" in page
    assert "2 further pictures could not be used, see failures.jsonl" in page
    assert not any("thumbnail" in line for line in lines(tmp_path / "out" / "captions.jsonl"))


@pytest.mark.parametrize("moment", [1, 2, 5, 6])
def test_stopped_at_any_moment_it_goes_on_to_the_same_files(
    caption_run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    monkeypatch.setattr(module, "UNIT", 5)
    whole = caption_pictures(pictures, caption_run, tmp_path / "once", sheet=write_contact_sheet, quiet=True)
    assert whole.done == 21
    add = module.KeyedLog.add
    encoded: list[str] = []
    predict = module._Captioner._predict

    def failing(self: module.KeyedLog, value: Any) -> None:
        if moment != 6 and value.get("unit") == moment - 1:
            raise KeyboardInterrupt
        add(self, value)

    def counting(self: Any, group: Any) -> Any:
        encoded.extend(item.image_id for item, _ in group)
        return predict(self, group)

    def refusing(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.KeyedLog, "add", failing)
        sheet = refusing if moment == 6 else write_contact_sheet
        with pytest.raises(KeyboardInterrupt):
            caption_pictures(pictures, caption_run, tmp_path / "twice", sheet=sheet, quiet=True)
    assert not (tmp_path / "twice" / "captions.json").exists()
    monkeypatch.setattr(module._Captioner, "_predict", counting)
    again = caption_pictures(pictures, caption_run, tmp_path / "twice", sheet=write_contact_sheet, quiet=True)
    assert again.done + again.skipped == 21
    assert again.done == len(encoded) == len(set(encoded))
    assert (again.skipped > 0) == (moment > 1)
    assert again.reasons == whole.reasons
    for name in NAMES:
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "once" / name).read_bytes(), name
    assert not (tmp_path / "twice" / ".partial.jsonl").exists()


def test_every_kind_of_source(caption_run: Path, pictures: Path, tmp_path: Path) -> None:
    one = next(pictures.glob("mini*"))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(one, "a.png")
    listed = tmp_path / "list.csv"
    listed.write_text(f"id,path\nmine,{one}\n", encoding="utf-8")
    said = set()
    for number, source in enumerate((one, tmp_path / "all.zip", listed)):
        report = caption_pictures(source, caption_run, tmp_path / str(number), quiet=True)
        assert report.done == 1
        said.add(lines(tmp_path / str(number) / "captions.jsonl")[0]["caption"])
    assert len(said) == 1


def test_a_blind_run_says_one_thing_about_everything(caption_run: Path, pictures: Path, tmp_path: Path) -> None:
    train(caption_recipe(caption_run.parent, "encoder.name=question-only"), tmp_path / "blind", quiet=True)
    report = caption_pictures(pictures, tmp_path / "blind", tmp_path / "out", quiet=True)
    assert (report.done, report.failed) == (21, 2)
    assert len({line["caption"] for line in lines(tmp_path / "out" / "captions.jsonl")}) == 1


def test_what_cannot_be_captioned_is_one_line(
    caption_run: Path, mini_run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="run of the task vqa; captions want a run of the task captioning"):
        caption_pictures(pictures, mini_run, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures below this folder"):
        caption_pictures(tmp_path / "empty", caption_run, tmp_path / "out")
    with pytest.raises(DataError, match="does not exist"):
        caption_pictures(tmp_path / "nowhere", caption_run, tmp_path / "out")
    with pytest.raises(CheckpointError, match="no run is here"):
        caption_pictures(pictures, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(RecipeError, match="beams"):
        caption_pictures(pictures, caption_run, tmp_path / "out", overrides=["task_settings.beams=0"])
    with pytest.raises(UsageError, match="--max-bad must be"):
        caption_pictures(pictures, caption_run, tmp_path / "out", max_bad="many")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    for wrong in (tmp_path / "mine", tmp_path / "mine" / "thesis.tex"):
        assert main(["caption", str(pictures), str(caption_run), "--out", str(wrong)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_only_broken_pictures_are_a_failure(caption_run: Path, pictures: Path, tmp_path: Path) -> None:
    report = caption_pictures(pictures / "broken.png", caption_run, tmp_path / "out", quiet=True)
    assert (report.done, report.failed, report.exit_code) == (0, 1, 3)
    assert lines(tmp_path / "out" / "captions.jsonl") == []


def test_another_encoder_than_that_of_the_run_is_refused(caption_run: Path, pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(caption_run, run)
    result = json.loads((run / "result.json").read_text())
    result["encoder"]["fingerprint"] = "f" * 16
    (run / "result.json").write_text(json.dumps(result))
    with pytest.raises(CheckpointError, match="other weights or another version"):
        caption_pictures(pictures, run, tmp_path / "out", quiet=True)


def test_memory_does_not_grow_with_the_number_of_pictures(
    caption_run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNIT", 4)
    one = next(pictures.glob("mini*"))

    def most(count: int) -> int:
        listed = tmp_path / f"list{count}.csv"
        listed.write_text("id,path\n" + "".join(f"{i},{one}\n" for i in range(count)), encoding="utf-8")
        tracemalloc.start()
        try:
            caption_pictures(listed, caption_run, tmp_path / str(count), workers=0, quiet=True)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    most(8)
    assert most(160) - most(40) < 120 * 1500  # a canvas alone has 37 kB
