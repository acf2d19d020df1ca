from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipvil.datasets.registry import load, split_names
from clipvil.datasets.vqa_v2 import read_questions
from clipvil.errors import DataError
from clipvil.records import Question
from tests.datasets.build import annotations, questions, write


def files(folder: Path, asked: Any = None, given: Any = None) -> tuple[Path, Path]:
    return (
        write(folder / "q.json", questions() if asked is None else asked),
        write(folder / "a.json", annotations() if given is None else given),
    )


def test_records_in_the_order_of_the_questions(tmp_path: Path) -> None:
    records = read_questions(*files(tmp_path))
    assert [record.question_id for record in records] == ["10", "11", "12"]
    assert records[0] == Question(
        question_id="10",
        image_id="1",
        question="What color is the caf\u00e9?",
        answers=("red",) * 10,
        answer_type="other",
        question_type="what color is the",
        multiple_choice_answer="red",
    )


def test_questions_alone_have_no_answers(tmp_path: Path) -> None:
    records = read_questions(files(tmp_path)[0])
    assert [record.answers for record in records] == [(), (), ()]


def test_a_byte_order_mark_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(questions()).encode())
    assert len(read_questions(path)) == 3


def test_dataset_names_pictures_and_has_a_fingerprint(tmp_path: Path) -> None:
    files(tmp_path)
    entry = {
        "questions": "q.json",
        "annotations": "a.json",
        "images": "val2014",
        "template": "COCO_val2014_{:012d}.jpg",
    }
    data = {"format": "vqa_v2", "root": str(tmp_path), "val": entry, "train": entry}
    dataset = load(data, "val")
    assert split_names(data) == ["train", "val"]
    assert dataset.images.ids() == ["1", "2"]
    assert dataset.pictures["2"] == tmp_path / "val2014" / "COCO_val2014_000000000002.jpg"
    assert dataset.fingerprint == load(data, "train").fingerprint
    changed = questions()
    changed["questions"][0]["question"] = "Why?"
    write(tmp_path / "q.json", changed)
    assert load(data, "val").fingerprint != dataset.fingerprint
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "COCO_val2014_000000000001.jpg").write_bytes(b"jpeg")
    assert dataset.images.find("1").read() == b"jpeg"


def test_file_names_from_a_table_and_prefixes(tmp_path: Path) -> None:
    files(tmp_path)
    write(tmp_path / "names.json", {"1": "one.png", "2": "two.png"})
    entry = {"questions": "q.json", "files": "names.json", "images": "p", "prefix": "val/"}
    dataset = load({"format": "vqa_v2", "root": str(tmp_path), "val": entry}, "val")
    assert dict(dataset.pictures) == {"val/1": tmp_path / "p/one.png", "val/2": tmp_path / "p/two.png"}
    write(tmp_path / "names.json", {"1": "one.png"})
    with pytest.raises(DataError, match=r"names\.json: no file name for picture 2"):
        load({"format": "vqa_v2", "root": str(tmp_path), "val": entry}, "val")


