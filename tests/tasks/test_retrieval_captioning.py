from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import DataError, RecipeError, UsageError
from clipvil.features.base import FeatureSource, GridBatch
from clipvil.metrics.captions import CaptionReward
from clipvil.metrics.captions.reward import DocumentFrequencies
from clipvil.records import Caption
from clipvil.tasks import retrieval_captioning as module
from clipvil.tasks.caption_scores import by_picture
from clipvil.tasks.retrieval_captioning import RetrievalCaptioning, most_typical, vectors_of
from clipvil.text.caption_vocabulary import CaptionVocabulary, caption_words
from tests.tasks.features import COLORS

VECTORS = {"n": [1.0, 0.0], "e": [0.0, 1.0], "ne": [1.0, 0.9], "s": [-1.0, 0.1], "long": [0.0, 40.0]}


class Vectors:
    """Features whose pooled vectors (or, without them, single cells) are given."""

    def __init__(self, known: dict[str, list[float]], *, pooled: bool = True, ragged: bool = False) -> None:
        self.known, self.ragged = known, ragged
        self.spec = EncoderSpec("synthetic", "0", 2, 2 if pooled else None)
        self.most = 0

    def __contains__(self, image_id: object) -> bool:
        return image_id in self.known

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """One cell a picture; ragged: two, of which the second is padding that points elsewhere."""
        self.most = max(self.most, len(image_ids))
        cells = torch.tensor([[self.known[i]] for i in image_ids])
        pooled = cells[:, 0] if self.spec.pooled_channels else None
        if not self.ragged:
            return GridBatch(cells, None, torch.ones(len(image_ids), 2).long(), pooled)
        cells = torch.cat([cells, -cells * 9], dim=1)
        mask = torch.tensor([[True, False]]).repeat(len(image_ids), 1)
        return GridBatch(cells, mask, torch.ones(len(image_ids), 2).long(), pooled)


def told(*image_ids: str) -> list[Caption]:
    return [Caption(i, f"points to {i}", i) for i in image_ids]


def prepared(*image_ids: str) -> RetrievalCaptioning:
    task = RetrievalCaptioning({})
    task.prepare(task.units(told(*image_ids)))
    return task


def outputs(task: RetrievalCaptioning, features: FeatureSource, *asked: str) -> list[str]:
    records = by_picture([Caption(i, "") for i in asked])
    batch = task.collate(records, features)
    return [p.output for p in task.predict(task.build({}, features.spec), batch, records)]


@pytest.mark.parametrize(
    "features", [Vectors(VECTORS), Vectors(VECTORS, pooled=False), Vectors(VECTORS, pooled=False, ragged=True)]
)
def test_the_caption_of_the_nearest_picture_by_cosine(features: Vectors) -> None:
    task = prepared("n", "e", "s")
    assert outputs(task, features, "ne", "long", "n", "s") == [
        "points to n",
        "points to e",
        "points to n",
        "points to s",
    ]


def test_confidence_is_the_cosine_and_further_pictures_follow() -> None:
    task, features = prepared("n", "e", "s"), Vectors(VECTORS)
    records = by_picture([Caption("ne", "")])
    [found] = task.predict(task.build({}, features.spec), task.collate(records, features), records)
    assert found.record_id == found.image_id == "ne"
    assert [text for text, _ in found.top] == ["points to n", "points to e", "points to s"]
    assert found.confidence == pytest.approx(1 / (1 + 0.81) ** 0.5)
    assert found.top[-1][1] == 0.0  # the cosine is negative


def test_many_pictures_are_read_piece_by_piece_and_equal_ones_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 7)
    generator = torch.Generator().manual_seed(0)
    many: dict[str, list[float]] = {str(i): torch.randn(2, generator=generator).tolist() for i in range(40)}
    many |= {"twin": many["33"], "query": many["33"]}
    features = Vectors(many)
    task = prepared(*(key for key in many if key != "query"))
    records = by_picture([Caption("query", "")])
    batch = task.collate(records, features)
    assert features.most == 7
    vectors = vectors_of(features, [key for key in many if key != "query"])
    cosines: Tensor = (vectors @ vectors_of(features, ["query"]).T)[:, 0]
    assert batch["nearest"][0].tolist() == cosines.argsort(descending=True, stable=True)[:5].tolist()
    assert batch["nearest"][0, :2].tolist() == [33, 40]


def test_assets_bring_it_back() -> None:
    task = prepared("n", "e")
    again = RetrievalCaptioning({})
    with pytest.raises(UsageError, match="no captions yet"):
        again.assets()
    again.restore(task.assets())
    assert outputs(again, Vectors(VECTORS), "ne") == ["points to n"]
    with pytest.raises(DataError, match="as many pictures as captions"):
        again.restore({"pictures": ["a"], "captions": []})


def test_what_cannot_be_done_is_said() -> None:
    task = prepared("n", "e")
    with pytest.raises(RecipeError, match=r"leave 'model\.preset' out"):
        task.build({"preset": "mini"}, Vectors(VECTORS).spec)
    with pytest.raises(UsageError, match="sees no picture"):
        task.build({}, EncoderSpec("question-only", "question-only", 1))
    assert task.refuses("question-only")
    assert not task.refuses("mini/contrastive")
    with pytest.raises(UsageError, match=r"lack training pictures of the run.*'n'"):
        task.collate(by_picture(told("e")), Vectors({"e": [0.0, 1.0]}))
    with pytest.raises(DataError, match="no training picture has a caption"):
        RetrievalCaptioning({}).prepare(by_picture([Caption("n", " ")]))
    with pytest.raises(RecipeError, match=r"unknown key 'task_settings\.beams'"):
        RetrievalCaptioning({"beams": 3})


def test_training_pictures_without_captions_are_no_neighbours() -> None:
    task = RetrievalCaptioning({})
    task.prepare(task.units([*told("e"), Caption("n", "")]))
    assert outputs(task, Vectors(VECTORS), "n") == ["points to e"]


def test_the_most_typical_caption_has_the_highest_mean_cider_against_the_others() -> None:
    texts = [
        ["a red bus on a street", "a red bus on the street", "something else entirely here"],
        ["nothing in common", "two dogs play in snow", "two dogs run in snow", "dogs play in snow"],
        ["only this one"],
        ["same words", "same words"],
    ]
    captions = [[Caption(str(i), text, f"{i}{n}") for n, text in enumerate(own)] for i, own in enumerate(texts)]
    found = most_typical(captions)
    assert found[2:] == ["only this one", "same words"]
    # The same by the reward, whose sentences end with an end symbol: here it changes no order.
    flat = [caption for own in captions for caption in own]
    words = CaptionVocabulary.build(caption_words(flat), min_count=1)
    rows = [[words.encode(tokens) for tokens in caption_words(own)] for own in captions]
    reward = CaptionReward(DocumentFrequencies.build(rows))
    for own, encoded, chosen in zip(texts[:2], rows[:2], found[:2], strict=True):
        padded = [row + [0] * (10 - len(row)) for row in encoded]
        means = [float(reward([row], [padded[:i] + padded[i + 1 :]], [0])[0]) for i, row in enumerate(padded)]
        assert chosen == own[means.index(max(means))]


def test_typical_captions_do_not_depend_on_how_many_are_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    captions = [
        [Caption(str(i), f"a {COLORS[(i + n) % 3]} {('cat', 'dog')[n % 2]} runs", f"{i}{n}") for n in range(1 + i % 4)]
        for i in range(20)
    ]
    whole = most_typical(captions)
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    assert most_typical(captions) == whole
