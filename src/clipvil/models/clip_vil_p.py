"""CLIP-ViL_p: one transformer over the word pieces of a sentence and the cells of a picture, trained with its encoder.

`ClipVilP` is the body, `ClipVilPModel` the body with heads. Cells come from a feature store, or from the encoder that
`clipvil.models.picture_model.PictureModel` puts before it. Every distinct picture of a batch is projected once, however
many sentences are about it.
Facts and differences from the released code: docs/clip-vil-p.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clipvil.errors import DataError, RecipeError
from clipvil.models.clip_vil_p_config import ClipVilPConfig, configure_clip_vil_p
from clipvil.models.clip_vil_p_heads import AnswerHead, MatchingHead, WordHead
from clipvil.models.clip_vil_p_layers import Block, GridEmbeddings, TextEmbeddings, initialise
from clipvil.models.taps import Tap
from clipvil.models.tied_tags import TiedTags

if TYPE_CHECKING:
    from clipvil.encoders.base import EncoderSpec

HEADS = ("mlm", "itm", "answers")


class ClipVilP(nn.Module):
    """The body. `words` rows of the word table, `channels` of a grid cell."""

    def __init__(self, config: ClipVilPConfig, words: int, channels: int) -> None:
        super().__init__()
        self.config = config
        self.text = TextEmbeddings(config, words)
        self.grid = GridEmbeddings(config, channels)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.pooler = nn.Linear(config.hidden, config.hidden)
        self.apply(partial(initialise, config=config))

    def forward(
        self,
        tokens: Tensor,
        token_mask: Tensor,
        cells: Tensor,
        cell_mask: Tensor | None,
        shapes: Tensor,
        picture: Tensor | None = None,
        *,
        segments: Tensor | None = None,
        chosen: Tensor | None = None,
        tied: TiedTags | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Read sentences about pictures: sequence (B, T + N', hidden), text first, and pooled (B, hidden).

        `tokens` (B, T) word pieces and `token_mask` (B, T) True where one is; `cells` (P, N, C) of the distinct
        pictures, row by row, `cell_mask` (P, N) True where a cell is real (None: all are), `shapes` (P, 2) rows and
        columns; `picture` (B,) which picture each sentence is about (None: its own). `segments` (B, T) where they are
        not all 0. `chosen` (B, N') cells that each sentence sees, in that order (None: `keep_cells` are drawn, or all).
        `tied`: which pieces name objects, and where those stand; such a piece is given what its box shows, added to its
        embedding (of all cells, drawn or not).

        Raises DataError for texts and grids that the position tables cannot hold and for counts that do not agree.
        """
        count = len(tokens)
        if picture is None and len(cells) != count:
            raise DataError(f"{count} sentences and {len(cells)} pictures, and nothing says which belong together")
        if self.config.published and cell_mask is not None:
            # Every cell of the canvas is seen, black ones too; what fills up smaller grids of a batch is none.
            place = torch.arange(cells.shape[1], device=cells.device)
            cell_mask = place < shapes.to(cells.device).prod(dim=1, keepdim=True)
        grid = self.grid(cells, shapes)
        chosen = self._draw(count, cells.shape[1], cell_mask, picture) if chosen is None else chosen
        seen = _about(grid, picture, chosen)
        everything = torch.ones(seen.shape[:2], dtype=torch.bool, device=seen.device)
        visible = everything if cell_mask is None else _about(cell_mask, picture, chosen)
        mask = torch.cat([token_mask.bool(), visible], dim=1)
        text = self.text(tokens, segments)
        text = text if tied is None else text + tied.looked_up(grid, shapes)
        x = torch.cat([text, self.dropout(seen)], dim=1)
        for block in self.blocks:
            if self.config.checkpointing and torch.is_grad_enabled():
                x = cast(Tensor, checkpoint(block, x, mask[:, None, None], use_reentrant=False))
            else:
                x = block(x, mask[:, None, None])
        pooled = self.pooler(x[:, 0])
        return x, pooled.tanh() if self.config.pooler_tanh else pooled

    def _draw(self, count: int, cells: int, mask: Tensor | None, picture: Tensor | None) -> Tensor | None:
        """Which cells each sentence sees, (B, keep_cells), in no order; None when it sees all. Drawn on the device."""
        keep = self.config.keep_cells
        if keep == 0 or keep >= cells or not (self.training or self.config.published):
            return None
        weights = torch.rand(count, cells, device=self.pooler.weight.device)
        if mask is not None:
            # Real cells first: padding is drawn only where a picture has fewer cells than are kept, and stays masked.
            weights = weights - (~_about(mask, picture, None)).float()
        return weights.topk(keep, dim=1).indices


def _about(pictures: Tensor, picture: Tensor | None, chosen: Tensor | None) -> Tensor:
    """What stands for pictures (P, N, ...) as each sentence sees it: (B, N, ...), or (B, N', ...) of the chosen."""
    if chosen is None:
        return pictures if picture is None else pictures[picture]
    rows = torch.arange(len(chosen), device=chosen.device) if picture is None else picture
    return pictures[rows[:, None], chosen]


