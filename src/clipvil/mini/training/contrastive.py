"""`mini/contrastive`: the loss of CLIP (Radford et al. 2021, section 2.3) on noisy picture-text pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipvil.mini.training.architecture import build, encode_picture, encode_texts, normalise, write_weights
from clipvil.mini.training.optimisation import CYCLES, Budget, make_optimiser, schedule
from clipvil.mini.training.pictures import CLOSE_UPS, PairCorpus, cut, draw_pairs

SPLIT = "web"


@dataclass(frozen=True)
class Protocol:
    """What is fixed before training; written into `training.json`."""

    scenes: int = 50_000
    seed: int = 0
    cycles: tuple[Budget, ...] = CYCLES
    max_logit_scale: float = 100.0


def train(protocol: Protocol, scratch: Path, log: Callable[[str], None]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train from scratch; returns the state dict and what was measured (seconds, losses)."""
    began = time.perf_counter()
    corpus = draw_pairs(SPLIT, protocol.seed, protocol.scenes, scratch)
    drawn = time.perf_counter() - began
    log(f"contrastive: drew {protocol.scenes} scenes in {drawn:.0f} s")
    torch.manual_seed(protocol.seed)
    model = build().to(memory_format=torch.channels_last)
    model.train()
    cycles = []
    for number, budget in enumerate(protocol.cycles):
        start = time.perf_counter()
        losses = _cycle(model, corpus, budget, protocol, number, log)
        write_weights(scratch / f"contrastive-{number}", model.state_dict())
        cycles.append(
            {
                "cycle": number,
                "seconds": round(time.perf_counter() - start, 1),
                "final_loss": round(float(np.mean(losses[-50:])), 4),
                "final_loss_close_ups": round(float(np.mean(losses[: budget.close_up_steps][-50:])), 4),
            }
        )
    measured = {
        "protocol": asdict(protocol),
        "pairs": protocol.scenes * (CLOSE_UPS + 1),
        "seconds_drawing": round(drawn, 1),
        "seconds": round(time.perf_counter() - began, 1),
        "cycles": cycles,
    }
    return {name: value.detach() for name, value in model.state_dict().items()}, measured


def _cycle(
    model: nn.Module,
    corpus: PairCorpus,
    budget: Budget,
    protocol: Protocol,
    number: int,
    log: Callable[[str], None],
) -> list[float]:
    """One warm-up and fall of the learning rate; returns the loss of every step."""
    began = time.perf_counter()
    optimiser = make_optimiser(model, budget)
    losses: list[float] = []
    for step, (pictures, tokens) in enumerate(_batches(corpus, budget, protocol.seed + number)):
        schedule(optimiser, budget, step)
        loss = _clip_loss(model, pictures, tokens)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, float(np.log(protocol.max_logit_scale)))  # type: ignore[operator]
        losses.append(loss.item())
        if step % 50 == 49 or step + 1 == budget.steps:
            where = f"cycle {number} step {step + 1}/{budget.steps}"
            log(f"contrastive: {where} loss {np.mean(losses[-50:]):.3f} {time.perf_counter() - began:.0f} s")
    return losses


def _clip_loss(model: nn.Module, pictures: Tensor, tokens: Tensor) -> Tensor:
    """Symmetric cross-entropy over the similarities of a batch, with a learned temperature."""
    _, image = encode_picture(model, normalise(pictures))
    image = F.normalize(image, dim=-1)
    text = F.normalize(encode_texts(model, tokens), dim=-1)
    logits = model.logit_scale.exp() * image @ text.T  # type: ignore[operator]
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _batches(corpus: PairCorpus, budget: Budget, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """First close-ups, which cost a quarter, then whole scenes; each passes over its pairs in shuffled order."""
    rng = np.random.default_rng(seed)
    n = len(corpus.pictures)
    order = _endless(rng, n * CLOSE_UPS)
    for _ in range(budget.close_up_steps):
        picks = next(order)(budget.batch)
        rows, views = picks // CLOSE_UPS, picks % CLOSE_UPS
        pictures = cut(corpus.pictures, rows, corpus.windows[rows, views])
        yield torch.from_numpy(pictures), _tokens(corpus.tokens[rows, views])
    order = _endless(rng, n)
    for _ in range(budget.whole_steps):
        rows = next(order)(budget.batch)
        yield torch.from_numpy(corpus.pictures[np.sort(rows)]), _tokens(corpus.tokens[np.sort(rows), CLOSE_UPS])


def _endless(rng: np.random.Generator, n: int) -> Iterator[Callable[[int], npt.NDArray[np.int64]]]:
    """Hands out the next k of a shuffled order of n, shuffling again at each end."""
    order = rng.permutation(n)
    position = 0

    def take(count: int) -> npt.NDArray[np.int64]:
        nonlocal order, position
        if position + count > n:
            order, position = rng.permutation(n), 0
        position += count
        return order[position - count : position]

    while True:
        yield take


def _tokens(tokens: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(tokens.astype(np.int64))
