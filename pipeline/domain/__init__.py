"""Decisions: state and input in, facts, requests and timers out. No clock, no random, no I/O."""
