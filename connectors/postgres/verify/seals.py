"""The hash chain from the rows alone: what can be said of the books where the log cannot be read."""

from __future__ import annotations

from contextlib import closing

from connectors.postgres.verify.rows import Row, Snapshot
from connectors.postgres.verify.words import Difference, name_of
from pipeline.domain.hash_chain import Link, origin


def chain_of_rows(books: Snapshot, partition: int) -> Link:
    """The last link of a partition's chain, each link made anew. Raises Difference at the first that does not fit.

    Rows that are gone from the end, and a chain that was made anew from changed rows, only the log shows.
    """
    link = origin(partition)
    with closing(books.chain(partition)) as rows:
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
