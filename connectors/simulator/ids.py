"""Identifiers as providers make them: a prefix and letters, never two alike, not even across restarts."""

from __future__ import annotations

import random
import string
from itertools import count
from typing import Final

_LETTERS: Final = string.ascii_letters
_RUN: Final = 14


class Ids:
    """Ids of one run. With a seed, the same run has the same ids. Digits stay short of a card number's length."""

    def __init__(self, seed: int | None = None) -> None:
        self._run = "".join(random.Random(seed).choices(_LETTERS, k=_RUN))
        self._numbers = count(1)

    def new(self, prefix: str) -> str:
        """`prefix`_3 and 23 characters, as of Stripe's objects."""
        return f"{prefix}_3{self._run}{next(self._numbers):09d}"

    def request(self) -> str:
        """A request's id."""
        return f"req_{self._run[:6]}{next(self._numbers):08d}"
