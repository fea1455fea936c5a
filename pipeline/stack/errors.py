"""What can go wrong with the local stack, in words for the person in front of it."""

from __future__ import annotations


class StackError(RuntimeError):
    """The stack cannot do what was asked. The message says what is wrong and what to do about it."""
