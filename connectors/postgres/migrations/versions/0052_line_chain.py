"""Every settlement line, and what was learned of it, has its link in a hash chain: pipeline/domain/hash_chain.py.

One chain a partition, as for the facts. `settlement.journal_content` says what a link covers, from the rows alone.
"""

from __future__ import annotations

from alembic import op

from connectors.postgres.migrations.chaining import chain_lines

revision = "0052"
down_revision = "0051"

COLUMNS = """
ALTER TABLE settlement.lines ADD COLUMN chain_position bigint, ADD COLUMN chain_hash bytea;
ALTER TABLE settlement.explanations ADD COLUMN chain_position bigint, ADD COLUMN chain_hash bytea;
"""


def _json(*columns: str) -> str:
    """Columns as the members of a JSON array without spaces."""
    return ", ".join(f"coalesce(to_json({column})::text, 'null')" for column in columns)


LINE = _json(
    "l.line_id", "l.provider", "l.account", "l.report_id", "l.line_number",
    "(extract(epoch FROM l.occurred_at) * 1000000)::bigint", "l.kind", "l.provider_kind", "l.provider_line",
    "l.payout_id", "l.payment_id", "l.payment_reference", "l.operation_reference", "l.gross", "l.fee", "l.net",
    "l.currency", "l.payment_amount", "l.payment_currency", "l.expected_fee",
)  # fmt: skip
EXPLANATION = _json("x.explanation_id", "x.line_id", "x.payment_id", "x.payout_id")
ENTRY = f"""(CASE WHEN e.entry_id IS NULL THEN 'null' ELSE format('[%s]', concat_ws(',',
           {_json("e.entry_id", "e.payment_id", "(extract(epoch FROM e.occurred_at) * 1000000)::bigint",
                  "e.description", "e.legs")},
           (SELECT format('[%s]', string_agg(format('[%s,%s,%s,%s]', to_json(p.account), to_json(p.side), p.amount,
                                                    to_json(p.currency)), ',' ORDER BY p.leg))
              FROM ledger.postings AS p WHERE p.entry_id = e.entry_id))) END)"""  # fmt: skip # noqa: S608

CONTENT = f"""
CREATE VIEW settlement.journal_content AS
SELECT l.journal_partition, l.journal_offset, l.chain_position, l.chain_hash, l.line_id AS cause,
       format('[%s]', concat_ws(',', l.journal_partition, l.journal_offset, '"line"', {LINE}, {ENTRY})) AS content
  FROM settlement.lines AS l LEFT JOIN ledger.entries AS e ON e.fact_id = l.line_id
 UNION ALL
SELECT x.journal_partition, x.journal_offset, x.chain_position, x.chain_hash, x.explanation_id AS cause,
       format('[%s]', concat_ws(',', x.journal_partition, x.journal_offset, '"explanation"', {EXPLANATION},
                                {ENTRY})) AS content
  FROM settlement.explanations AS x LEFT JOIN ledger.entries AS e ON e.fact_id = x.explanation_id;
COMMENT ON VIEW settlement.journal_content IS
    'What each link of the lines'' hash chain covers, as the rows have it: SHA-256(the link before || content)';
GRANT SELECT ON settlement.journal_content TO payments_reader;
"""  # noqa: S608 - our own text

COMPLETE = """
ALTER TABLE settlement.lines ALTER COLUMN chain_position SET NOT NULL, ALTER COLUMN chain_hash SET NOT NULL,
    ADD CONSTRAINT a_link_is_a_sha256 CHECK (chain_position > 0 AND length(chain_hash) = 32);
ALTER TABLE settlement.explanations ALTER COLUMN chain_position SET NOT NULL, ALTER COLUMN chain_hash SET NOT NULL,
    ADD CONSTRAINT a_link_is_a_sha256 CHECK (chain_position > 0 AND length(chain_hash) = 32);
CREATE UNIQUE INDEX lines_in_chain ON settlement.lines (journal_partition, chain_position);
CREATE UNIQUE INDEX explanations_in_chain ON settlement.explanations (journal_partition, chain_position);
COMMENT ON COLUMN settlement.lines.chain_hash IS 'SHA-256 over this record and the link before it';
COMMENT ON COLUMN settlement.explanations.chain_hash IS 'SHA-256 over this record and the link before it';
"""


def upgrade() -> None:
    """Add the chain, to books that may be in use."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(COLUMNS)
    connection.execute(CONTENT)
    chain_lines(connection)
    connection.execute(COMPLETE)


def downgrade() -> None:
    """Books are not unmade."""
    raise NotImplementedError("there is no way back: the links would be lost")
