from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from clipvil.datasets import cache
from clipvil.datasets.cache import VARIABLE, cache_folder, cached
from clipvil.datasets.columns import QuestionBuilder, Questions
from clipvil.datasets.registry import load
from clipvil.errors import DataError


class Corpus:
    """A source file of one question a line, and how often it was parsed."""

    def __init__(self, folder: Path) -> None:
        self.file, self.folder, self.parsed = folder / "corpus.txt", folder / "cache", 0
        self.write("first second")

    def write(self, text: str, age: float = 60) -> None:
        self.file.write_text(text)
        os.utime(self.file, (time.time() - age,) * 2)

    def build(self) -> Questions:
        self.parsed += 1
        builder = QuestionBuilder()
        for number, word in enumerate(self.file.read_text().split()):
            builder.add(str(number), "p", word, (word,) * 10)
        return builder.finish()

    def read(self, **options: str) -> list[str]:
        found = cached("test", [self.file], self.build, options=options, folder=self.folder, smallest=0)
        return found.column("question")

    def entry(self) -> Path:
        (found,) = self.folder.glob("*.safetensors")
        return found


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


def test_parsed_once_and_mapped_afterwards(corpus: Corpus) -> None:
    assert corpus.read() == corpus.read() == ["first", "second"]
    assert corpus.parsed == 1
    assert len(load_file(corpus.entry())["answers.codes"]) == 20  # an ordinary safetensors file
    assert corpus.read(prefix="x") == ["first", "second"]
    assert corpus.parsed == 2


def test_an_edit_is_seen_even_with_size_and_time_kept(corpus: Corpus) -> None:
    corpus.read()
    before = corpus.file.stat()
    corpus.write("third second")
    os.utime(corpus.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert corpus.file.stat().st_size == before.st_size and corpus.file.stat().st_mtime_ns == before.st_mtime_ns
    assert corpus.read() == ["third", "second"]
    corpus.write("a longer text")
    assert corpus.read() == ["a", "longer", "text"]


def test_the_same_content_with_another_time_is_not_parsed_again(corpus: Corpus) -> None:
    corpus.read()
    corpus.write("first second", age=5)
    assert corpus.read() == ["first", "second"]
    assert corpus.parsed == 1
    # The entry now knows the new time, so a look at it will do.
    text = corpus.entry().read_bytes()
    about = json.loads(json.loads(text[8 : 8 + int.from_bytes(text[:8], "little")])["__metadata__"]["about"])
    assert about["sources"][0]["mtime_ns"] == corpus.file.stat().st_mtime_ns


def test_any_damage_means_parsing_again(corpus: Corpus) -> None:
    corpus.read()
    whole = corpus.entry().read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        corpus.entry().write_bytes(damaged)
        assert corpus.read() == ["first", "second"], place
    for length in (0, 7, 40, len(whole) // 2, len(whole) - 1):
        corpus.entry().write_bytes(whole[:length])
        assert corpus.read() == ["first", "second"], length


def test_another_schema_is_another_entry(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.read()
    monkeypatch.setattr(cache, "SCHEMA", cache.SCHEMA + 1)
    corpus.read()
    assert corpus.parsed == 2


def test_a_source_that_changes_while_it_is_read_is_not_kept(corpus: Corpus) -> None:
    def build() -> Questions:
        found = corpus.build()
        corpus.write("meanwhile")
        return found

    assert cached("test", [corpus.file], build, folder=corpus.folder, smallest=0).column("question")[0] == "first"
    assert corpus.read() == ["meanwhile"]


def test_small_sources_get_no_entry(corpus: Corpus) -> None:
    cached("test", [corpus.file], corpus.build, folder=corpus.folder)
    assert not corpus.folder.exists()


def test_a_folder_that_cannot_be_written_costs_one_line(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    corpus.folder.write_text("a file where the folder should be")
    assert corpus.read() == ["first", "second"]
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert VARIABLE in error


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "clipvil" / "datasets"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "clipvil" / "datasets"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert cache_folder(str(tmp_path / "data")) == tmp_path / "data"
    assert cache_folder(False) is None
    assert cache_folder("off") is None
    monkeypatch.setenv(VARIABLE, "off")
    assert cache_folder() is None
    with pytest.raises(DataError, match="field 'cache': must be a folder, or 'off'"):
        cache_folder(7)


def test_a_data_section_chooses_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.datasets.build import annotations, questions, write

    monkeypatch.setattr(cache, "SMALLEST", 0)
    write(tmp_path / "q.json", questions())
    write(tmp_path / "a.json", annotations())
    entry = {"questions": "q.json", "annotations": "a.json", "exclude": {"file": "x.txt", "of": "question"}}
    (tmp_path / "x.txt").write_text("11\n")
    data = {"format": "vqa_v2", "root": str(tmp_path), "cache": str(tmp_path / "c"), "val": entry}
    first = load(data, "val")
    second = load(data, "val")
    assert list(first.records) == list(second.records)
    assert [record.question_id for record in second.records] == ["10", "12"]
    assert first.fingerprint == second.fingerprint
    names = sorted(path.name.partition("-")[0] for path in (tmp_path / "c").iterdir())
    assert names == ["fingerprints", "vqa_v2"]
    assert len(list((tmp_path / "c" / "fingerprints").iterdir())) == 1
    assert list(load({**data, "cache": False}, "val").records) == list(first.records)


def test_processes_that_read_at_once_all_get_it(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.write(" ".join(f"word{i}" for i in range(3000)))
    code = (
        "import sys; from pathlib import Path; from tests.datasets.test_cache import Corpus\n"
        "corpus = Corpus.__new__(Corpus); folder = Path(sys.argv[1])\n"
        "corpus.file, corpus.folder, corpus.parsed = folder / 'corpus.txt', folder / 'cache', 0\n"
        "for _ in range(5): assert len(corpus.read()) == 3000\n"
    )
    line = [sys.executable, "-c", code, str(tmp_path)]
    started = [subprocess.Popen(line, cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert [path.name for path in corpus.folder.iterdir()] == [corpus.entry().name]
