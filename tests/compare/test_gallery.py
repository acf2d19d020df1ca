from __future__ import annotations

import base64
import io

from PIL import Image

from clipvil.compare.gallery import THUMBNAIL, Kinds, choose, make_thumbnail, record_id
from clipvil.records import Entailment, Question
from clipvil.tasks.base import Prediction

RECORDS = {
    f"q{i}": Question(f"q{i}", f"image{i // 2}", f"What is {i}?", ("red",) * 7 + ("blue",) * 3) for i in range(80)
}


def _answers(right: set[int]) -> dict[str, tuple[Prediction, float]]:
    return {
        f"q{i}": (Prediction(f"q{i}", f"image{i // 2}", "red", 0.5), 100.0 if i in right else 30.0) for i in range(80)
    }


def _choose(**changes: object):  # type: ignore[no-untyped-def]
    # lead is right on 0..39, the rival on 20..59: a quarter of the records are of each kind.
    answers = {"lead": _answers(set(range(40))), "rival": _answers(set(range(20, 60))), "floor": _answers(set())}
    given = {"lead": "lead", "floor": "floor", "per_kind": 3, "thumbnail": lambda image: image, "seed": 0} | changes
    return choose("vqa", "test", answers, RECORDS, **given)  # type: ignore[arg-type]


def test_every_kind_of_outcome_is_shown_with_its_share() -> None:
    groups = _choose()
    assert [(g.title, g.share, g.total, len(g.entries)) for g in groups] == [
        ("Every encoder right", 0.25, 80, 3),
        ("Only lead right", 0.25, 80, 3),
        ("lead wrong, another right", 0.25, 80, 3),
        ("Every encoder wrong", 0.25, 80, 3),
    ]
    only_lead = [int(entry.record_id[1:]) for entry in groups[1].entries]
    assert all(i < 20 for i in only_lead), "the floor's answers decide nothing"


def test_the_draw_is_fixed_by_the_seed_and_shows_no_picture_twice() -> None:
    drawn = [entry.record_id for group in _choose() for entry in group.entries]
    images = [entry.image_id for group in _choose() for entry in group.entries]
    assert drawn == [entry.record_id for group in _choose() for entry in group.entries]
    assert drawn != [entry.record_id for group in _choose(seed=1) for entry in group.entries]
    assert len(set(images)) == len(images)


def test_an_entry_says_who_answered_what() -> None:
    entry = _choose()[1].entries[0]
    assert [(a.encoder, a.answer, a.score) for a in entry.answers] == [
        ("lead", "red", 100.0),
        ("rival", "red", 30.0),
        ("floor", "red", 30.0),
    ]
    assert [(r.answer, r.count) for r in entry.references] == [("red", 7), ("blue", 3)]
    assert entry.prompt == f"What is {entry.record_id[1:]}?" and entry.thumbnail == entry.image_id


def test_records_that_one_encoder_lacks_are_left_out() -> None:
    answers = {"lead": _answers(set()), "rival": {k: v for k, v in _answers(set()).items() if k == "q4"}}
    groups = choose("vqa", "test", answers, RECORDS, lead="lead", floor=None, per_kind=9, thumbnail=lambda image: "")
    assert [entry.record_id for group in groups for entry in group.entries] == ["q4"] and groups[0].total == 1


def test_some_rivals_right_and_some_wrong_is_no_kind() -> None:
    kinds = Kinds("a", ("b", "c"))
    assert kinds.of({"a": True, "b": True, "c": False}) is None
    assert kinds.of({"a": False, "b": True, "c": False}) == "a wrong, another right"
    assert Kinds("a", ()).titles() == ["a right", "a wrong"]


def test_ids_of_other_records_are_found() -> None:
    assert record_id(Entailment("p1", "i", "h")) == "p1"


def test_thumbnails_are_small_jpegs_and_broken_pictures_are_none() -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (800, 400), (200, 0, 0, 128)).save(stream, "PNG")
    image = Image.open(io.BytesIO(base64.b64decode(make_thumbnail(stream.getvalue(), "x.png"))))
    assert image.format == "JPEG" and image.size == (THUMBNAIL, THUMBNAIL // 2)
    assert make_thumbnail(b"not a picture", "x.png") == ""
