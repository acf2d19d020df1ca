"""Pre-training of CLIP-ViL_p on sentences about pictures: masked words, matching, answers.

Source: Shen et al. 2021, "How Much Can CLIP Benefit Vision-and-Language Tasks?", and LXMERT (Tan and Bansal 2019),
whose corpus and answer table it uses. docs/pretraining.md tells how to use it, and how it differs from the release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from clipvil.datasets.columns import column_of
from clipvil.encoders.base import EncoderSpec
from clipvil.errors import DataError, UsageError
from clipvil.models.bert_weights import load_bert
from clipvil.models.clip_vil_p import ClipVilPModel, ClipVilPOutput, build, check_request
from clipvil.records import PretrainingPair
from clipvil.tasks.base import InitialRun, Prediction, Scores
from clipvil.tasks.losses import LossTerms
from clipvil.tasks.pretraining_batches import PairInCorpus, PairsInCorpus, draw_batch
from clipvil.tasks.pretraining_losses import IGNORED, counted_terms
from clipvil.tasks.pretraining_scores import METRIC, score_objectives
from clipvil.tasks.pretraining_settings import pretraining_settings
from clipvil.tasks.transplant import adopt_model, check_words, initial_words, other_setting
from clipvil.text.answer_table import AnswerTable
from clipvil.text.wordpiece import WordPiece

if TYPE_CHECKING:
    from clipvil.features.base import FeatureSource

_HEADS = {"mlm": "mlm", "itm": "itm", "qa": "answers"}
"""Objective -> head of the model."""
_LABELS = {"mlm": "hidden", "itm": "matched", "qa": "answer"}
"""Objective -> labels in a batch, -1 where nothing is asked."""
_MATCHED = ("about another picture", "about this picture")


class Pretraining:
    """The task `pretraining`. Records are `PretrainingPair`s, each with the corpus it stands in (see `units`)."""

    name = "pretraining"
    metric = METRIC
    record_type: type = PretrainingPair
    adopts_itself = True
    """A second stage has a head more than the first, so that its weights are taken over part by part too."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = pretraining_settings(settings)
        self.words: WordPiece | None = None
        self.answers: AnswerTable | None = None
        self.epoch = 0.0

    def units(self, records: Sequence[PretrainingPair]) -> PairsInCorpus:
        """The pairs, each knowing the sentences that one about another picture can be drawn from."""
        return PairsInCorpus(records)

    def prepare(self, train: Sequence[PairInCorpus]) -> None:
        """Build the word pieces and the answer table from the corpus, or read them from the named files.

        A large corpus is gone through once and not gathered: memory goes with its distinct words.
        """
        chosen = self.settings
        self.words = (
            WordPiece.load(chosen.words)
            if chosen.words
            else WordPiece.build(_sentences(train), size=chosen.word_pieces, min_count=chosen.min_word_count)
        )
        self._learn_answers(train)

    def continue_from(self, initial: InitialRun, train: Sequence[PairInCorpus]) -> None:
        """Take the word pieces of the first stage (or of another run); the answer table too, where it had one.

        Raises RecipeError where the settings name other word pieces, another BERT or another answer table.
        """
        chosen, self.words = self.settings, initial_words(initial)
        check_words(initial, chosen.words, chosen.bert, self.words)
        there = initial.assets.get("answers") if initial.task == self.name else None
        if there is not None and "qa" in self.settings.objectives:
            self.answers = AnswerTable.from_json(there)
            if chosen.answers and AnswerTable.load(chosen.answers).answers != self.answers.answers:
                raise other_setting("answers", chosen.answers, "the answer table of the run")
        else:
            self._learn_answers(train)

    def _learn_answers(self, train: Sequence[PairInCorpus]) -> None:
        chosen = self.settings
        self.answers = None
        if "qa" not in chosen.objectives:
            return
        if chosen.answers:
            self.answers = AnswerTable.load(chosen.answers)
            return
        counts = _answer_counts(train)
        if not counts:
            raise DataError(
                "no sentence of the training split is a question with an answer, so there is nothing to learn for 'qa'",
                fix="leave qa out of task_settings.objectives",
            )
        self.answers = AnswerTable.build(counts, top=chosen.top_answers, min_count=chosen.min_answer_count)

    def assets(self) -> dict[str, Any]:
        """Word pieces, and the answer table where there is one."""
        table = {} if self.answers is None else {"answers": self.answers.to_json()}
        return {"words": self._words().to_json(), **table}

    def restore(self, assets: Mapping[str, Any]) -> None:
        """Take back word pieces and answer table. Raises DataError when they are not there."""
        self.words = WordPiece.from_json(assets.get("words"))
        self.answers = AnswerTable.from_json(assets.get("answers")) if "qa" in self.settings.objectives else None

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """A fresh CLIP-ViL_p with the heads of the objectives. Raises RecipeError for another model or regions."""
        check_request(model, encoder, self.name)
        words, table = self._words(), self.answers
        return build(
            model,
            words=len(words),
            channels=encoder.grid_channels,
            answers=0 if table is None else len(table),
            heads=[_HEADS[one] for one in self.settings.objectives],
        )

    def begin(self, model: nn.Module) -> dict[str, Any]:
        """Start the text side from a BERT, where the settings name one; returns what was taken."""
        source = self.settings.bert
        if source is None:
            return {}
        found = load_bert(cast(ClipVilPModel, model), source)
        return {"bert": found.source, "taken": len(found.used), "fresh": found.fresh, "dropped": found.dropped}

    def adopt(self, model: nn.Module, initial: InitialRun) -> dict[str, Any]:
        """Take the body of another run, and of its heads those that are here too (the second stage from the first)."""
        heads = [_HEADS[one] for one in self.settings.objectives]
        return adopt_model(cast(ClipVilPModel, model), initial, heads=heads)

    def at_epoch(self, epoch: float) -> None:
        """How many epochs were seen: whether `qa` counts by now."""
        self.epoch = epoch

    def stage(self) -> int:
        """0 until `qa` counts (see `qa_from_epoch`), then 1: the best step and patience begin anew with it."""
        return int(self.epoch >= self.settings.qa_from_epoch)

    def collate(self, records: Sequence[PairInCorpus], features: FeatureSource) -> dict[str, Tensor]:
        """See `pretraining_batches.draw_batch`."""
        return draw_batch(records, features, self.settings, self._words(), self.answers)

    def loss_weights(self, batch: Mapping[str, Tensor]) -> Tensor:
        """How much each objective asks of a batch: masked words, sentences, questions (T,) float32."""
        counts = [(batch[_LABELS[one]] != IGNORED).sum() for one in self.settings.objectives]
        return torch.stack(counts).float()

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> LossTerms:
        """Cross-entropies by objective, each over what it asked (every weight 1, as published)."""
        terms = counted_terms(_asked(cast(ClipVilPModel, model), batch, self.settings.objectives))
        if not self.stage():
            # Nothing of it yet, but its parameters take part: several processes wait for their gradients.
            counts = [float(one != "qa") for one in terms.names]
            terms.sums = terms.sums * terms.sums.new_tensor(counts)
        return terms

    @torch.no_grad()
    def predict(
        self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[PairInCorpus]
    ) -> list[Prediction]:
        """What each objective got right of a record: `top` holds (objective, share right) of those that asked.

        `output` is the answer, or whether the sentence is about the picture; `confidence` is that of the output.
        Which words are hidden and which sentences exchanged was drawn with the batch, the same at every evaluation.
        """
        objectives = self.settings.objectives
        asked = _asked(cast(ClipVilPModel, model), batch, objectives)
        shares: list[dict[str, float]] = [{} for _ in records]
        said = [("", 0.0)] * len(records)
        for one in objectives:
            logits, labels = asked[one]
            best = logits.float().softmax(dim=-1).max(dim=-1)
            if one == "mlm":
                for row, share in enumerate(_shares(batch["hidden"], best.indices == labels)):
                    if share is not None:
                        shares[row]["mlm"] = share
                continue
            rows = zip(best.indices.tolist(), best.values.tolist(), labels.tolist(), strict=True)
            for row, (found, chance, label) in enumerate(rows):
                if label == IGNORED:
                    continue
                shares[row][one] = self._earned(found, records[row]) if one == "qa" else float(found == label)
                said[row] = (self._answer(found) if one == "qa" else _MATCHED[found], chance)
        return [
            Prediction(record.uid, record.image_id, *what, tuple(share.items()))
            for record, what, share in zip(records, said, shares, strict=True)
        ]

    def score(self, predictions: Sequence[Prediction], records: Sequence[PairInCorpus]) -> Scores:
        """See `pretraining_scores.score_objectives`."""
        images = dict(zip(column_of(records, "uid"), column_of(records, "image_id"), strict=True))
        return score_objectives(predictions, images)

    def submission(self, predictions: Sequence[Prediction], path: Path) -> None:
        """Raises UsageError: nobody judges pre-training."""
        raise UsageError("pre-training is judged by no server; fine-tune the run on a task that is")

    def _words(self) -> WordPiece:
        if self.words is None:
            raise UsageError("the task pretraining has no vocabulary yet; call prepare or restore first")
        return self.words

    def _answer(self, place: int) -> str:
        assert self.answers is not None
        return self.answers.answers[place]

    def _earned(self, place: int, record: PairInCorpus) -> float:
        assert self.answers is not None
        return min(1.0, sum(score for there, score in self.answers.targets(record.pair.labels) if there == place))


