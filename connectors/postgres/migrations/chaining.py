"""Sealing what is there already, for migrations that bring the hash chain or change what it covers."""

from __future__ import annotations

from typing import Any, Final

from pipeline.domain.hash_chain import Link, line_origin, origin

# The order in which a replay of the log would write them: at the offset of the last fact that each had to wait for.
_FACTS: Final = """
SELECT payment_id, sequence, journal_partition, content
  FROM (SELECT payment_id, sequence, fact_id,
               max(journal_offset) OVER (PARTITION BY payment_id ORDER BY sequence) AS behind
          FROM payments.facts) AS placed JOIN ledger.journal_content USING (fact_id)
 ORDER BY journal_partition, behind, sequence
"""
_SEAL: Final = "UPDATE payments.facts SET chain_position = %s, chain_hash = %s WHERE payment_id = %s AND sequence = %s"


def chain_everything(connection: Any) -> None:
    """Give every fact its link, over what `ledger.journal_content` says now. For the owner, in a migration."""
    connection.execute("ALTER TABLE payments.facts DISABLE TRIGGER payments_facts_is_append_only")
    heads: dict[int, Link] = {}
    with connection.cursor(name="facts") as rows, connection.cursor() as cursor:
        rows.execute(_FACTS)
        for payment, sequence, partition, content in rows:
            link = heads.get(partition, origin(partition)).next(content.encode())
            heads[partition] = link
            cursor.execute(_SEAL, (link.position, link.hash, payment, sequence))
    connection.execute("ALTER TABLE payments.facts ENABLE TRIGGER payments_facts_is_append_only")


_LINES: Final = """
SELECT cause, journal_partition, content FROM settlement.journal_content ORDER BY journal_partition, journal_offset
"""
_SEAL_LINE: Final = "UPDATE settlement.lines SET chain_position = %s, chain_hash = %s WHERE line_id = %s"
_SEAL_EXPLANATION: Final = (
    "UPDATE settlement.explanations SET chain_position = %s, chain_hash = %s WHERE explanation_id = %s"
)


def chain_lines(connection: Any) -> None:
    """Give every settlement line, and what was learned of it, its link. For the owner, in a migration."""
    for table in ("lines", "explanations"):
        connection.execute(f"ALTER TABLE settlement.{table} DISABLE TRIGGER settlement_{table}_is_append_only")
    heads: dict[int, Link] = {}
    with connection.cursor(name="lines") as rows, connection.cursor() as cursor:
        rows.execute(_LINES)
        for cause, partition, content in rows:
            link = heads[partition] = heads.get(partition, line_origin(partition)).next(content.encode())
            for seal in (_SEAL_LINE, _SEAL_EXPLANATION):  # the id is in one of the two
                cursor.execute(seal, (link.position, link.hash, cause))
    for table in ("lines", "explanations"):
        connection.execute(f"ALTER TABLE settlement.{table} ENABLE TRIGGER settlement_{table}_is_append_only")
