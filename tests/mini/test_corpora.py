"""Corpora on disk: official formats, the same bytes from the same seed, whole or recognised as unfinished."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from clipvil.errors import DataError, UsageError
from clipvil.mini import corpora
from clipvil.mini.corpora import SPLITS, Corpus, open_corpus, write_corpus
from clipvil.mini.world import HELD_OUT, scene
from tests.mini.solver import solve

SIZES = {"train": 12, "val": 4, "test": 4, "shifted": 6}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "mini", SIZES)


def load(corpus: Corpus, kind: str, split: str) -> dict:
    return json.loads((corpus.root / f"{kind}_{split}.json").read_text("utf-8"))


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_captions_are_in_the_format_of_coco(corpus: Corpus) -> None:
    for split, count in SIZES.items():
        data = load(corpus, "captions", split)
        assert {"info", "licenses", "images", "annotations"} <= set(data)
        assert len(data["images"]) == count
        ids = {image["id"] for image in data["images"]}
        for image in data["images"]:
            assert set(image) >= {"id", "file_name", "height", "width"}
            with Image.open(corpus.pictures(split) / image["file_name"]) as picture:
                assert (picture.height, picture.width) == (image["height"], image["width"]) == (128, 128)
                assert picture.mode == "RGB"
        assert sorted(a["image_id"] for a in data["annotations"]) == sorted(list(ids) * 5)
        assert all(type(a["id"]) is int and a["caption"] for a in data["annotations"])


def test_questions_and_annotations_are_in_the_format_of_vqa(corpus: Corpus) -> None:
    for split, count in SIZES.items():
        asked, answered = load(corpus, "questions", split), load(corpus, "annotations", split)
        assert set(asked) == {"info", "task_type", "data_type", "data_subtype", "license", "questions"}
        assert set(answered) == {"info", "data_type", "data_subtype", "license", "annotations"}
        assert len(asked["questions"]) == len(answered["annotations"]) == corpora.QUESTIONS[split] * count
        for question, annotation in zip(asked["questions"], answered["annotations"], strict=True):
            assert set(question) == {"image_id", "question", "question_id"}
            assert set(annotation) == {
                "question_type", "multiple_choice_answer", "answers", "image_id", "answer_type", "question_id"
            }  # fmt: skip
            assert (question["image_id"], question["question_id"]) == (
                annotation["image_id"],
                annotation["question_id"],
            )
            assert question["question"].lower().startswith(annotation["question_type"])
            assert annotation["answer_type"] in ("yes/no", "number", "other")
            assert [set(a) for a in annotation["answers"]] == [{"answer", "answer_confidence", "answer_id"}] * 10


def test_ids_are_integers_unique_over_all_splits(corpus: Corpus) -> None:
    for kind, part, key in [("captions", "images", "id"), ("captions", "annotations", "id"),
                            ("questions", "questions", "question_id")]:  # fmt: skip
        ids = [row[key] for split in SPLITS for row in load(corpus, kind, split)[part]]
        assert all(type(each) is int for each in ids)
        assert len(ids) == len(set(ids))


def test_written_answers_are_true_of_the_written_picture(corpus: Corpus) -> None:
    for split in SPLITS:
        answered = {row["question_id"]: row for row in load(corpus, "annotations", split)["annotations"]}
        for row in load(corpus, "questions", split)["questions"]:
            index = row["image_id"] % corpora.IDS_PER_SPLIT - 1
            answer = answered[row["question_id"]]["multiple_choice_answer"]
            assert solve(row["question"], scene(0, split, index)) == answer


def test_shifted_pictures_show_pairs_that_training_pictures_lack(corpus: Corpus) -> None:
    train = {thing.pair for i in range(SIZES["train"]) for thing in scene(0, "train", i).objects}
    shifted = {thing.pair for i in range(SIZES["shifted"]) for thing in scene(0, "shifted", i).objects}
    assert not train & HELD_OUT
    assert shifted & HELD_OUT


def test_same_seed_same_bytes_and_pictures_do_not_depend_on_the_sizes(corpus: Corpus, tmp_path: Path) -> None:
    again = write_corpus(tmp_path / "again", SIZES)
    assert contents(again.root) == contents(corpus.root)
    smaller = write_corpus(tmp_path / "smaller", {"train": 3})
    name = corpora.file_name("train", 2)
    assert (smaller.pictures("train") / name).read_bytes() == (corpus.pictures("train") / name).read_bytes()
    assert (
        load(smaller, "questions", "train")["questions"]
        == load(corpus, "questions", "train")["questions"][: 3 * corpora.QUESTIONS["train"]]
    )
    other = write_corpus(tmp_path / "other", SIZES, 1)
    assert (other.pictures("train") / name).read_bytes() != (corpus.pictures("train") / name).read_bytes()


def test_a_complete_corpus_is_taken_as_it_is(corpus: Corpus) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.root.rglob("*")}
    assert write_corpus(corpus.root, SIZES) == corpus == open_corpus(corpus.root)
    assert {path: path.stat().st_mtime_ns for path in corpus.root.rglob("*")} == before


class Stop(Exception):
    """Stands for a power cut."""


@pytest.mark.parametrize("after", [0, 3, 5])
def test_an_interrupted_corpus_is_recognised_and_written_again(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    root = tmp_path / "mini"
    with monkeypatch.context() as patch:
        patch.setattr(corpora, "_png", stopping(corpora._png, after))
        with pytest.raises(Stop):
            write_corpus(root, SIZES)
    with pytest.raises(DataError, match="never finished"):
        open_corpus(root)
    (root / "images" / "train" / corpora.file_name("train", 11)).write_bytes(b"half a picture")
    write_corpus(root, SIZES)
    assert contents(root) == contents(corpus.root)


def stopping(make: Callable[[int, str, int], bytes], after: int) -> Callable[[int, str, int], bytes]:
    """The same function until it has been called `after` times."""
    calls = 0

    def wrapped(seed: int, split: str, index: int) -> bytes:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Stop
        return make(seed, split, index)

    return wrapped


def test_another_corpus_is_only_replaced_by_force(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "mini", {"train": 2, "test": 1}).root
    with pytest.raises(UsageError, match="another corpus"):
        write_corpus(root, {"train": 3})
    with pytest.raises(UsageError, match="another corpus"):
        write_corpus(root, {"train": 2, "test": 1}, 7)
    write_corpus(root, {"train": 3}, force=True)
    assert contents(root) == contents(write_corpus(tmp_path / "fresh", {"train": 3}).root)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(UsageError, match="not empty"):
        write_corpus(tmp_path, {"train": 1}, force=True)
    assert contents(tmp_path) == {"thesis.tex": b"ten years of work"}
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(UsageError, match="not the manifest"):
        write_corpus(tmp_path, {"train": 1}, force=True)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="manifest"):
        write_corpus(tmp_path, {"train": 1})
    with pytest.raises(UsageError, match="is a file"):
        write_corpus(tmp_path / "thesis.tex", {"train": 1})


def test_damage_to_a_complete_corpus_is_named(tmp_path: Path) -> None:
    sizes = {"train": 2, "val": 1}
    root = write_corpus(tmp_path / "mini", sizes).root
    (root / "images" / "train" / corpora.file_name("train", 1)).unlink()
    with pytest.raises(DataError, match="has 1 pictures"):
        write_corpus(root, sizes)
    write_corpus(root, sizes, force=True)
    (root / "questions_val.json").write_text("{}")
    with pytest.raises(DataError, match=r"questions_val\.json"):
        open_corpus(root)
    with pytest.raises(DataError, match="no corpus"):
        open_corpus(tmp_path / "nowhere")


def test_a_path_in_any_script_will_do(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "мини 世界 é", {"val": 1}).root
    assert open_corpus(root).sizes == {"val": 1}


@pytest.mark.parametrize(
    "sizes", [{}, {"trian": 3}, {"train": 0}, {"train": -1}, {"train": 1.5}, {"train": True}, {"train": 10**7}]
)
def test_impossible_sizes_are_refused(tmp_path: Path, sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="sizes"):
        write_corpus(tmp_path / "mini", sizes)
    assert not (tmp_path / "mini").exists()
