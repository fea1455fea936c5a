"""The provider simulator: a process of its own that a provider's official SDK talks to unchanged.

It keeps in memory what it really charged, captured and refunded, for tests to compare with our books. It is never
killed by the fault tests: those kill our own processes.
"""
