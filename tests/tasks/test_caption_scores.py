from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipvil.errors import DataError
from clipvil.metrics.captions import caption_scores
from clipvil.records import Caption, CaptionedImage
from clipvil.tasks import caption_scores as module
from clipvil.tasks.base import Prediction
from clipvil.tasks.caption_scores import BESIDE, CaptionJudge, by_picture, write_results

TEXTS = {
    "1": ("A man rides a horse.", "a man on a brown horse", "someone riding a horse"),
    "2": ("Two dogs play in snow!", "two dogs in the snow"),
    "3": ("A red bus on a street.", "a bus drives down the street"),
    "4": ("a cat sleeps on a bed", "A cat is asleep on the bed."),
}
SAID = {"1": "a man on a horse", "2": "two dogs play in the snow", "3": "a red car", "4": "a cat on a bed"}


def records(domains: dict[str, str] | None = None) -> list[CaptionedImage]:
    return by_picture(
        [
            Caption(image_id, text, f"{image_id}{n}", domain=(domains or {}).get(image_id, ""))
            for image_id, texts in TEXTS.items()
            for n, text in enumerate(texts)
        ]
    )


def predictions(said: dict[str, str] = SAID) -> list[Prediction]:
    return [Prediction(image_id, image_id, text, 0.5) for image_id, text in said.items()]


def test_pictures_in_order_of_first_appearance_with_all_their_captions() -> None:
    a, b, c = Caption("x", "one", "1"), Caption("y", "two", "2"), Caption("x", "three", "3")
    found = by_picture([a, b, c])
    assert found == [CaptionedImage("x", (a, c)), CaptionedImage("y", (b,))]
    assert by_picture([]) == []


def test_what_a_picture_is_told_leaves_out_what_says_nothing() -> None:
    silent, spoken = Caption("x", " \n"), Caption("x", "words", domain="far")
    record = CaptionedImage("x", (silent, spoken))
    assert record.told == (spoken,)
    assert CaptionedImage("x", (silent,)).told == ()
    assert CaptionedImage("x").domain == ""
    assert CaptionedImage("y", (spoken,)).domain == "far"


def test_scores_are_those_of_the_metric_times_a_hundred() -> None:
    found = CaptionJudge().score(predictions(), records())
    want = caption_scores(SAID, {key: list(texts) for key, texts in TEXTS.items()})
    assert (found.metric, found.mode) == ("CIDEr-D", "coco")
    assert found.overall.value == pytest.approx(100 * want["CIDEr-D"].value, abs=1e-9)
    assert found.overall.n == 4
    assert 0 <= found.overall.low <= found.overall.value <= found.overall.high <= 1000
    assert found.per_record == pytest.approx({k: 100 * v for k, v in want["CIDEr-D"].per_image.items()})
    assert sum(found.per_record.values()) / 4 == pytest.approx(found.overall.value)
    assert found.images == {key: key for key in TEXTS}
    for metric in BESIDE:
        assert found.breakdowns["metric"][metric].value == pytest.approx(100 * want[metric].value), metric
    assert "domain" not in found.breakdowns


def test_the_light_judgement_says_the_same_cider_and_nothing_else() -> None:
    judge, given = CaptionJudge(), records()
    light, whole = judge.score(predictions(), given, everything=False), judge.score(predictions(), given)
    assert light.overall == whole.overall
    assert light.per_record == whole.per_record
    assert light.breakdowns == {}


def test_references_are_tokenised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    tokenize = module.tokenize
    monkeypatch.setattr(
        module, "tokenize", lambda texts, mode: calls.append(len(list(texts))) or tokenize(texts, mode=mode)
    )
    judge, given = CaptionJudge(), records()
    first = judge.score(predictions(), given, everything=False)
    assert calls == [9, 4]
    assert judge.score(predictions(), given, everything=False) == first
    assert calls == [9, 4, 4]
    # Equal records in another list are other records: they are read again, and judged alike.
    assert judge.score(predictions(), records(), everything=False) == first
    assert calls == [9, 4, 4, 9, 4]


def test_domains_are_scored_with_their_own_references() -> None:
    given = records({"1": "near", "2": "near", "3": "far", "4": "far"})
    found = CaptionJudge().score(predictions(), given).breakdowns["domain"]
    assert list(found) == ["far", "near"]
    alone = caption_scores({k: SAID[k] for k in "12"}, {k: list(TEXTS[k]) for k in "12"}, ("CIDEr-D",))["CIDEr-D"]
    assert found["near"].value == pytest.approx(100 * alone.value)
    assert found["near"].n == 2


def test_a_picture_without_captions_is_predicted_and_not_scored() -> None:
    given = [*records(), CaptionedImage("5", (Caption("5", ""),))]
    said = predictions({**SAID, "5": "a thing"})
    found = CaptionJudge().score(said, given)
    assert found.overall.n == 4
    assert "5" not in found.per_record
    with pytest.raises(DataError, match="no picture has a caption"):
        CaptionJudge().score(said[-1:], given[-1:])


def test_captions_with_line_breaks_odd_signs_or_nothing_are_scored() -> None:
    found = CaptionJudge().score(
        predictions({**SAID, "1": "a man\non a horse", "2": "", "3": "ein Bus \u2603 \U0001f600"}), records()
    )
    assert found.per_record["1"] == pytest.approx(CaptionJudge().score(predictions(), records()).per_record["1"])
    assert found.per_record["2"] == 0


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (predictions()[:3], "picture 4 has no caption"),
        ([*predictions(), Prediction("9", "9", "a", 1.0)], "picture 9, which is not among"),
        ([*predictions(), predictions()[0]], "picture 1 has two captions"),
    ],
)
def test_predictions_that_do_not_fit_the_pictures(said: list[Prediction], says: str) -> None:
    with pytest.raises(DataError, match=says):
        CaptionJudge().score(said, records())


def test_the_servers_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_results([Prediction("7", "7", "a caf\u00e9", 1.0)], path)
    assert json.loads(path.read_text(encoding="utf-8")) == [{"image_id": 7, "caption": "a caf\u00e9"}]
    for wrong, says in (
        ([], "no predictions"),
        ([Prediction("a.jpg", "a.jpg", "x", 1.0)], "whole number"),
        ([Prediction("7", "7", "x", 1.0)] * 2, "two captions"),
    ):
        with pytest.raises(DataError, match=says):
            write_results(wrong, tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()