def ask(index: int, name: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(asked: dict[str, Any], given: dict[str, Any]) -> None:
        asked["questions"][index][name] = value

    return change


def drop(index: int, name: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(asked: dict[str, Any], given: dict[str, Any]) -> None:
        del asked["questions"][index][name]

    return change


def give(index: int, name: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(asked: dict[str, Any], given: dict[str, Any]) -> None:
        given["annotations"][index][name] = value

    return change


def double(part: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(asked: dict[str, Any], given: dict[str, Any]) -> None:
        rows = (asked if part == "questions" else given)[part]
        rows.append(rows[0])

    return change


def forget(part: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(asked: dict[str, Any], given: dict[str, Any]) -> None:
        (asked if part == "questions" else given)[part].pop()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(1, "question"), r"q\.json, row 2, field 'question': is missing"),
        (drop(0, "question_id"), r"q\.json, row 1, field 'question_id': is missing"),
        (drop(2, "image_id"), r"q\.json, row 3, field 'image_id': is missing"),
        (ask(0, "question", 7), r"row 1, field 'question': must be a string, not a number"),
        (ask(0, "question", None), r"row 1, field 'question': is null"),
        (ask(0, "question", "  "), r"row 1, field 'question': is empty"),
        (ask(0, "question", "half \ud83d"), r"row 1, field 'question': holds half a Unicode character"),
        (ask(1, "question_id", 1.5), r"row 2, field 'question_id': must be a whole number or a string"),
        (ask(1, "question_id", True), r"field 'question_id': must be a whole number or a string, not true or false"),
        (double("questions"), r"q\.json, row 4, field 'question_id': 10 was already used in row 1"),
        (double("annotations"), r"a\.json, row 4, field 'question_id': 12 was already annotated in row 1"),
        (forget("annotations"), r"q\.json, row 2, field 'question_id': question 11 has no annotation in .*a\.json"),
        (forget("questions"), r"a\.json, row 1, field 'question_id': annotation of question 12, which .*q\.json does"),
        (give(1, "answers", "red"), r"a\.json, row 2, field 'answers': must be a list"),
        (give(1, "answers", []), r"a\.json, row 2, field 'answers': must be a list with at least one"),
        (give(1, "answers", [{"answer": 3}]), r"row 2, field 'answers': holds an answer without a text"),
        (give(1, "answers", [["red"]]), r"row 2, field 'answers': must be a string, not a list"),
        (give(0, "answer_type", 3), r"row 1, field 'answer_type': must be a string"),
        (give(0, "image_id", 9), r"a\.json, row 1, field 'image_id': question 12 is about picture 2"),
    ],
)
def test_faults_are_named(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None], message: str
) -> None:
    asked, given = questions(), annotations()
    change(asked, given)
    with pytest.raises(DataError, match=message) as caught:
        read_questions(*files(tmp_path, asked, given))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "q.json: is empty"),
        ("   \n", "q.json: is empty"),
        ("[]", "must be an object with a list under 'questions'"),
        ('{"questions": 3}', "must be an object with a list under 'questions'"),
        ('{"questions": [3]}', "row 1: must be an object, not a number"),
        ('{"questions": []}', "holds no questions"),
        ('{"questions": [{"question_id": NaN}]}', "NaN is not JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_questions(write(tmp_path / "q.json", text))


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    text = json.dumps(questions())
    for length in range(0, len(text) - 1, 7):
        with pytest.raises(DataError, match=r"q\.json"):
            read_questions(write(tmp_path / "q.json", text[:length]))
    with pytest.raises(DataError, match="cut off"):
        read_questions(write(tmp_path / "q.json", text[:-2]))


def test_wrong_bytes_and_absent_files(tmp_path: Path) -> None:
    (tmp_path / "q.json").write_bytes(b'{"questions": "\xff"}')
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        read_questions(tmp_path / "q.json")
    with pytest.raises(DataError, match="no such file"):
        read_questions(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"question": "q.json"}, "unknown entry 'question'; did you mean 'questions'"),
        ({}, "lacks 'questions'"),
        ({"questions": "q.json", "template": "{:d"}, "template"),
        ({"questions": "q.json", "template": "{1}.jpg"}, "template .* does not fit picture 1"),
    ],
)
def test_wrong_data_sections(tmp_path: Path, entry: dict[str, str], message: str) -> None:
    files(tmp_path)
    with pytest.raises(DataError, match=message):
        load({"format": "vqa_v2", "root": str(tmp_path), "val": entry}, "val")
    good = {"questions": "q.json"}
    with pytest.raises(DataError, match="no split 'test'; the data section has val"):
        load({"format": "vqa_v2", "root": str(tmp_path), "val": good}, "test")
    with pytest.raises(DataError, match=r"'data\.rot': .* must be a mapping.*; did you mean 'root'"):
        split_names({"format": "vqa_v2", "rot": str(tmp_path), "val": good})
