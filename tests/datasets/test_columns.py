from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipvil.datasets.base import Dataset, fingerprint_of
from clipvil.datasets.columns import Joined, QuestionBuilder, Questions, Selected, find_double
from clipvil.records import Question

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
RECORDS = st.lists(
    st.builds(
        Question,
        TEXT,
        TEXT,
        TEXT,
        st.lists(TEXT, max_size=4).map(tuple),
        TEXT,
        TEXT,
        TEXT,
    ),
    max_size=8,
)


def pack(records: list[Question]) -> Questions:
    builder = QuestionBuilder()
    for record in records:
        builder.add(*vars(record).values())
    return builder.finish()


@given(RECORDS)
def test_records_come_out_as_they_went_in(records: list[Question]) -> None:
    packed = pack(records)
    assert list(packed) == records
    assert [packed[i - len(records)] for i in range(len(records))] == records
    assert packed[1:-1] == records[1:-1]
    assert packed.column("question_id") == [record.question_id for record in records]
    assert packed.column("image_id") == [record.image_id for record in records]
    assert packed.image_ids() == list(dict.fromkeys(record.image_id for record in records))
    assert packed.fingerprint == fingerprint_of(records) == Dataset("x", "y", packed, {}).fingerprint
    assert list(pickle.loads(pickle.dumps(packed))) == records  # noqa: S301 - our own, as a worker process gets it


def some(*names: str) -> list[Question]:
    return [Question(name, f"p{i // 2}", f"{name}?", (name, "x")) for i, name in enumerate(names)]


def test_indices_are_those_of_a_list() -> None:
    packed = pack(some("a", "b"))
    assert packed[np.int64(1)].question_id == "b"
    for index in (2, -3):
        with pytest.raises(IndexError, match="of 2"):
            packed[index]


def test_chosen_rows_and_several_lists_behave_like_one_list() -> None:
    first, second = some("a", "b", "c"), some("d", "e")
    chosen = Selected(pack(first), np.array([2, 0]))
    joined = Joined([chosen, pack(second)])
    plain = [first[2], first[0], *second]
    assert list(chosen) == plain[:2] == chosen[:]
    assert list(joined) == plain == [joined[i] for i in range(4)]
    assert joined[-1] == plain[-1] and joined[1:3] == plain[1:3]
    assert joined.column("question") == ["c?", "a?", "d?", "e?"]
    assert joined.image_ids() == ["p1", "p0"]
    assert joined.fingerprint == fingerprint_of(plain)


def test_fingerprints_are_remembered_by_what_was_read(tmp_path: Path) -> None:
    packed = Questions(pack(some("a", "b")).arrays, identity="source", fingerprints=tmp_path)
    assert packed.fingerprint == fingerprint_of(packed)
    (file,) = tmp_path.iterdir()
    file.write_text("0" * 64)
    again = Questions(packed.arrays, identity="source", fingerprints=tmp_path)
    assert again.fingerprint == "0" * 64
    # Other rows of the same source, or another source, are others.
    assert Selected(again, np.array([1])).fingerprint == fingerprint_of(packed[1:])
    assert Questions(packed.arrays, identity="other", fingerprints=tmp_path).fingerprint == fingerprint_of(packed)
    file.write_text("nonsense")
    assert Questions(packed.arrays, identity="source", fingerprints=tmp_path).fingerprint == fingerprint_of(packed)


def test_doubles_are_found_whatever_the_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_double([]) is None
    assert find_double(["a", "b"]) is None
    assert find_double(["a", "b", "c", "b", "a"]) == (3, 1)


def test_notes_about_pictures() -> None:
    builder = QuestionBuilder()
    builder.add("1", "p", "?")
    builder.add("2", "q", "?")
    assert builder.note("p", "train2014") and builder.note("p", "train2014")
    assert not builder.note("p", "val2014")
    assert builder.finish().notes() == {"p": "train2014", "q": ""}
    assert pack(some("a")).notes() == {}


@pytest.mark.parametrize("name", ["question.ends", "image_id.codes", "answers.table_ends", "answers.ends"])
def test_arrays_that_do_not_fit_are_refused(name: str) -> None:
    arrays = dict(pack(some("a", "b")).arrays)
    with pytest.raises(ValueError, match="do not fit together"):
        Questions({**arrays, name: arrays[name] + 1})
