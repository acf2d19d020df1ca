"""Word pieces of navigation instructions as numbers, beside the words of `clipvil.text.instructions`.

[CLS] begins an instruction and [SEP] ends it, as BERT reads sentences (and CLEAR, arXiv 2207.02185, those of RxR).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from clipvil.text.wordpiece import WordPiece


class InstructionPieces:
    """A WordPiece vocabulary with the interface of `InstructionVocabulary`; row 0 is padding."""

    def __init__(self, pieces: WordPiece) -> None:
        self.pieces = pieces

    @classmethod
    def from_json(cls, value: Any) -> InstructionPieces:
        """Take back what `to_json` gave. Raises DataError for anything else."""
        return cls(WordPiece.from_json(value))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return self.pieces.to_json()

    def __len__(self) -> int:
        """How many ids there are."""
        return len(self.pieces)

    @property
    def begin(self) -> int:
        """The id of [CLS]."""
        return self.pieces.cls

    @property
    def end(self) -> int:
        """The id of [SEP]."""
        return self.pieces.sep

    @property
    def unknown(self) -> int:
        """The id of [UNK]."""
        return self.pieces.unknown

    def encode(self, sentence: str, longest: int) -> list[int]:
        """Begin, pieces and end, at most `longest` ids; those that are too many are cut off before the end."""
        ids, length = self.pieces.encode(sentence, longest)
        return ids[:length]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words up to the end, put together from their pieces; begin, padding and masks are left out."""
        silent = {self.pieces.pad, self.begin, self.pieces.mask}
        out: list[str] = []
        for number in ids:
            if number == self.end:
                break
            if number in silent:
                continue
            piece = self.pieces.pieces[number]
            if piece.startswith("##") and len(piece) > 2 and out:
                out[-1] += piece[2:]
            else:
                out.append(piece)
        return out
