"""Every fact has its link in the hash chain over the journal: pipeline/domain/hash_chain.py.

The chain is kept with the facts, not in a table of its own: the sink writes one row more of nothing, and a row that
is gone leaves a gap. `ledger.journal_content` says what a link covers, from the rows alone.
"""

from __future__ import annotations

from alembic import op

from connectors.postgres.migrations.chaining import chain_everything

revision = "0010"
down_revision = "0003"

COLUMNS = """
ALTER TABLE payments.facts ADD COLUMN chain_position bigint, ADD COLUMN chain_hash bytea;
"""

CONTENT = """
CREATE VIEW ledger.journal_content AS
SELECT f.journal_partition, f.chain_position, f.chain_hash, f.fact_id,
       format('[%s,%s,"%s",%s,"%s",%s,%s,"%s",%s]',
              f.journal_partition, f.journal_offset, f.payment_id, f.sequence, f.fact_id, to_json(f.type),
              (extract(epoch FROM f.occurred_at) * 1000000)::bigint, encode(sha256(f.body), 'hex'),
              CASE WHEN e.entry_id IS NULL THEN 'null' ELSE
              format('["%s","%s",%s,%s,%s,%s,%s,[%s]]',
                     e.entry_id, e.payment_id, (extract(epoch FROM e.occurred_at) * 1000000)::bigint,
                     to_json(e.description), e.journal_partition, e.journal_offset, e.legs,
                     (SELECT string_agg(format('[%s,%s,%s,%s]', to_json(p.account), to_json(p.side), p.amount,
                                               to_json(p.currency)), ',' ORDER BY p.leg)
                        FROM ledger.postings AS p WHERE p.entry_id = e.entry_id)) END) AS content
  FROM payments.facts AS f LEFT JOIN ledger.entries AS e USING (fact_id);
COMMENT ON VIEW ledger.journal_content IS
    'What each link of the hash chain covers, as the rows have it: a link is SHA-256(the link before || content)';
GRANT SELECT ON ledger.journal_content TO payments_reader;
"""

COMPLETE = """
ALTER TABLE payments.facts ALTER COLUMN chain_position SET NOT NULL, ALTER COLUMN chain_hash SET NOT NULL,
    ADD CONSTRAINT a_link_is_a_sha256 CHECK (chain_position > 0 AND length(chain_hash) = 32);
CREATE UNIQUE INDEX facts_in_chain ON payments.facts (journal_partition, chain_position);
COMMENT ON COLUMN payments.facts.chain_hash IS 'SHA-256 over this record and the link before it';
"""


def upgrade() -> None:
    """Add the chain, to books that may be in use."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(COLUMNS)
    connection.execute(CONTENT)
    chain_everything(connection)
    connection.execute(COMPLETE)


def downgrade() -> None:
    """Books are not unmade."""
    raise NotImplementedError("there is no way back: the links would be lost")
