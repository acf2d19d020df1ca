from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from clipvil.errors import DataError
from clipvil.protocol.prior_shift import distance, shift_priors
from clipvil.records import Question


def corpus(pictures: int = 300, seed: int = 0) -> list[Question]:
    rng = np.random.default_rng(seed)
    out = []
    for p in range(pictures):
        answers = {
            "what color": ("red", "green", "blue", "black")[int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))],
            "is there": ("yes", "no")[int(rng.integers(2))],
            "how many": str(int(rng.integers(1, 5))),
        }
        for kind, answer in answers.items():
            out.append(Question(f"{p}-{kind}", f"{p}.jpg", f"{kind} x?", (answer,) * 10, "", kind, answer))
    return out


def test_priors_part_and_pictures_do_not_meet() -> None:
    records = {r.question_id: r for r in corpus()}
    lists, about = shift_priors({"train": list(records.values())})
    found = {name: [records[key] for ids in sources.values() for key in ids] for name, sources in lists.items()}
    assert list(found) == ["train", "val", "test", "prior_shift"]
    pictures = {name: {r.image_id for r in split} for name, split in found.items()}
    names = list(pictures)
    assert all(not pictures[a] & pictures[b] for i, a in enumerate(names) for b in names[i + 1 :])
    gaps = about["prior_distance_from_train"]
    assert gaps["prior_shift"] > 0.6 and gaps["test"] < 0.25 and gaps["val"] < 0.25
    assert about["dropped"] == len(records) - sum(map(len, found.values())) > 0
    # Every answer that is tested is known from training.
    assert about["answers_known_from_train"]["prior_shift"] == 1.0
    most = {
        name: Counter(r.multiple_choice_answer for r in found[name] if r.question_type == "is there") for name in found
    }
    assert most["train"].most_common(1)[0][0] != most["prior_shift"].most_common(1)[0][0]


def test_it_is_the_same_every_time_and_another_with_another_seed() -> None:
    records = corpus(100)
    assert shift_priors({"train": records}) == shift_priors({"train": records})
    assert shift_priors({"train": records}, seed=1)[0] != shift_priors({"train": records})[0]


def test_sources_are_kept_apart() -> None:
    lists, _ = shift_priors({"train": corpus(200), "val": _renamed(corpus(100, seed=1))})
    assert all(key.startswith("v") for sources in lists.values() for key in sources.get("val", ()))
    assert any("val" in sources for sources in lists.values())


def test_too_little_is_refused() -> None:
    with pytest.raises(DataError, match="questions are too few: nothing is left for"):
        shift_priors({"train": corpus(1)})
    with pytest.raises(DataError, match="none of the splits train has questions with answers"):
        shift_priors({"train": [Question("1", "a", "What?")]})


def test_the_distance_of_priors() -> None:
    yes, no = ("is", "yes"), ("is", "no")
    assert distance([yes, no], [yes, no]) == 0.0
    assert distance([yes], [no]) == 1.0
    assert distance([yes, yes, yes, no], [yes, no]) == pytest.approx(0.25)


def _renamed(records: list[Question]) -> list[Question]:
    return [Question(f"v{r.question_id}", f"v{r.image_id}", *list(vars(r).values())[2:]) for r in records]
