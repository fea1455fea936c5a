"""The hash chain from the rows alone: what can be said of the books where the log cannot be read."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from connectors.postgres.verify.rows import Row, Snapshot
from connectors.postgres.verify.words import Difference, name_of
from pipeline.domain.hash_chain import Link, line_origin, origin


def chain_of_rows(books: Snapshot, partition: int) -> Link:
    """The last link of a partition's facts, each link made anew. Raises Difference at the first that does not fit.

    Rows that are gone from the end, and a chain that was made anew from changed rows, only the log shows.
    """
    return _last(books.chain(partition), origin(partition))


def line_chain_of_rows(books: Snapshot, partition: int) -> Link:
    """The last link of a partition's settlement lines, likewise."""
    return _last(books.line_chain(partition), line_origin(partition))


def _last(found: Generator[Row, None, None], link: Link) -> Link:
    with closing(found) as rows:
        for row in rows:
            following = link.next(row.content.encode())
            if (row.position, row.hash) != (following.position, following.hash):
                raise _broken(following, row)
            link = following
    return link


def _broken(expected: Link, row: Row) -> Difference:
    if row.position != expected.position:
        return Difference(f"link {expected.position} of the hash chain", None, f"gone; the next one is {row.position}")
    what = f"{name_of(row.content)}: link {row.position} of the hash chain"
    return Difference(what, None, f"{row.hash.hex()}, which does not fit its row or the link before it")