@dataclass
class ClipVilPOutput:
    """What body and heads say; a head that was not asked for, or is not there, says None."""

    sequence: Tensor
    """(B, T + N', hidden), text first."""
    pooled: Tensor
    """(B, hidden)"""
    mlm: Tensor | None = None
    """(B, T, words)"""
    itm: Tensor | None = None
    """(B, 2): class 1 says that they belong together."""
    answers: Tensor | None = None
    """(B, answers)"""

    @property
    def logits(self) -> Tensor:
        """(B, answers): what the answer is read from. Raises DataError for a model without such a head."""
        if self.answers is None:
            raise DataError("the model has no answer head")
        return self.answers


class ClipVilPModel(nn.Module):
    """Body and heads. Parameters are called `body.` and `heads.`."""

    def __init__(
        self,
        config: ClipVilPConfig,
        *,
        words: int,
        channels: int,
        answers: int = 0,
        heads: Collection[str] = HEADS,
    ) -> None:
        """`answers` classes; `heads` those to build, of `HEADS`. Raises RecipeError for others."""
        super().__init__()
        self.config = config
        self.body = ClipVilP(config, words, channels)
        if unknown := set(heads) - set(HEADS):
            raise RecipeError(f"CLIP-ViL_p has no head '{min(unknown)}'; it has {', '.join(HEADS)}")
        parts: dict[str, nn.Module] = {}
        if "mlm" in heads:
            parts["mlm"] = WordHead(config, words)
        if "itm" in heads:
            parts["itm"] = MatchingHead(config)
        if "answers" in heads:
            parts["answers"] = AnswerHead(config, answers)
        self.heads = nn.ModuleDict(parts)
        self.heads.apply(partial(initialise, config=config))

    def forward(
        self,
        tokens: Tensor,
        token_mask: Tensor,
        cells: Tensor,
        cell_mask: Tensor | None,
        shapes: Tensor,
        picture: Tensor | None = None,
        *,
        segments: Tensor | None = None,
        chosen: Tensor | None = None,
        tied: TiedTags | None = None,
        heads: Collection[str] | None = None,
    ) -> ClipVilPOutput:
        """See `ClipVilP.forward`. `heads` that are asked (None: all there are)."""
        sequence, pooled = self.body(
            tokens, token_mask, cells, cell_mask, shapes, picture, segments=segments, chosen=chosen, tied=tied
        )
        asked = self.heads if heads is None else [head for head in heads if head in self.heads]
        out = ClipVilPOutput(sequence, pooled)
        if "mlm" in asked:
            out.mlm = self.words_at(sequence[:, : tokens.shape[1]])
        if "itm" in asked:
            out.itm = self.heads["itm"](pooled)
        if "answers" in asked:
            out.answers = self.heads["answers"](pooled)
        return out

    @property
    def sees_padding(self) -> bool:
        """Whether the black cells around a picture are attended to, as published; read by `PictureModel`."""
        return self.config.published

    def distillation_taps(self) -> dict[str, Tap]:
        """Where its states can be matched: the body's last layer, [CLS], word pieces and cells; and its answers."""
        width = self.config.hidden
        return {
            "pooled": Tap("body", width, lambda output, _: output[0][:, 0]),
            "text": Tap("body", width, lambda output, batch: output[0][:, : batch["question"].shape[-1]]),
            "vision": Tap("body", width, lambda output, batch: output[0][:, batch["question"].shape[-1] :]),
            "logits": Tap("", 0, lambda output, _: output.logits),
        }

    def words_at(self, states: Tensor) -> Tensor:
        """Word logits (..., words) for states (..., hidden): of all text places, or of the masked ones alone."""
        return cast(Tensor, self.heads["mlm"](states, self.body.text.words.weight))


def check_request(model: Mapping[str, Any], encoder: EncoderSpec, task: str) -> None:
    """See that a task which trains nothing else is asked for this model, on grids. Raises RecipeError."""
    name = model.get("name", "clip_vil_p")
    if name != "clip_vil_p":
        raise RecipeError(f"unknown model '{name}' for the task {task}; it trains clip_vil_p")
    if encoder.cells != "grid":
        raise RecipeError(f"the model clip_vil_p reads grids, and {encoder.name} has regions; choose another encoder")


def build(
    settings: Mapping[str, Any],
    *,
    words: int,
    channels: int,
    answers: int = 0,
    heads: Collection[str] = HEADS,
) -> ClipVilPModel:
    """A fresh model from a recipe's `model` section; see `clip_vil_p_config.configure_clip_vil_p`."""
    config = configure_clip_vil_p(settings)
    return ClipVilPModel(config, words=words, channels=channels, answers=answers, heads=heads)
