from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from clipvil.errors import DataError, RecipeError, UsageError
from clipvil.protocol.subsets import picture_order, strata_of, write_subset
from clipvil.records import Commonsense, Entailment, Question
from clipvil.training.recipe import Recipe, TrainingChoice
from clipvil.training.subset import chosen_of


def pairs(pictures: int) -> list[Entailment]:
    """Three pictures in four are about contradictions, one about the rest."""
    labels = ("contradiction", "contradiction", "contradiction", "entailment")
    return [Entailment(f"{p}-{k}", f"{p}.jpg", "A dog.", labels[p % 4]) for p in range(pictures) for k in range(3)]


def test_smaller_subsets_are_part_of_larger_ones(tmp_path: Path) -> None:
    records = pairs(80)
    lists = [write_subset(tmp_path / f"{n}.json", records, n, draw=3) for n in (8, 20, 80)]
    ids = [json.loads(Path(one.file).read_text()) for one in lists]
    assert ids[0] == ids[1][:8] == ids[2][:8] and len(set(ids[2])) == 80
    assert [one.records for one in lists] == [24, 60, 240]


def test_every_beginning_holds_the_strata_in_proportion() -> None:
    records = pairs(80)
    order = picture_order([r.image_id for r in records], strata_of(records), 0)
    of = {r.image_id: r.label for r in records}
    for size in range(1, 81):
        share = Counter(of[image] for image in order[:size])["contradiction"]
        assert abs(share - 0.75 * size) <= 1


def test_a_draw_follows_from_the_ids_alone() -> None:
    records = pairs(40)
    ids, strata = [r.image_id for r in records], strata_of(records)
    assert picture_order(ids, strata, 0) == picture_order(ids[::-1], strata[::-1], 0)
    assert picture_order(ids, strata, 0) != picture_order(ids, strata, 1)


def test_what_records_are_sorted_by() -> None:
    assert strata_of([Question("1", "a", "How many?", ("2",), "number")]) == ["number"]
    assert strata_of([Question("1", "a", "How many?")]) == ["how"]
    assert strata_of([Commonsense("1", "a", ((0,), "Why", "is"), ())]) == ["why"]


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    one = write_subset(tmp_path / "x.json", pairs(20), 5, 0)
    assert one.sha256 == hashlib.sha256((tmp_path / "x.json").read_bytes()).hexdigest()
    again = write_subset(tmp_path / "y.json", pairs(20), 5, 0)
    assert again.sha256 == one.sha256
    with pytest.raises(UsageError, match="21 pictures were asked for, the training split has 20"):
        write_subset(tmp_path / "z.json", pairs(20), 21, 0)


def test_a_run_takes_the_listed_pictures_alone(tmp_path: Path) -> None:
    records = pairs(20)
    one = write_subset(tmp_path / "x.json", records, 5, 0)
    listed = set(json.loads((tmp_path / "x.json").read_text()))
    choice = TrainingChoice.model_validate({"subset": {"file": one.file, "sha256": one.sha256}})
    pictures = {r.image_id for r in records}
    assert list(chosen_of(records, choice, pictures)) == [r for r in records if r.image_id in listed]
    (tmp_path / "x.json").write_text('["0.jpg"]')
    with pytest.raises(DataError, match=r"x\.json.*SHA-256.*another list, or was changed"):
        chosen_of(records, choice, pictures)
    (tmp_path / "foreign.json").write_text('["0.jpg", "elsewhere.jpg"]')
    foreign = TrainingChoice.model_validate({"subset": {"file": str(tmp_path / "foreign.json")}})
    with pytest.raises(DataError, match=r"1 of 2 ids belong to no picture .* elsewhere\.jpg"):
        chosen_of(records, foreign, pictures)
    absent = TrainingChoice.model_validate({"subset": {"file": str(tmp_path / "none.json")}})
    with pytest.raises(DataError, match=r"none\.json.*cannot be read"):
        chosen_of(records, absent, pictures)


def test_a_list_counts_by_what_is_in_it() -> None:
    digest = "a" * 64
    here, there = (Recipe().with_overrides(f"training.subset={{file: {f}, sha256: {digest}}}") for f in ("a", "b"))
    assert here.hash() == there.hash() != Recipe().hash()
    assert Recipe().with_overrides(f"training.subset={{file: a, sha256: {'b' * 64}}}").hash() != here.hash()
    unchecked = [Recipe().with_overrides(f"training.subset.file={name}").hash() for name in ("a", "b")]
    assert len(set(unchecked)) == 2
    with pytest.raises(RecipeError, match="share and subset both choose pictures"):
        here.with_overrides("training.share=0.5")
