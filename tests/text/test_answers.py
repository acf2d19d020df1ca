from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipvil.errors import DataError
from clipvil.text.answers import AnswerVocabulary
from tests.shared import shared


@pytest.mark.parametrize(("votes", "target"), [(1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (7, 1.0)])
def test_soft_target_by_votes(votes: int, target: float) -> None:
    answers = ["red"] * votes + ["blue"] * (10 - votes)
    assert AnswerVocabulary(["red", "blue"]).soft_targets(answers)[1] == pytest.approx(target)


def test_unknown_answers_earn_nothing_and_few_answers_are_repeated() -> None:
    vocabulary = AnswerVocabulary(["red"])
    assert vocabulary.soft_targets(["teal"] * 10) == {}
    assert vocabulary.soft_targets(["red"]) == {1: 1.0}
    assert vocabulary.indices(["Red?", "teal"]) == [1, 0] * 5
    assert vocabulary.soft_targets([]) == {}


def test_recorded_indices_and_targets_of_pythia() -> None:
    load_file = pytest.importorskip("safetensors.torch").load_file
    recorded = json.loads(shared("fixtures", "pythia", "text.json").read_text(encoding="utf-8"))
    targets = load_file(shared("fixtures", "pythia", "io.safetensors"))["soft_targets"]
    vocabulary = AnswerVocabulary(recorded["answer_vocabulary"][1:])
    for row, expected in zip(recorded["annotations"], targets, strict=True):
        assert vocabulary.indices(row["answers"]) == row["indices"]
        own = vocabulary.soft_targets(row["answers"])
        assert [own.get(i, 0.0) for i in range(len(vocabulary))] == pytest.approx(expected.tolist(), abs=1e-6)


def test_recorded_indices_and_targets_of_the_metric_fixture() -> None:
    recorded = json.loads(shared("fixtures", "vqa_eval", "cases.json").read_text(encoding="utf-8"))
    vocabulary = AnswerVocabulary(recorded["answer_vocabulary"][1:])
    for row in recorded["rows"]:
        assert vocabulary.indices(row["annotator_answers"]) == row["target_indices"]
        own = sorted(vocabulary.soft_targets(row["annotator_answers"]).items())
        assert [index for index, _ in own] == [index for index, _ in row["soft_target"]]
        assert [value for _, value in own] == pytest.approx([value for _, value in row["soft_target"]], abs=1e-6)


def test_build_keeps_the_most_frequent() -> None:
    answers = [["red"] * 8 + ["blue"] * 2, ["red"] * 5 + ["Green"] * 5, ["blue"]]
    assert AnswerVocabulary.build(answers).answers == ("<unk>", "red", "blue", "green")
    assert AnswerVocabulary.build(answers, top=1).answers == ("<unk>", "red")
    assert AnswerVocabulary.build(answers, min_count=6).answers == ("<unk>", "red", "blue")
    with pytest.raises(DataError, match="empty"):
        AnswerVocabulary.build(answers, min_count=100)


def test_answer_file_as_mmf_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "answers_vqa.txt"
    path.write_text("<unk>\nyes\nno\non table\n", encoding="utf-8")
    vocabulary = AnswerVocabulary.load(path)
    assert vocabulary.answers == ("<unk>", "yes", "no", "on table")
    assert (vocabulary["on table"], vocabulary["off table"], len(vocabulary)) == (3, 0, 4)
    assert AnswerVocabulary.from_json(vocabulary.to_json()).answers == vocabulary.answers
    path.write_text("yes\nyes\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"answers_vqa\.txt: the answer 'yes' stands twice"):
        AnswerVocabulary.load(path)


@pytest.mark.parametrize("value", [None, [], {"answers": "yes"}, {"answers": [1]}])
def test_damaged_json(value: object) -> None:
    with pytest.raises(DataError):
        AnswerVocabulary.from_json(value)


def test_exact_answers_stay_as_they_are_written() -> None:
    answers = AnswerVocabulary.build([("Women's",), ("a, b",)], exact=True)
    assert answers.answers[1:] == ("Women's", "a, b")
    assert answers.indices(["Women's"]) == [1] * 10
    assert answers.indices(["women 's"]) == [0] * 10
    again = AnswerVocabulary.from_json(answers.to_json())
    assert again.exact and again.answers == answers.answers
    assert "exact" not in AnswerVocabulary.build([("cat",)]).to_json()


def test_answers_are_spelled_as_people_wrote_them() -> None:
    """The official metric compares letter by letter where all annotators agree: a class name would earn nothing."""
    vocabulary = AnswerVocabulary.build([["The boy's"] * 10, ["the boy's"] * 9 + ["red"], ["Red"] * 10])
    assert vocabulary.answers[1:] == ("the boy 's", "red")
    assert vocabulary.spellings() == ("The boy's", "Red")
    again = AnswerVocabulary.from_json(vocabulary.to_json())
    assert again.spellings() == vocabulary.spellings()
    assert vocabulary.soft_targets(["THE BOY'S"] * 10) == {1: 1.0}
    with pytest.raises(DataError, match="spellings"):
        AnswerVocabulary.from_json({"answers": ["red"], "spellings": ["Red"]})
