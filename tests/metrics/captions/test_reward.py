from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipvil.errors import DataError
from clipvil.metrics.captions import CaptionReward, DocumentFrequencies
from clipvil.metrics.captions.reward import KIND, LARGEST_ID, VERSION, count_frequencies
from clipvil.records import Caption
from clipvil.text.caption_vocabulary import CaptionVocabulary
from tests.shared import shared

TOLERANCE = 1e-9
WEIGHTS = {"cider": (1.0, 0.0), "bleu4": (0.0, 1.0), "cider_plus_half_bleu4": (1.0, 0.5)}


def recorded() -> dict[str, Any]:
    path = shared("fixtures", "caption_metrics", "cider_reward.json")
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def corpus(want: dict[str, Any]) -> list[tuple[str, Caption]]:
    return [
        (picture["split"], Caption(str(number), text, tokens=tuple(text.split())))
        for number, picture in enumerate(want["corpus"])
        for text in picture["captions"]
    ]


def vocabulary(want: dict[str, Any]) -> CaptionVocabulary:
    return CaptionVocabulary.build((c.tokens for _, c in corpus(want)), min_count=want["count_threshold"] + 1)


def frequencies(want: dict[str, Any]) -> DocumentFrequencies:
    train = [caption for split, caption in corpus(want) if split in ("train", "restval")]
    return count_frequencies(train, vocabulary(want))


def test_recorded_vocabulary_and_labels() -> None:
    want = recorded()
    words = vocabulary(want)
    rows = {str(row): words.decode([row]) for row in range(1, len(words))}
    assert rows == want["index_to_word"]
    longest = want["max_length"]
    labels = [words.encode(caption.tokens, longest) for _, caption in corpus(want)]
    assert [row + [0] * (longest - len(row)) for row in labels] == want["labels"]


def test_recorded_document_frequencies() -> None:
    want = recorded()
    found = frequencies(want)
    assert found.documents == want["document_count"]
    assert sum(map(len, found.keys)) == len(want["document_frequency"]) == 3354
    for ngram, count in want["document_frequency"]:
        packed = 0
        for word in ngram:
            packed = packed << 16 | int(word) + 1
        assert found.look_up(len(ngram), np.array([packed], dtype=np.uint64)).tolist() == [count]


@pytest.mark.parametrize("name", WEIGHTS)
def test_recorded_rewards(name: str) -> None:
    want = recorded()
    reward = CaptionReward(frequencies(want), *WEIGHTS[name])
    pictures = np.repeat(np.arange(len(want["references"])), want["samples_per_image"])
    samples = reward(want["samples"], want["references"], pictures)
    greedy = reward(want["greedy"], want["references"], np.arange(len(want["greedy"])))
    scores = want["scores"][name]
    np.testing.assert_allclose(samples, scores["sample_scores"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(greedy, scores["greedy_scores"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(samples - greedy[pictures], scores["advantage"], rtol=0, atol=TOLERANCE)


def small() -> DocumentFrequencies:
    return DocumentFrequencies.build([[[1, 2, 3], [1, 2]], [[4, 5]], [[1, 5]]])


def test_the_end_symbol_counts_and_what_follows_it_does_not() -> None:
    reward = CaptionReward(small())
    given = [[[1, 2, 3, 0, 0]]]
    full, junk, open_ended = reward([[1, 2, 3, 0, 0], [1, 2, 3, 0, 5], [1, 2, 3, 5, 5]], given, [0, 0, 0])
    assert full == junk == pytest.approx(10.0)
    assert open_ended < full
    # A reference that fills its row has no end symbol.
    clipped = reward([[1, 2, 3, 0], [1, 2, 3, 3]], [[[1, 2, 3]]], [0, 0])
    assert clipped[0] < 10
    assert reward([[1, 2, 3]], [[[1, 2, 3]]], [0])[0] == pytest.approx(7.5)


def test_pictures_may_come_in_any_order_and_number() -> None:
    reward = CaptionReward(small())
    references = [[[4, 5, 0]], [[1, 2, 0], [1, 2, 3]]]
    a = reward([[1, 2, 0], [4, 5, 0], [1, 5, 0]], references, [1, 0, 1])
    b = [
        reward([row], [references[picture]], [0])[0]
        for row, picture in (([1, 2, 0], 1), ([4, 5, 0], 0), ([1, 5, 0], 1))
    ]
    np.testing.assert_allclose(a, b)


def test_a_file_and_back(tmp_path: Path) -> None:
    found = DocumentFrequencies.build([[[1, LARGEST_ID - 1]], [[1]]], vocabulary="abc")
    found.save(tmp_path / "df.safetensors")
    again = DocumentFrequencies.load(tmp_path / "df.safetensors")
    assert (again.documents, again.vocabulary) == (2, "abc")
    for a, b in zip((*found.keys, *found.counts), (*again.keys, *again.counts), strict=True):
        assert a.dtype == b.dtype
        assert a.tolist() == b.tolist()
    found.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "df.safetensors").read_bytes()


def test_other_files_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    with pytest.raises(DataError, match="cannot be read as document frequencies"):
        DocumentFrequencies.load(path)
    path.write_bytes(b"\x80\x04]q\x00.")
    with pytest.raises(DataError, match="write it with `clipvil captions document-frequencies`"):
        DocumentFrequencies.load(path)
    save_file({"a": np.zeros(1)}, path)
    with pytest.raises(DataError, match="not a file of document frequencies"):
        DocumentFrequencies.load(path)
    metadata = {KIND: json.dumps({"version": VERSION, "documents": 3, "vocabulary": ""})}
    arrays = {
        f"{name}_{k}": np.zeros(2 + (k == 3 and name == "keys"), np.int64)
        for k in range(1, 5)
        for name in ("keys", "counts")
    }
    save_file(arrays, path, metadata)
    with pytest.raises(DataError, match="damaged document frequencies"):
        DocumentFrequencies.load(path)


def test_faults_are_named() -> None:
    reward = CaptionReward(small())
    with pytest.raises(DataError, match="picture 0 of the batch has no references"):
        reward([[1, 0]], [[]], [0])
    with pytest.raises(DataError, match="a sample about picture 2, but references of 1 pictures"):
        reward([[1, 0]], [[[1, 0]]], [2])
    with pytest.raises(DataError, match="word ids must lie in 0 to 65534, not 1 to 70000"):
        reward([[1, 70000]], [[[1, 0]]], [0])
    with pytest.raises(DataError, match="must be rows of word ids"):
        reward([1, 0], [[[1, 0]]], [0])
    with pytest.raises(DataError, match="no pictures to count n-grams of"):
        DocumentFrequencies.build([])
