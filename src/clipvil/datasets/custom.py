"""Questions of one's own: a CSV, TSV, JSONL or JSON table with a row a question.

Columns: `image` (a path, relative to `images`), `question`, and `answer` or `answers` (a list in JSON, separated by "|"
in a table); optional `question_id`, `answer_type`, `question_type`, `split`. Other columns are ignored.

Data section, one of:

    {format: custom, questions: all.csv, images: folder}                    splits from the column `split`, or else by
    {format: custom, questions: all.csv, holdout: {val: 0.1, test: 0.2}, seed: 0}    picture (default: 0.1 and 0.1)
    {format: custom, train: train.csv, val: val.csv, test: test.csv}                 one file a split

`images` is the folder that paths start from (default: the folder of the table), `root` what all paths are relative to.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Dataset, Row, iter_rows, known, option
from clipvil.datasets.splitting import checked_holdout, split_pictures
from clipvil.errors import DataError
from clipvil.metrics.vqa_normalise import normalise_lenient
from clipvil.records import Question

_OPTIONS = ("format", "root", "images", "questions", "holdout", "seed")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*")


def split_names(data: Mapping[str, Any]) -> list[str]:
    """Which splits there are; for one table that means reading it."""
    if "questions" in data:
        _, assigned = _one_table(data)
        return _ordered(assigned.values())
    names = [key for key in data if key not in _OPTIONS]
    if "train" not in names:
        raise DataError("a custom data section needs 'questions' (one table) or 'train' (one table a split)")
    return _ordered(names)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    root = Path(data.get("root") or ".")
    if "questions" in data:
        known(data, _OPTIONS)
        path = root / data["questions"]
        everything, assigned = _one_table(data)
        _check_split(split, _ordered(assigned.values()))
        records = [record for record in everything if assigned[record.question_id] == split]
    else:
        _check_split(split, split_names(data))
        path = root / option(data, split)
        # Row numbers start over in each file, so ids made from them carry the split's name.
        records = read_questions(path, prefix=f"{split}/")
    folder = root / data["images"] if data.get("images") else path.parent
    ids = dict.fromkeys(record.image_id for record in records)
    return Dataset("custom", split, records, {i: folder / i for i in ids})


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(
        dict.fromkeys(names), key=lambda name: ("train", "val").index(name) if name in ("train", "val") else 2
    )


def _check_split(split: str, names: list[str]) -> None:
    if split not in names:
        raise DataError(f"there is no split '{split}'", fix=f"the data has {', '.join(names)}")


def read_questions(path: str | Path, *, prefix: str = "") -> list[Question]:
    """Records in file order. A row without `question_id` gets its row number behind `prefix`.

    Raises DataError naming file, row and field.
    """
    return _read(path, prefix)[0]


def _read(path: str | Path, prefix: str = "") -> tuple[list[Question], list[Row]]:
    rows = list(iter_rows(path))
    records = [_record(row, prefix) for row in rows]
    if not records:
        raise DataError("holds no questions", file=path)
    seen: dict[str, int] = {}
    for record, row in zip(records, rows, strict=True):
        first = seen.setdefault(record.question_id, row.row)
        if first != row.row:
            raise row.error(f"{record.question_id} was already used in row {first}", "question_id")
    return records, rows


def _record(row: Row, prefix: str) -> Question:
    answers = _answers(row)
    return Question(
        question_id=row.identifier("question_id") if row.has("question_id") else f"{prefix}{row.row}",
        image_id=row.text("image"),
        question=row.text("question"),
        answers=answers,
        answer_type=row.text("answer_type", default="") or answer_type(answers),
        question_type=row.text("question_type", default=""),
        multiple_choice_answer=Counter(answers).most_common(1)[0][0] if answers else "",
    )


def _answers(row: Row) -> tuple[str, ...]:
    if row.has("answer") and row.has("answers"):
        raise row.error("a row has either 'answer' or 'answers', not both", "answers")
    if row.has("answer"):
        return (_answer(row, row.raw("answer"), "answer"),)
    if not row.has("answers"):
        return ()
    given = row.raw("answers")
    if isinstance(given, str):
        given = given.split("|")
    if not isinstance(given, list) or not given:
        raise row.error("must be a list of answers, or one text with answers separated by '|'", "answers")
    return tuple(_answer(row, answer, "answers") for answer in given)


def _answer(row: Row, value: Any, name: str) -> str:
    # 3 instead of "3" is what people write for counts.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return row.checked_text(value, name).strip()


def answer_type(answers: tuple[str, ...]) -> str:
    """VQA's three types from the most frequent answer; empty without answers. Ours, for tables that do not say."""
    if not answers:
        return ""
    answer = normalise_lenient(Counter(answers).most_common(1)[0][0])
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if _NUMBER.fullmatch(answer) else "other"


def _one_table(data: Mapping[str, Any]) -> tuple[list[Question], dict[str, str]]:
    """All records of the table, and the split of each by question id."""
    path = Path(data.get("root") or ".") / data["questions"]
    records, rows = _read(path)
    named = [row.has("split") for row in rows]
    if all(named):
        if data.get("holdout"):
            raise DataError("the table has a column 'split'; drop it or 'holdout'", file=path, field="holdout")
        return records, {record.question_id: row.text("split") for record, row in zip(records, rows, strict=True)}
    if any(named):
        raise rows[named.index(False)].error("is missing, though other rows name one", "split")
    part = split_pictures((r.image_id for r in records), checked_holdout(data), seed=int(data.get("seed") or 0))
    return records, {record.question_id: part[record.image_id] for record in records}
