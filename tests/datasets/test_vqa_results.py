from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.datasets.vqa_results import read_results
from clipvil.errors import DataError
from tests.datasets.build import write


def test_official_and_own_files(tmp_path: Path) -> None:
    expected = {"10": "red", "11": ""}
    text = '[{"question_id": 10, "answer": "red"}, {"question_id": 11, "answer": ""}]'
    assert read_results(write(tmp_path / "r.json", text)) == expected
    text = '{"record_id": "10", "output": "red", "confidence": 1}\n{"record_id": "11", "output": ""}\n'
    assert read_results(write(tmp_path / "predictions_test.jsonl", text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[{"question_id": 1, "answer": "a"}, {"question_id": "1", "answer": "a"}]',
            "row 2.*already answered in row 1",
        ),
        ('[{"question_id": 1}]', "row 1, field 'answer': is missing"),
        ('[{"answer": "a"}]', "row 1, field 'question_id': is missing"),
        ('[{"question_id": 1, "answer": 2}]', "row 1, field 'answer': must be a string"),
        ("[]", "holds no answers"),
        ('{"1": "a"}', "must hold a list"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_results(write(tmp_path / "r.json", text))
