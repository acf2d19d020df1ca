from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.datasets.custom import answer_type, read_questions
from clipvil.datasets.registry import load, split_names
from clipvil.errors import DataError
from clipvil.records import Question
from tests.datasets.build import write

CSV = (
    "image,question,answer,split\n"
    'a.jpg,"What, exactly?",red,train\n'
    "b/b.jpg,How many?,3,train\n"
    "c.jpg,Is it?,Yes,val\n"
    "c.jpg,Why?,because,shifted\n"
)


def test_csv_records(tmp_path: Path) -> None:
    records = read_questions(write(tmp_path / "q.csv", CSV))
    assert records[0] == Question("2", "a.jpg", "What, exactly?", ("red",), "other", "", "red")
    assert [record.answer_type for record in records] == ["other", "number", "yes/no", "other"]


def test_splits_by_column(tmp_path: Path) -> None:
    write(tmp_path / "q.csv", CSV)
    data = {"format": "custom", "root": str(tmp_path), "questions": "q.csv", "images": "pictures"}
    assert split_names(data) == ["train", "val", "shifted"]
    assert [record.question_id for record in load(data, "val").records] == ["4"]
    assert load(data, "train").pictures == {
        "a.jpg": tmp_path / "pictures/a.jpg",
        "b/b.jpg": tmp_path / "pictures/b/b.jpg",
    }
    with pytest.raises(DataError, match="no split 'test'; the data has train, val, shifted"):
        load(data, "test")


def test_splits_by_picture(tmp_path: Path) -> None:
    rows = "".join(f"p{i // 5}.jpg,Question {i}?,yes\n" for i in range(200))
    write(tmp_path / "q.csv", "image,question,answer\n" + rows)
    data = {"format": "custom", "questions": str(tmp_path / "q.csv"), "holdout": {"val": 0.25, "test": 0.1}}
    parts = {split: load(data, split) for split in split_names(data)}
    assert {name: len(part.pictures) for name, part in parts.items()} == {"train": 26, "val": 10, "test": 4}
    assert {name: len(part.records) for name, part in parts.items()} == {"train": 130, "val": 50, "test": 20}
    assert load(data, "val").records == parts["val"].records
    assert load({**data, "seed": 1}, "val").records != parts["val"].records
    assert split_names({"format": "custom", "questions": str(tmp_path / "q.csv")}) == ["train", "val", "test"]


def test_one_file_a_split_keeps_ids_apart(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / f"{split}.jsonl", '{"image": "a.jpg", "question": "Why?", "answer": "x"}\n')
    data = {"format": "custom", "root": str(tmp_path), "train": "train.jsonl", "val": "val.jsonl"}
    assert [load(data, split).records[0].question_id for split in split_names(data)] == ["train/1", "val/1"]


def test_jsonl_answers_of_several_people(tmp_path: Path) -> None:
    lines = (
        '{"image": "a.jpg", "question": "How many?", "answers": [3, "3", "three"], "question_id": 77}\n'
        "\n"
        '{"image": "b.jpg", "question": "\u4f55\uff1f", "question_type": "what", "answer_type": "colour"}\n'
    )
    first, second = read_questions(write(tmp_path / "q.jsonl", lines))
    assert first == Question("77", "a.jpg", "How many?", ("3", "3", "three"), "number", "", "3")
    assert second == Question("3", "b.jpg", "\u4f55\uff1f", (), "colour", "what")


