"""The official VQA accuracy of 214,354 questions, written plainly and as this library computes it, in one process.

    python benchmarks/vqa_metric.py

The plain version does what the official evaluator does, question by question, on the parsed JSON (own words, no code of
it). Both get their input ready in memory, so reading files counts for neither; the string caches of the library are
emptied before each timing. Both must give the same number for every question, every type and overall, to the last bit.
Also timed: the library with its bootstrap intervals for all types, which the official evaluator does not have. Results
go to benchmarks/results/vqa_metric.csv; exits 1 when a number differs or the library is less than 20 times faster.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import synthetic_vqa

from clipvil.metrics import vqa_normalise
from clipvil.metrics.vqa import VqaAccuracy, vqa_accuracy
from clipvil.records import Question
from clipvil.tasks.vqa_scores import score_answers

RESULTS = Path(__file__).parent / "results" / "vqa_metric.csv"
FASTER = 20.0
MARKS = [";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!"]
PERIOD, COMMA = re.compile(r"(?!<=\d)(\.)(?!\d)"), re.compile(r"(\d)(\,)(\d)")
DIGITS = {
    word: str(i)
    for i, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
}
DIGITS["none"] = "0"
ARTICLES = ["a", "an", "the"]


def without_marks(text: str) -> str:
    """The evaluator's punctuation step."""
    out = text
    for mark in MARKS:
        if (mark + " " in text or " " + mark in text) or re.search(COMMA, text) is not None:
            out = out.replace(mark, "")
        else:
            out = out.replace(mark, " ")
    return PERIOD.sub("", out, 32)


def plain_words(text: str) -> str:
    """The evaluator's step for digits, articles and contractions."""
    kept = []
    for word in text.lower().split():
        word = DIGITS.get(word, word)
        if word not in ARTICLES:
            kept.append(word)
    for place, word in enumerate(kept):
        if word in vqa_normalise.CONTRACTIONS:
            kept[place] = vqa_normalise.CONTRACTIONS[word]
    return " ".join(kept)


def plainly(annotations: list[dict[str, Any]], results: dict[int, str]) -> dict[str, Any]:
    """Accuracy (0..100, not rounded) of every question, by type and overall, one question after the other."""
    per_question: dict[str, float] = {}
    accuracies: list[float] = []
    by_answer: dict[str, list[float]] = {}
    by_question: dict[str, list[float]] = {}
    for truth in annotations:
        said = results[truth["question_id"]].replace("\n", " ").replace("\t", " ").strip()
        answers = [
            {**given, "answer": given["answer"].replace("\n", " ").replace("\t", " ").strip()}
            for given in truth["answers"]
        ]
        if len({given["answer"] for given in answers}) > 1:
            for given in answers:
                given["answer"] = plain_words(without_marks(given["answer"]))
            said = plain_words(without_marks(said))
        scores = []
        for given in answers:
            others = [other for other in answers if other != given]
            matching = [other for other in others if other["answer"] == said]
            scores.append(min(1.0, float(len(matching)) / 3))
        accuracy = added(scores) / len(scores)
        accuracies.append(accuracy)
        by_answer.setdefault(truth["answer_type"], []).append(accuracy)
        by_question.setdefault(truth["question_type"], []).append(accuracy)
        per_question[str(truth["question_id"])] = 100.0 * accuracy
    return {
        "overall": 100.0 * added(accuracies) / len(accuracies),
        "per_answer_type": {name: 100.0 * added(some) / len(some) for name, some in by_answer.items()},
        "per_question_type": {name: 100.0 * added(some) / len(some) for name, some in by_question.items()},
        "per_question": per_question,
    }


def added(values: list[float]) -> float:
    """A plain sum in order, as `sum` was before Python 3.12 began to compensate rounding."""
    total = 0.0
    for value in values:
        total += value
    return total


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result, the library's string caches emptied first."""
    for cache in (vqa_normalise.normalise_official, vqa_normalise.normalise_lenient):
        cache.cache_clear()
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def main() -> int:
    """Run both; 0 when they agree and the library is fast enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=synthetic_vqa.VAL)
    parser.add_argument("--repeats", type=int, default=3, help="of the library's timing; the fastest counts")
    options = parser.parse_args()
    pairs = list(synthetic_vqa.questions(options.questions))
    annotations = [given for _, given in pairs]
    # An answer that somebody gave, now and then as nobody would write it.
    results = {
        a["question_id"]: a["answers"][a["question_id"] % 10]["answer"] + (". " if a["question_id"] % 7 == 0 else "")
        for a in annotations
    }
    records = [record(asked, given) for asked, given in pairs]
    said = {str(key): answer for key, answer in results.items()}
    plain_seconds, expected = timed(lambda: plainly(annotations, results))
    runs = [timed(lambda: vqa_accuracy(said, records)) for _ in range(options.repeats)]
    seconds, found = min(runs, key=lambda run: run[0])
    with_intervals, _ = timed(lambda: score_answers(said, records, "official"))
    same = equal(expected, found)
    rows = [
        ["official algorithm, plainly", options.questions, round(plain_seconds, 3), 1.0, ""],
        ["clipvil", options.questions, round(seconds, 3), round(plain_seconds / seconds, 1), same],
        ["clipvil with intervals", options.questions, round(with_intervals, 3),
         round(plain_seconds / with_intervals, 1), ""],
    ]  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["what", "questions", "seconds", "times_faster", "same_to_the_last_bit"])
        writer.writerows(rows)
    print(RESULTS.read_text(encoding="utf-8"), end="")
    return 0 if same and plain_seconds / seconds >= FASTER else 1


def record(asked: dict[str, Any], given: dict[str, Any]) -> Question:
    """The library's record of one official question."""
    return Question(
        str(asked["question_id"]),
        str(asked["image_id"]),
        asked["question"],
        tuple(answer["answer"] for answer in given["answers"]),
        given["answer_type"],
        given["question_type"],
        given["multiple_choice_answer"],
    )


def equal(expected: dict[str, Any], found: VqaAccuracy) -> bool:
    """Whether every number is the same float."""
    return all(expected[name] == getattr(found, name) for name in expected)


if __name__ == "__main__":
    sys.exit(main())
