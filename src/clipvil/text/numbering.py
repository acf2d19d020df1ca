"""Strings as numbers."""

from __future__ import annotations


class Numbering(dict[str, int]):
    """Numbers strings from 0 in order of first appearance: looking one up gives it its number."""

    def __missing__(self, text: str) -> int:
        self[text] = number = len(self)
        return number
