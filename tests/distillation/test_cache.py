from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clipvil.distillation.cache import TextCache
from clipvil.distillation.text_teachers import ModelTeacher, read_parts
from clipvil.errors import StoreError
from clipvil.text.wordpiece import PACKAGE, package_folder
from tests.distillation.world import HYPOTHESES, reader

TEXTS = [(text,) for text in HYPOTHESES] + [("is it red?", " yes, it is")]


def assert_said(cache: TextCache, texts: list[tuple[str, ...]], tolerance: float) -> None:
    for number, said in enumerate(read_parts(reader(), texts)):
        begin, count = int(cache.begins[number]), int(cache.counts[number])
        torch.testing.assert_close(
            cache.vectors[cache.rows[number]].float(), said.vector, atol=tolerance, rtol=tolerance
        )
        torch.testing.assert_close(
            cache.words[begin : begin + count].float(), said.words, atol=tolerance, rtol=tolerance
        )
        assert cache.known[begin : begin + count].bool().tolist() == said.known.tolist()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-3)])
def test_what_was_kept_is_what_the_teacher_says(tmp_path: Path, dtype: str, tolerance: float) -> None:
    first = TextCache(reader(), tmp_path, TEXTS, dtype)
    assert first.read == len(TEXTS)
    again = TextCache(reader(), tmp_path, TEXTS, dtype)
    assert again.read == 0
    assert_said(again, TEXTS, tolerance)
    assert torch.equal(first.words, again.words)


def test_only_what_is_missing_is_read(tmp_path: Path) -> None:
    before = reader().text.encoded
    TextCache(reader(), tmp_path, TEXTS[:2], "float32")
    assert reader().text.encoded - before == 2
    more = TextCache(reader(), tmp_path, TEXTS[::-1], "float32")
    assert more.read == len(TEXTS) - 2
    assert_said(more, TEXTS[::-1], 1e-5)


def test_parts_are_read_apart_and_their_words_stand_behind_each_other() -> None:
    whole = read_parts(reader(), [("is it red?", " yes, it is")])[0]
    first, second = read_parts(reader(), [("is it red?",), (" yes, it is",)])
    torch.testing.assert_close(whole.words, torch.cat([first.words, second.words]))
    torch.testing.assert_close(
        whole.vector, (first.vector / first.vector.norm() + second.vector / second.vector.norm()) / 2
    )


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    TextCache(reader(), tmp_path, TEXTS, "float32")
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(StoreError, match=file.name):
        TextCache(reader(), tmp_path, TEXTS, "float32")


@pytest.mark.skipif(package_folder() is None, reason=f"the package {PACKAGE} is not installed (extra [offline])")
def test_a_model_of_texts_alone_finds_the_same_words() -> None:
    teacher = ModelTeacher(PACKAGE)
    text = "[person1] doesn't see the café"
    said = teacher.read([text, "red"])
    assert len(said[0].words) == 5 and bool(said[0].known.all())
    assert said[0].words.shape[1] == teacher.channels
    alone = teacher.read([text])[0]
    torch.testing.assert_close(alone.words, said[0].words, atol=1e-4, rtol=1e-4)
    assert not teacher.joint and len(teacher.fingerprint()) == 16
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())