def _asked(
    model: ClipVilPModel, batch: Mapping[str, Tensor], objectives: Sequence[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Logits and labels of each objective; of masked words only the places that are asked, (M, words) and (M,)."""
    heads = [_HEADS[one] for one in objectives if one != "mlm"]
    cells, shapes = batch["cells"], batch["shapes"]
    out: ClipVilPOutput = model(
        batch["tokens"], batch["token_mask"], cells, batch.get("mask"), shapes, batch["picture"], heads=heads
    )
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for one in objectives:
        labels = batch[_LABELS[one]]
        if one == "mlm":
            places = labels != IGNORED
            said = model.words_at(out.sequence[:, : labels.shape[1]][places])
            # Where no head reads the pooler it takes part by nothing: several processes wait for its gradients.
            found[one] = said if heads else said + 0 * out.pooled.sum(), labels[places]
        else:
            logits = out.itm if one == "itm" else out.answers
            assert logits is not None
            found[one] = logits, labels
    return found


def _shares(hidden: Tensor, right: Tensor) -> list[float | None]:
    """Of each sentence the share of its hidden words that was found; None where none was hidden."""
    asked = hidden != IGNORED
    hits = torch.zeros(hidden.shape, device=hidden.device)
    hits[asked] = right.float()
    pairs = zip(hits.sum(dim=1).tolist(), asked.sum(dim=1).tolist(), strict=True)
    return [got / count if count else None for got, count in pairs]


def _sentences(train: Sequence[PairInCorpus]) -> Iterator[str]:
    """The sentences of a split, one after the other."""
    return train.sentences() if isinstance(train, PairsInCorpus) else (record.pair.sentence for record in train)


def _answer_counts(train: Sequence[PairInCorpus]) -> dict[str, dict[str, int]]:
    """Source -> answer -> questions that have it among their labels."""
    own = getattr(getattr(train, "pairs", None), "answer_counts", None)
    if own is not None:
        return dict(own())
    counts: dict[str, dict[str, int]] = {}
    for record in train:
        pair = record.pair
        for answer, _ in pair.labels:
            of_source = counts.setdefault(pair.source, {})
            of_source[answer] = of_source.get(answer, 0) + 1
    return counts
