"""Postgres: the tables and their guards, the sink that fills them, and the reconciler that finds what is missing."""
