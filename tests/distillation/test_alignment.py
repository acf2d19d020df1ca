from __future__ import annotations

import pytest
import torch

from clipvil.distillation.alignment import cell_boxes, chunks, pooling, tokens_of_words, word_spans
from clipvil.text.wordpiece import WordPiece
from tests.distillation.world import reader

SENTENCES = [
    "[person1] isn't sitting, is she?",
    "don't touch the café’s door",
    "naïve cafe\u0301 — Zürich 3.5",
    "東京 tower",
]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[person1] is here.", ["person1", "is", "here"]),
        ("don't!", ["don't"]),
        ("the café’s door", ["the", "café’s", "door"]),
        ("cafe\u0301 crème", ["cafe\u0301", "crème"]),
        ("東京 tower", ["東京", "tower"]),
        ("", []),
        (" ?! ", []),
    ],
)
def test_words_are_found_by_characters(text: str, words: list[str]) -> None:
    assert [text[begin:end] for begin, end in word_spans(text)] == words


@pytest.mark.parametrize("text", SENTENCES)
def test_chunks_leave_out_nothing_but_blanks(text: str) -> None:
    found = chunks(text)
    assert "".join(text[begin:end] for begin, end, _ in found) == "".join(text.split())
    assert [(begin, end) for begin, end, word in found if word] == word_spans(text)


@pytest.mark.parametrize("text", SENTENCES)
def test_every_word_finds_exactly_its_own_pieces(text: str) -> None:
    words = WordPiece.build(["person cafe is don t she n i ve zu rich tower"])
    places = words.offsets(text, 64)
    pieces = ["[CLS]", *words.tokenize(text), "[SEP]"]
    assert len(places) == len(pieces)
    spans = word_spans(text)
    ranges = tokens_of_words(spans, places)
    for (begin, end), (first, last) in zip(spans, ranges, strict=True):
        assert last > first
        inside = [place for place, (a, b) in enumerate(places) if a < b and begin <= a and b <= end]
        assert inside == list(range(first, last))


def test_a_tag_is_its_name_and_not_its_brackets() -> None:
    words = WordPiece.build(["[ person 1 ]"])
    text = "[person1] ran"
    ranges = tokens_of_words(word_spans(text), words.offsets(text, 20))
    pieces = ["[CLS]", *words.tokenize(text), "[SEP]"]
    assert pieces[slice(*ranges[0])] == ["person", "##1"]


def test_words_behind_a_cut_have_no_pieces() -> None:
    words = WordPiece.build(["one two three"])
    ranges = tokens_of_words(word_spans("one two three"), words.offsets("one two three", 4))
    assert ranges == [(1, 2), (2, 3), (0, 0)]


def test_a_teacher_reads_words_as_the_mean_of_its_own_tokens() -> None:
    teacher = reader()
    text = "a red circle, left of the [blue] square"
    said = teacher.read([text])[0]
    states = teacher.text.states([text])
    assert states is not None
    tokens, lengths = teacher.text.tokens([text])
    own = tokens[0, : int(lengths[0])].tolist()
    ranges = teacher._ranges(text, own)
    assert ranges is not None and len(ranges) == 8 == len(said.words)
    for word, (begin, end) in zip(said.words, ranges, strict=True):
        torch.testing.assert_close(word, states[1][0, begin:end].mean(0))
    # The state at the end mark is what the vector of the text is read from.
    torch.testing.assert_close(said.vector, states[1][0, len(own) - 1])


def test_states_do_not_depend_on_what_else_is_read() -> None:
    teacher = reader()
    long = "there are three large striped squares above the small red circle"
    alone, together = teacher.read(["a red circle"])[0], teacher.read(["a red circle", long])[0]
    torch.testing.assert_close(alone.words, together.words, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone.vector, together.vector, rtol=1e-4, atol=1e-5)


def test_words_behind_the_teachers_context_are_unknown() -> None:
    said = reader().read(["red " * 60])[0]
    assert len(said.known) == 60
    assert said.known[:20].all() and not said.known[-20:].any()


def test_a_grid_is_averaged_over_what_a_cell_covers() -> None:
    weights = pooling(cell_boxes(2, 2), 4, 4)
    assert weights.shape == (4, 16)
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    assert weights[0].nonzero()[:, 0].tolist() == [0, 1, 4, 5]
    assert torch.equal(pooling(cell_boxes(3, 5), 3, 5) > 0.5, torch.eye(15) > 0)


def test_a_box_takes_cells_by_how_much_of_it_they_cover() -> None:
    weights = pooling(torch.tensor([[0.0, 0.0, 0.75, 1.0], [0.5, 0.5, 0.5, 0.5]]), 1, 2)
    torch.testing.assert_close(weights[0], torch.tensor([2 / 3, 1 / 3]))
    torch.testing.assert_close(weights[1], torch.tensor([0.0, 1.0]))
