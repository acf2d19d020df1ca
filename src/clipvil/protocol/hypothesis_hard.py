"""The pairs of an entailment test split that a model without the picture gets wrong.

The model is trained on the training split alone: logistic regression over the words and pairs of neighbouring words of
the hypothesis. What it gets right may be known from the wording alone; the rest is the split `hard` (Gururangan et al.
2018 made SNLI's hard set so, with fastText). Its own accuracy there is 0 by construction, so a floor of language says
nothing on it. Where hypotheses give nothing away there is no such set: its pairs would be chosen by their label.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from clipvil.datasets.columns import column_of
from clipvil.errors import DataError

SPLIT = "hard"
_DECAY = 1.0
"""Weight decay over the number of pairs: that of a prior, less and less as there are more."""
_ITERATIONS = 200
_WORD = re.compile(r"[\w']+|[^\w\s]")


def hard_pairs(train: Sequence[Any], test: Sequence[Any]) -> tuple[list[str], dict[str, Any]]:
    """Ids of the test pairs that the hypothesis-only model gets wrong, in file order, and what is known of it.

    Raises DataError where a split has no labels, where nothing is wrong, and where the model is not clearly better
    than the commonest label (by two standard errors).
    """
    gold = column_of(test, "label")
    told = column_of(train, "label")
    if not any(gold) or not any(told):
        raise DataError("the hypothesis-only model needs the labels of train and of the test split")
    model = HypothesisModel(column_of(train, "hypothesis"), told)
    said = model.predict(column_of(test, "hypothesis"))
    ids = column_of(test, "pair_id")
    wrong = [key for key, mine, right in zip(ids, said, gold, strict=True) if mine != right]
    if not wrong:
        raise DataError("the hypothesis-only model gets every test pair right: nothing is left to test with")
    accuracy, majority = 1 - len(wrong) / len(ids), max(Counter(gold).values()) / len(ids)
    if accuracy < majority + 2 * (majority * (1 - majority) / len(ids)) ** 0.5:
        raise DataError(
            f"a hypothesis-only model is right in {100 * accuracy:.1f} % of the test pairs, the commonest label in "
            f"{100 * majority:.1f} %: the hypotheses give nothing away, and there is no hard part",
            fix="leave this shift out",
        )
    own = model.predict(column_of(train, "hypothesis"))
    return wrong, {
        "made_by": "hypothesis_hard",
        "pairs": len(ids),
        "hard": len(wrong),
        "accuracy": round(100 * accuracy, 2),
        "majority": round(100 * majority, 2),
        "accuracy_on_train": round(100 * float(np.mean([a == b for a, b in zip(own, told, strict=True)])), 2),
        "features": len(model.places),
    }


class HypothesisModel:
    """Multinomial logistic regression over words and pairs of words, by L-BFGS; the same data, the same model."""

    def __init__(self, hypotheses: Sequence[str], labels: Sequence[str]) -> None:
        """Fit. Pairs without a label are left out."""
        rows = [(terms(text), label) for text, label in zip(hypotheses, labels, strict=True) if label]
        self.labels = sorted({label for _, label in rows})
        seen = Counter(term for found, _ in rows for term in set(found))
        # What stands once says nothing of others.
        self.places = {term: place for place, term in enumerate(sorted(t for t, n in seen.items() if n > 1))}
        table = self._table([found for found, _ in rows])
        gold = np.array([self.labels.index(label) for _, label in rows])
        self.weights = _fit(table, gold, len(self.labels))

    def predict(self, hypotheses: Iterable[str]) -> list[str]:
        """The likeliest label of each hypothesis; of equal ones the first by the alphabet."""
        scores = self._table([terms(text) for text in hypotheses]) @ self.weights
        return [self.labels[place] for place in np.asarray(scores).argmax(axis=1)]

    def _table(self, found: Sequence[Sequence[str]]) -> Any:
        """(N, T + 1) sparse counts; the last column is one everywhere."""
        from scipy.sparse import csr_array

        columns: list[int] = []
        ends = [0]
        last = len(self.places)
        for own in found:
            columns += sorted({self.places[term] for term in own if term in self.places})
            columns.append(last)
            ends.append(len(columns))
        shape = (len(found), last + 1)
        return csr_array((np.ones(len(columns)), np.array(columns, dtype=np.int64), np.array(ends)), shape=shape)


def terms(text: str) -> list[str]:
    """The words of a hypothesis in lower case, and its pairs of neighbouring words."""
    words = _WORD.findall(text.lower())
    return [*words, *(f"{a} {b}" for a, b in pairwise(words))]


def _fit(table: Any, gold: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
    """Weights (T + 1, C) of least loss: mean cross-entropy with weight decay, none on the last row."""
    from scipy.optimize import minimize

    count, width = table.shape
    target = np.eye(classes)[gold]
    decay = np.full((width, 1), _DECAY / count)
    decay[-1] = 0.0

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weights = flat.reshape(width, classes)
        scores = table @ weights
        scores -= scores.max(axis=1, keepdims=True)
        chances = np.exp(scores)
        chances /= chances.sum(axis=1, keepdims=True)
        value = -np.log(np.maximum((chances * target).sum(axis=1), 1e-300)).mean() + (decay * weights**2).sum() / 2
        return float(value), ((table.T @ (chances - target)) / count + decay * weights).ravel()

    start = np.zeros(width * classes)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    return np.asarray(found.x, dtype=np.float64).reshape(width, classes)
