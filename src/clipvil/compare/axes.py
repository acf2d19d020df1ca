"""Geometry that every plot needs: scales, round ticks, labels that do not cover each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Maps `low..high` to `start..end` in SVG units; `log` on a logarithmic axis (both bounds above zero)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Position of a value; a value outside the domain stays outside the range."""
        if self.log:
            span = math.log(self.high) - math.log(self.low)
            share = (math.log(max(value, 1e-300)) - math.log(self.low)) / span
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values inside the domain, about as many as wanted."""
        return _log_ticks(self.low, self.high, wanted) if self.log else _ticks(self.low, self.high, wanted)


def padded(values: Sequence[float], *, share: float = 0.06, floor: float = 1.0) -> tuple[float, float]:
    """A domain around values with some air; never narrower than `floor`, so that equal values do not divide by zero."""
    low, high = min(values), max(values)
    air = max((high - low) * share, floor / 2 if high - low < floor else 0.0)
    return low - air, high + air


def log_padded(values: Sequence[float]) -> tuple[float, float]:
    """A domain around positive values on a logarithmic axis, at least a factor of four wide."""
    low, high = min(values), max(values)
    factor = max((high / low) ** 0.08, 1.15)
    if high / low < 4:
        factor = max(factor, 2 / math.sqrt(high / low))
    return low / factor, high * factor


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move label positions apart to at least `gap`, keeping their order, as little as needed, within `low..high`.

    Neighbours that collide form a block whose middle stays as near as the borders allow to the mean of what its members
    wanted. Labels that do not fit at all run over the high border.
    """

    def top(block: Sequence[int]) -> float:
        height = gap * (len(block) - 1)
        return max(min(sum(wanted[i] for i in block) / len(block) - height / 2, high - height), low)

    blocks: list[list[int]] = []
    for index in sorted(range(len(wanted)), key=lambda i: wanted[i]):
        block = [index]
        while blocks and top(blocks[-1]) + gap * len(blocks[-1]) > top(block):
            block = blocks.pop() + block
        blocks.append(block)
    out = [0.0] * len(wanted)
    for block in blocks:
        for rank, index in enumerate(block):
            out[index] = top(block) + rank * gap
    return out


def tick_label(value: float) -> str:
    """A tick as short as it can be said: 0.5, 20, 1,000, 50 k, 2 M."""
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= max(limit, 1e4):
            return f"{value / limit:.6g}{suffix}"
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}").replace("-", "\u2212")


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    raw = (high - low) / max(wanted, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = min((s * magnitude for s in (1, 2, 5, 10)), key=lambda s: abs((high - low) / s - wanted))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float, wanted: int) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [m * 10.0**e for e in exponents for m in steps if low <= m * 10.0**e <= high]
        if len(ticks) >= min(wanted, 3):
            return ticks
    return ticks
