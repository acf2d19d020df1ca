from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from clipvil.compare.results import Results
from clipvil.errors import DataError
from tests.compare.builder import build


def test_results_survive_the_disk(tmp_path: Path) -> None:
    results = build()
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results
    assert not list(tmp_path.glob(".*"))


def test_another_schema_is_refused_by_its_number(tmp_path: Path) -> None:
    value = build().model_dump(mode="json") | {"schema_version": 99}
    (tmp_path / "results.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match="schema version 99, this clipvil reads 1"):
        Results.load(tmp_path / "results.json")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema_version": 1, "name": "x"}', '{"schema_version": 1, "rows": 3}']
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataError, match=r"results\.json"):
        Results.load(tmp_path / "results.json")


def test_absent_results_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run the comparison first"):
        Results.load(tmp_path / "results.json")


def test_numbers_that_are_none_cannot_get_in() -> None:
    row = build().rows[0].model_dump()
    row["mean"]["value"] = float("nan")
    with pytest.raises(ValidationError):
        type(build().rows[0]).model_validate(row)


def test_rows_are_ranked_and_differences_turn_round() -> None:
    results = build({"a": (50.0,), "b": (70.0,)}, splits=("test",))
    assert [row.encoder for row in results.ranked("vqa", "test")] == ["b", "a"]
    forward, backward = results.difference("vqa", "test", "a", "b"), results.difference("vqa", "test", "b", "a")
    assert forward is not None and backward is not None
    assert (forward.value, forward.low, forward.high) == (-20.0, -21.5, -18.5)
    assert (backward.value, backward.low, backward.high) == (20.0, 18.5, 21.5)
    assert results.difference("vqa", "shifted", "a", "b") is None
