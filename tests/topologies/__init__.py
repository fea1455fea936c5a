"""Tests of the stream stages."""
