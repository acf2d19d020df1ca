"""Questions of one's own: a CSV, TSV, JSONL or JSON table with a row a question.

Columns: `image` (a path, relative to `images`), `question`, and `answer` or `answers` (a list in JSON, separated by "|"
in a table); optional `question_id`, `answer_type`, `question_type`, `split`. Other columns are ignored.

Data section, one of:

    {format: custom, questions: all.csv, images: folder}                    splits from the column `split`, or else by
    {format: custom, questions: all.csv, holdout: {val: 0.1, test: 0.2}, seed: 0}    picture (default: 0.1 and 0.1)
    {format: custom, train: train.csv, val: val.csv, test: test.csv}                 one file a split

An entry that is null is as good as none: `questions: null` takes the table away that a packaged recipe names.

`images` is the folder that paths start from (default: the folder of the table), `root` what all paths are relative to.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Dataset, Row, iter_rows, known, option_int, option_path
from clipvil.datasets.splitting import checked_holdout, split_pictures
from clipvil.errors import DataError
from clipvil.metrics.vqa_normalise import normalise_lenient
from clipvil.records import Question

_OPTIONS = ("format", "root", "images", "questions", "holdout", "seed")
_USUAL = ("train", "val", "test")
_REQUIRED = ("image", "question")
_OPTIONAL = ("answer", "answers", "question_id", "answer_type", "question_type", "split")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*")


def split_names(data: Mapping[str, Any]) -> list[str]:
    """Which splits there are; for one table that means reading it."""
    if data.get("questions") is not None:
        _, assigned = _one_table(data)
        return _ordered(assigned.values())
    return _ordered(_tables(data))


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    root = option_path(data, "root", ".")
    if data.get("questions") is not None:
        path = root / option_path(data, "questions")
        everything, assigned = _one_table(data)
        _check_split(split, _ordered(assigned.values()))
        records = [record for record in everything if assigned[record.question_id] == split]
    else:
        _check_split(split, split_names(data))
        path = root / option_path(data, split)
        # Row numbers start over in each file, so ids made from them carry the split's name.
        records = read_questions(path, prefix=f"{split}/")
    folder = root / option_path(data, "images") if data.get("images") is not None else path.parent
    ids = dict.fromkeys(record.image_id for record in records)
    return Dataset("custom", split, records, {i: folder / i for i in ids})


def _tables(data: Mapping[str, Any]) -> list[str]:
    """The splits that have a table each; a split may have any name but one that is nearly an option's."""
    names = [key for key in data if key not in _OPTIONS and data[key] is not None]
    for name in names:
        near = difflib.get_close_matches(name, _OPTIONS, n=1, cutoff=0.8)
        if near:
            raise DataError(
                f"the recipe's data section has an unknown entry '{name}'", fix=f"did you mean '{near[0]}'?"
            )
    if "train" not in names:
        near = difflib.get_close_matches("train", names, n=1)
        fix = f"did you mean 'train' by '{near[0]}'?" if near else ""
        raise DataError("a custom data section needs 'questions' (one table) or 'train' (one table a split)", fix=fix)
    return names


def _check_one_table(data: Mapping[str, Any]) -> None:
    """Refuse misspelt entries before the table is looked for, and tables of splits beside the one for all."""
    given = {key: value for key, value in data.items() if value is not None or key in _OPTIONS}
    both = [name for name in _USUAL if name in given]
    if both:
        raise DataError(
            f"the data section has 'questions' (one table for all splits) and '{both[0]}' (a table a split)",
            field=f"data.{both[0]}",
            fix="the two exclude each other; take one away, as by data.questions=null",
        )
    known(given, _OPTIONS)


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
    rows = list(iter_rows(path, _REQUIRED, _OPTIONAL))
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
    _check_one_table(data)
    path = option_path(data, "root", ".") / option_path(data, "questions")
    records, rows = _read(path)
    named = [row.has("split") for row in rows]
    if all(named):
        if data.get("holdout"):
            raise DataError("the table has a column 'split'; drop it or 'holdout'", file=path, field="data.holdout")
        return records, {record.question_id: row.text("split") for record, row in zip(records, rows, strict=True)}
    if any(named):
        raise rows[named.index(False)].error("is missing, though other rows name one", "split")
    part = split_pictures((r.image_id for r in records), checked_holdout(data), seed=option_int(data, "seed", 0))
    return records, {record.question_id: part[record.image_id] for record in records}