def test_several_answers_in_a_cell_and_other_tables(tmp_path: Path) -> None:
    text = "image\tquestion\tanswers\nx.png\tWhat?\tred| blue |red\n"
    assert read_questions(write(tmp_path / "q.tsv", text))[0].answers == ("red", "blue", "red")
    text = '[{"image": "x.png", "question": "What?", "answer": "red"}]'
    assert read_questions(write(tmp_path / "q.json", text))[0].answers == ("red",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.csv", "image,question,answer\na.jpg,,red\n", r"row 2, field 'question': is missing"),
        ("q.csv", "picture,question\na.jpg,Why?\n", r"row 1: the header lacks image; it has picture, question"),
        ("q.csv", "image;question;answer\na;b;c\n", "row 1: .* lacks image and question; .* parted by semicolons, not"),
        ("q.csv", "image\tquestion\na\tb\n", "row 1: .* parted by tabs, not by commas"),
        ("q.tsv", "image,question\na,b\n", "row 1: .* parted by commas, not by tabs"),
        ("q.csv", "Image,Question,Answer\na,b,c\n", "row 1: the header names Image, .* write image, question, answer"),
        ("q.csv", "image,question,Answers\na,b,c\n", "row 1: the header names Answers; write answers instead"),
        (
            "q.csv",
            "image,question\na.jpg,Why, oh why?\n",
            r"row 2: 3 cells, but the header names 2 columns; put quotes",
        ),
        ("q.csv", 'image,question\na.jpg,"Why\n', r"q\.csv, row \d: not a valid table"),
        ("q.csv", "image,image\na,b\n", "row 1: two columns have the same name"),
        ("q.csv", "image,question\n", "holds no questions"),
        ("q.csv", "", "is empty"),
        ("q.csv", "image,question\na\0,b\n", "NUL"),
        (
            "q.csv",
            "image,question,question_id\na,b,1\na,b,1\n",
            "row 3, field 'question_id': 1 was already used in row 2",
        ),
        ("q.csv", "image,question,answer,answers\na,b,c,d\n", "row 2, field 'answers': a row has either"),
        ("q.jsonl", '{"image": "a"\n', r"q\.jsonl, row 1: not valid JSON"),
        ("q.jsonl", '{"image": "a", "question": "b"}\n[3]\n', "row 2: must be an object, not a list"),
        ("q.jsonl", '{"image": 3, "question": "b"}\n', "row 1, field 'image': must be a string, not a number"),
        ("q.jsonl", '{"image": "a", "question": "b", "answer": true}\n', "field 'answer': must be a string"),
        ("q.jsonl", '{"image": "a", "question": "b", "answers": []}\n', "field 'answers': must be a list"),
        ("q.jsonl", '{"image": "a", "question": "b", "answer": NaN}\n', "NaN is not JSON"),
        ("q.json", '[{"image": "a"},\n{"image" 3}]', r"q\.json, line 2: not valid JSON: .* at column 10$"),
        ("q.json", '{"image": "a"}', "must hold a list of objects, not an object"),
        ("q.txt", "x", "unknown kind of file '.txt'; use .csv, .tsv, .jsonl or .json"),
    ],
)
def test_faults_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_questions(write(tmp_path / name, text))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "needs 'questions'"),
        ({"questions": "some.csv"}, "row 3, field 'split': is missing, though other rows name one"),
        ({"questions": "all.csv", "holdout": {"val": 0.1}}, "drop it or 'holdout'"),
        ({"questions": "none.csv", "holdout": {"val": 0.7, "test": 0.3}}, "leave some for train"),
        ({"questions": "none.csv", "holdout": 0.1}, "must map split names"),
        ({"questions": "none.csv", "image": "x"}, "unknown entry 'image'; did you mean 'images'"),
        ({"questions": "my.csv", "question": "q.csv"}, "unknown entry 'question'; did you mean 'questions'"),
        ({"questions": "my.csv", "train": "train.csv"}, "the two exclude each other; .* data.questions=null"),
        ({"train": "none.csv", "image": "x"}, "unknown entry 'image'; did you mean 'images'"),
        ({"trian": "none.csv"}, "did you mean 'train' by 'trian'"),
    ],
)
def test_wrong_data_sections(tmp_path: Path, section: dict[str, object], message: str) -> None:
    write(tmp_path / "some.csv", "image,question,split\na,b,train\nc,d,\n")
    write(tmp_path / "all.csv", "image,question,split\na,b,train\n")
    write(tmp_path / "none.csv", "image,question\na,b\n")
    with pytest.raises(DataError, match=message):
        load({"format": "custom", "root": str(tmp_path), **section}, "train")


def test_a_packaged_table_can_be_taken_away(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "image,question\na,b\n")
    data = {"format": "custom", "root": str(tmp_path), "questions": None, "train": "train.csv", "test": None}
    assert split_names(data) == ["train"]
    assert [record.image_id for record in load(data, "train").records] == ["a"]


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (("Yes.",), "yes/no"),
        (("two",), "number"),
        (("3.5",), "number"),
        (("1,000",), "number"),
        (("red", "red", "2"), "other"),
        ((), ""),
    ],
)
def test_answer_types_where_the_table_names_none(answers: tuple[str, ...], kind: str) -> None:
    assert answer_type(answers) == kind
