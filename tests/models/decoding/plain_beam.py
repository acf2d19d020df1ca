"""The published beam search written plainly, one picture and one beam at a time: what the fast one is held against."""

from __future__ import annotations

import torch

from clipvil.models.decoding import Decoding
from clipvil.models.decoding.rules import ruled
from clipvil.models.transformer_captioner import Memory, TransformerCaptioner

Aside = list[tuple[float, list[int], list[float]]]


@torch.no_grad()
def plain_beam(model: TransformerCaptioner, memory: Memory, options: Decoding) -> list[list[Aside]]:
    """For each picture and group the best that were put aside: score, words, their log-probabilities."""
    return [_one(model, memory.select(torch.tensor([i])), options) for i in range(len(memory))]


def _one(model: TransformerCaptioner, memory: Memory, options: Decoding) -> list[Aside]:
    width = options.beams // options.groups
    running: list[Aside] = [[(0.0, [], [])] for _ in range(options.groups)]
    aside: list[Aside] = [[] for _ in range(options.groups)]
    for place in range(options.max_length):
        spoken: list[int] = []
        for group in range(options.groups):
            candidates: Aside = []
            for score, words, parts in running[group]:
                log_probs = model.after(memory, torch.tensor([[0, *words]]))
                log_probs = (log_probs / options.temperature).log_softmax(1)
                plain = ruled(log_probs, torch.tensor([words], dtype=torch.int64), options)[0].tolist()
                for word, value in enumerate(plain):
                    lost = options.diversity * spoken.count(word)
                    candidates.append((score + value - lost, [*words, word], [*parts, value]))
            best = sorted(candidates, key=lambda c: -c[0])[:width]
            spoken += [words[-1] for _, words, _ in best]
            running[group] = []
            for score, words, parts in best:
                ends = words[-1] == 0
                if ends or place + 1 == options.max_length:
                    aside[group].append((score / options.divisor(place + 1), words, parts))
                running[group].append((score - 1000 if ends else score, words, parts))
    return [sorted(found, key=lambda c: -c[0])[:width] for found in aside]
