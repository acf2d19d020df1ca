"""The two text files that MMF reads beside a checkpoint of a VQA model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipvil.convert.base import Sizes
from clipvil.errors import DataError, UsageError
from clipvil.text.answers import UNKNOWN_ANSWER, AnswerVocabulary
from clipvil.text.vocabulary import Vocabulary

VOCABULARIES = "--words and --answers"


def assets(sizes: Sizes, words: str | Path | None, answers: str | Path | None) -> dict[str, Any] | None:
    """What the task `vqa` restores from both files, one word or answer a line; None where neither is given.

    Raises UsageError for one without the other, DataError for a file that has not as many rows as the weights.
    """
    if words is None and answers is None:
        return None
    if words is None or answers is None:
        raise UsageError("give both --words and --answers, or neither")
    vocabulary, classes = Vocabulary.load(words), AnswerVocabulary.load(answers)
    if len(vocabulary) != sizes.words:
        raise DataError(
            f"gives {len(vocabulary)} rows with the four special ones, the checkpoint's word table has {sizes.words}",
            file=words,
            fix="give the vocabulary that the model was trained with",
        )
    first = next(line.strip() for line in Path(answers).read_text(encoding="utf-8-sig").splitlines() if line.strip())
    if first != UNKNOWN_ANSWER or len(classes) != sizes.answers:
        raise DataError(
            f"gives {len(classes)} classes beginning with {first!r}; the checkpoint has {sizes.answers}, the "
            f"first of them {UNKNOWN_ANSWER}",
            file=answers,
            fix="give the answers file that the model was trained with",
        )
    return {"words": vocabulary.to_json(), "answers": classes.to_json()}
