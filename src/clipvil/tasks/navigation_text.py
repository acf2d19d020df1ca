"""Instructions as numbers for the navigation tasks: by words, by word pieces, or by those of a BERT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clipvil.errors import CheckpointError, DataError, RecipeError
from clipvil.records import Episode
from clipvil.tasks.navigation_settings import WordSettings
from clipvil.text.instruction_pieces import InstructionPieces
from clipvil.text.instructions import InstructionVocabulary, split_instruction
from clipvil.text.wordpiece import WordPiece

Ids = InstructionVocabulary | InstructionPieces


@dataclass(frozen=True)
class Words:
    """A vocabulary, and the sizes of the BERT that reads its ids where there is one."""

    ids: Ids
    bert: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        """How many ids there are."""
        return len(self.ids)

    @property
    def kind(self) -> str:
        """One of `navigation_settings.TEXTS`."""
        if isinstance(self.ids, InstructionVocabulary):
            return "words"
        return "wordpiece" if self.bert is None else "bert"

    def to_assets(self) -> dict[str, Any]:
        """What `kept_words` takes back, as JSON."""
        if isinstance(self.ids, InstructionVocabulary):
            return {"words": list(self.ids.words)}
        return {"pieces": self.ids.to_json(), **({} if self.bert is None else {"bert": dict(self.bert)})}


def learnt_words(settings: WordSettings, train: Sequence[Episode]) -> Words:
    """The vocabulary that the settings name, or that of the training instructions.

    Raises DataError, RecipeError, and CheckpointError for a BERT that cannot be had.
    """
    if settings.text == "bert":
        return _words_of_bert(settings)
    if settings.text == "wordpiece":
        told = [episode.instruction for episode in train]
        pieces = (
            WordPiece.load(settings.words)
            if settings.words
            else WordPiece.build(told, min_count=settings.min_word_count)
        )
        return Words(InstructionPieces(pieces))
    if settings.words:
        return Words(InstructionVocabulary.load(settings.words))
    found = InstructionVocabulary.build(map(words_of, train), min_count=settings.min_word_count)
    if not found.words:
        raise RecipeError(f"no word comes {settings.min_word_count} times; lower task_settings.min_word_count")
    return Words(found)


def _words_of_bert(settings: WordSettings) -> Words:
    from clipvil.models.envdrop_bert import bert_sizes

    if settings.bert is None:
        raise RecipeError("'task_settings.text' bert needs task_settings.bert, the BERT's folder or name on the hub")
    sizes, pieces = bert_sizes(settings.bert), WordPiece.load(settings.bert)
    if len(pieces) > sizes["vocab_size"]:
        raise RecipeError(
            f"'task_settings.bert': {settings.bert} has {len(pieces)} pieces, its word table {sizes['vocab_size']} rows"
        )
    return Words(InstructionPieces(pieces), sizes)


def kept_words(assets: Mapping[str, Any]) -> Words:
    """The vocabulary among a run's assets. Raises CheckpointError when it is not there."""
    words, bert = assets.get("words"), assets.get("bert")
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return Words(InstructionVocabulary(words))
    if "pieces" in assets and (bert is None or isinstance(bert, dict)):
        try:
            return Words(InstructionPieces.from_json(assets["pieces"]), bert)
        except DataError as error:
            raise CheckpointError(f"the run's word pieces: {error}") from None
    raise CheckpointError("the run has no list of words")


def same_kind(settings: WordSettings, words: Words) -> None:
    """Raise RecipeError where the settings ask for other text than the run that is started from has."""
    if settings.text not in ("words", words.kind):
        raise RecipeError(
            f"'task_settings.text' is {settings.text}, the run to start from reads by {words.kind}; leave it out"
        )
    if settings.words or settings.bert:
        mine = learnt_words(settings, ())
        if mine.to_assets() != words.to_assets():
            key = "words" if settings.words else "bert"
            raise RecipeError(f"'task_settings.{key}' is not what the run to start from reads by; leave it out")


def check_length(settings: WordSettings, words: Words) -> None:
    """Raise RecipeError where the BERT cannot read as many pieces as the settings allow."""
    if words.bert is not None and settings.max_words > words.bert["max_position_embeddings"]:
        most = words.bert["max_position_embeddings"]
        raise RecipeError(f"'task_settings.max_words' is {settings.max_words}, the BERT reads at most {most}")


def words_of(episode: Episode) -> list[str]:
    """The words of an instruction: the corpus's own where it parted them, else by the published splitter.

    Other languages than English are split with their vowel signs kept in the words.
    """
    own = episode.extra.get("words")
    if own:
        return own.lower().split()
    return split_instruction(episode.instruction, marks=episode.language.split("-")[0] != "en")


def encode_words(words: Words, settings: WordSettings, episodes: Sequence[Episode]) -> dict[str, Tensor]:
    """words (B, L) int64 padded with 0, word_count (B,). Raises DataError for an instruction with no words."""
    rows = [_ids(words.ids, episode, settings.max_words) for episode in episodes]
    counts = [len(row) for row in rows]
    out = torch.zeros(len(rows), max(counts), dtype=torch.int64)
    for place, row in enumerate(rows):
        out[place, : len(row)] = torch.tensor(row)
    return {"words": out, "word_count": torch.tensor(counts)}


def _ids(ids: Ids, episode: Episode, longest: int) -> list[int]:
    said = words_of(episode)
    if not any(any(letter.isalnum() for letter in word) for word in said):
        raise DataError(f"episode {episode.episode_id}: an instruction with no words")
    if isinstance(ids, InstructionPieces):
        return ids.encode(episode.instruction, longest)
    return ids.encode(said, min(longest, len(said) + 2))
