from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from clipvil.datasets.gqa import read_full, read_questions
from clipvil.datasets.registry import load
from clipvil.errors import DataError
from clipvil.metrics.gqa import GqaQuestion
from clipvil.records import Question
from tests.datasets.build import write

ONE: dict[str, Any] = {
    "question": "Is the red cup in the scene above it?",
    "imageId": "n5",
    "answer": "yes",
    "fullAnswer": "Yes, it is.",
    "isBalanced": True,
    "types": {"structural": "verify", "semantic": "rel", "detailed": "existRelS"},
    "groups": {"global": None, "local": "x"},
    "entailed": ["1", "2"],
    "equivalent": ["1"],
    "semantic": [
        {"operation": "select", "dependencies": [], "argument": "scene"},
        {"operation": "relate", "dependencies": [0], "argument": "cup,above,s (12)"},
        {"operation": "exist", "dependencies": [1], "argument": "?"},
    ],
    "annotations": {"answer": {}, "question": {"3": "12"}, "fullAnswer": {"1": "12", "2": "0"}},
}


def asked(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(ONE), **changes}


def test_records_and_pictures(tmp_path: Path) -> None:
    second = asked(question="What?", imageId=7, types={"structural": "query", "semantic": "obj"}, answer="cup")
    write(tmp_path / "q.json", {"1": asked(), "2": second})
    dataset = load({"format": "gqa", "root": str(tmp_path), "val": {"questions": "q.json", "images": "i"}}, "val")
    assert list(dataset.records) == [
        Question("1", "n5", ONE["question"], ("yes",), "binary", "verify/rel", "yes"),
        Question("2", "7", "What?", ("cup",), "open", "query/obj", "cup"),
    ]
    assert dict(dataset.pictures) == {"n5": tmp_path / "i" / "n5.jpg", "7": tmp_path / "i" / "7.jpg"}


def test_what_the_metrics_need(tmp_path: Path) -> None:
    path = write(tmp_path / "q.json", {"1": asked(), "2": asked(isBalanced=False)})
    assert read_full(path) == {
        "1": GqaQuestion(
            "1",
            "n5",
            "yes",
            structural="verify",
            semantic="rel",
            detailed="existRelS",
            words=9,
            steps=2,
            lenient_steps=2,
            entailed=("1", "2"),
            objects=("12", "12", "0"),
            whole_scene=True,
        ),
        "2": GqaQuestion("2", "n5", "yes", balanced=False),
    }


def test_a_folder_of_shards_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "train_all_questions"
    folder.mkdir()
    for number in (0, 2, 10):
        write(folder / f"train_all_questions_{number}.json", {str(number): asked()})
    for path in (folder, tmp_path / "train_all_questions.json"):
        assert [record.question_id for record in read_questions(path)] == ["0", "2", "10"]
    write(folder / "train_all_questions_11.json", {"2": asked()})
    with pytest.raises(DataError, match=r"train_all_questions_11\.json: question 2 stands twice"):
        read_questions(folder)
    with pytest.raises(DataError, match=r"_11\.json, row 1: question 2 stands twice"):
        read_full(folder)


def test_balanced_only_and_test_sets_without_answers(tmp_path: Path) -> None:
    bare = {name: ONE[name] for name in ("question", "imageId", "isBalanced")}
    path = write(tmp_path / "q.json", {"1": bare, "2": asked(isBalanced=False)})
    assert [record.question_id for record in read_questions(path, balanced=True)] == ["1"]
    assert read_questions(path)[0] == Question("1", "n5", ONE["question"])
    with pytest.raises(DataError, match="row 1, field 'answer': is missing"):
        read_full(path)
    with pytest.raises(DataError, match="holds no balanced questions"):
        read_questions(write(tmp_path / "q.json", {"2": asked(isBalanced=False)}), balanced=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": None}, "row 1, field 'question': is null"),
        ({"imageId": None}, "row 1, field 'imageId': is null"),
        ({"answer": 3}, "row 1, field 'answer': must be a string"),
        ({"isBalanced": "yes"}, "row 1, field 'isBalanced': must be true or false"),
        ({"types": []}, "row 1, field 'types': must be an object"),
        ({"types": {"structural": 3}}, "row 1, field 'types': 'structural' must be a string"),
        ({"entailed": "1"}, "row 1, field 'entailed': must be a list"),
        ({"semantic": [{"argument": "x"}]}, "row 1, field 'semantic': holds a step without an 'operation'"),
        ({"annotations": {"question": []}, "groups": {}}, None),
        ({"annotations": {"question": [1]}}, "row 1, field 'annotations': must hold objects"),
    ],
)
def test_faults_are_named(tmp_path: Path, change: dict[str, Any], message: str | None) -> None:
    path = write(tmp_path / "q.json", {"1": asked(**change)})
    if message is None:
        assert read_full(path)["1"].objects == ()
        return
    with pytest.raises(DataError, match=message):
        read_full(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must be an object"),
        ("{}", "holds no questions"),
        ('{"1": 3}', "row 1: must be an object, not a number"),
        ('{"": {}}', "a question with an empty id"),
        ('{"1": {', "not valid JSON"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    for read in (read_questions, read_full):
        with pytest.raises(DataError, match=message):
            read(write(tmp_path / "q.json", text))


def test_absent_files_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_questions(tmp_path / "q.json")
    with pytest.raises(DataError, match=r"holds no \.json files"):
        read_questions(tmp_path)
    with pytest.raises(DataError, match="'balanced' must be true or false"):
        load({"format": "gqa", "val": {"questions": "q.json", "balanced": "yes"}}, "val")
