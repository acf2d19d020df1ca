"""Beam search as published, for all pictures and groups of a batch at once.

What the published search does, and so does this one: a beam that says the end (word 0) is put aside and yet goes on
with 1000 taken off its score, so that it hardly ever is among the best again; at the last place every beam is put
aside; of those put aside the best by score (divided by the length penalty) are returned. In diverse beam search
(Vijayakumar et al. 2016, with the Hamming diversity) the groups take turns at every place, and a word costs a group
`diversity` for each beam of the groups before that says it there.

What is ours: a picture leaves the batch as soon as no running beam can still change what is returned. A beam's score
only falls, and no penalty divides by more than that of the greatest length, so this is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from clipvil.models.decoding.options import Decoding
from clipvil.models.decoding.rules import ruled
from clipvil.models.decoding.steps import Steps

_ENDED = 1000.0


@dataclass
class Beams:
    """Captions of P pictures in G groups of W, best first in each group once they are put aside."""

    scores: Tensor
    """(P, G, W)"""
    rows: Tensor
    """(P, G, W, T) int64"""
    log_probs: Tensor
    """(P, G, W, T): of each token, without what diversity takes off."""

    def __getitem__(self, pictures: Tensor) -> Beams:
        """The pictures (P',) int64."""
        return Beams(self.scores[pictures], self.rows[pictures], self.log_probs[pictures])

    def __setitem__(self, pictures: Tensor, value: Beams) -> None:
        """Replace the pictures (P',) int64."""
        self.scores[pictures], self.rows[pictures] = value.scores, value.rows
        self.log_probs[pictures] = value.log_probs

    def best(self, other: Beams) -> Beams:
        """Of both together the W best of each group; of equals those that were there before."""
        width = self.scores.shape[2]
        scores, place = torch.cat([self.scores, other.scores], 2).sort(dim=2, descending=True, stable=True)
        place = place[:, :, :width, None].expand(-1, -1, -1, self.rows.shape[3])
        rows = torch.cat([self.rows, other.rows], 2).gather(2, place)
        return Beams(scores[:, :, :width], rows, torch.cat([self.log_probs, other.log_probs], 2).gather(2, place))


def beam_search(steps: Steps, pictures: int, options: Decoding, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (B, K, T) int64, log-probabilities (B, K, T) of their tokens and scores (B, K).

    Best first; with groups, the first group's beams best first, then the second's. A vocabulary too small for K
    captions leaves the last of them empty, with the score minus infinity.
    """
    length = options.max_length
    found, live = _nothing(pictures, options, device), torch.arange(pictures, device=device)
    running, aside = found[live], found[live]
    running.scores.zero_()
    tokens = torch.zeros(pictures, dtype=torch.int64, device=device)
    for place in range(length):
        log_probs = steps.step(tokens)
        running, parents = _advance(running, log_probs.view(len(live), -1, log_probs.shape[1]), place, options)
        last = place + 1 == length
        ended = running.rows[..., place] == 0
        if last or bool(ended.any()):
            reached = running.scores / options.divisor(place + 1)
            reached = reached if last else reached.masked_fill(~ended, -math.inf)
            aside = aside.best(Beams(reached, running.rows, running.log_probs))
            running.scores = running.scores - ended * _ENDED
        open_ = _open(running, aside, options)
        if last or not bool(open_.all()):
            found[live] = aside
            going = open_.nonzero().squeeze(1)
            if last or len(going) == 0:
                break
            live, aside, running, parents = live[going], aside[going], running[going], parents[going]
            steps.keep(going)
        before = 1 if place == 0 else options.beams
        steps.select((parents + before * torch.arange(len(live), device=device).unsqueeze(1)).flatten())
        tokens = running.rows[..., place].flatten()
    return _tidied(found)


def _nothing(pictures: int, options: Decoding, device: torch.device) -> Beams:
    shape = (pictures, options.groups, options.beams // options.groups)
    rows = torch.zeros(*shape, options.max_length, dtype=torch.int64, device=device)
    return Beams(torch.full(shape, -math.inf, device=device), rows, torch.zeros(rows.shape, device=device))


def _open(running: Beams, aside: Beams, options: Decoding) -> Tensor:
    """(P,) bool: pictures of which a running beam may still come among those that are returned."""
    # Scores are at most 0 and only fall, so they are worth most when divided by the most.
    hope = running.scores.amax(2) / options.divisor(options.max_length)
    return (aside.scores[:, :, -1] < hope).any(1)


def _advance(running: Beams, log_probs: Tensor, place: int, options: Decoding) -> tuple[Beams, Tensor]:
    """The beams one word longer, and which of its picture's captions each came from, (P, K).

    `log_probs` (P, 1 or K, V) of the next word; at the first place all beams of a picture are the same caption.
    """
    pictures, _, classes = log_probs.shape
    groups, width = running.scores.shape[1:]
    each = 1 if place == 0 else width
    log_probs = log_probs if options.temperature == 1 else (log_probs / options.temperature).log_softmax(2)
    said = running.rows[:, :, :each, :place].flatten(0, 2)
    plain = ruled(log_probs.expand(-1, groups * each, -1).reshape(-1, classes), said, options)
    plain = plain.view(pictures, groups, each * classes)
    scores, chosen, words, parents = [], [], [], []
    spoken = torch.zeros(pictures, 1, classes, device=log_probs.device)
    for group in range(groups):
        score = running.scores[:, group, :each, None] + plain[:, group].view(pictures, each, classes)
        if group:
            score = score - options.diversity * spoken
        top, index = _largest(score.flatten(1), width)
        scores.append(top)
        chosen.append(plain[:, group].gather(1, index))
        words.append(index % classes)
        parents.append(index // classes)
        if groups > 1:
            spoken.scatter_add_(2, words[-1].unsqueeze(1), torch.ones_like(top).unsqueeze(1))
    parent = torch.stack(parents, 1)
    behind = parent.unsqueeze(3).expand(-1, -1, -1, running.rows.shape[3])
    rows, kept = running.rows.gather(2, behind), running.log_probs.gather(2, behind)
    rows[..., place], kept[..., place] = torch.stack(words, 1), torch.stack(chosen, 1)
    first = 0 if place == 0 else width * torch.arange(groups, device=parent.device).unsqueeze(1)
    return Beams(torch.stack(scores, 1), rows, kept), (parent + first).flatten(1)


def _largest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row (P, n) and their places; where n < count the rest are minus infinity."""
    top, index = scores.topk(min(count, scores.shape[1]), dim=1)
    lacking = count - top.shape[1]
    return functional.pad(top, (0, lacking), value=-math.inf), functional.pad(index, (0, lacking))


def _tidied(found: Beams) -> tuple[Tensor, Tensor, Tensor]:
    """Groups in a row, and nothing behind an end: a beam that went on after its end can be among the best of few."""
    rows, log_probs = found.rows.flatten(1, 2), found.log_probs.flatten(1, 2)
    scores = found.scores.flatten(1)
    behind = (rows == 0).cumsum(2) - (rows == 0).long() > 0
    nothing = behind | torch.isinf(scores).unsqueeze(2)
    return rows.masked_fill(nothing, 0), log_probs.masked_fill(nothing, 0.0), scores
