"""An entry says whose payment it is of; a reversing entry says what it reverses, why, and who asked for it.

Postgres holds for itself that an entry is reversed once, by its exact opposite, and that no reversal is reversed. The
hash chain covers the new columns.
"""

from __future__ import annotations

from alembic import op

from connectors.postgres.migrations.chaining import chain_everything

revision = "0011"
down_revision = "0010"

COLUMNS = """
ALTER TABLE ledger.entries ADD COLUMN merchant_id text, ADD COLUMN reverses uuid UNIQUE REFERENCES ledger.entries,
    ADD COLUMN reason text, ADD COLUMN operator text,
    ADD CONSTRAINT a_reversal_says_why_and_who CHECK (num_nonnulls(reverses, reason, operator) IN (0, 3));
ALTER TABLE ledger.entries DISABLE TRIGGER ledger_entries_is_append_only;
UPDATE ledger.entries AS e SET merchant_id = p.merchant_id FROM payments.payments AS p
 WHERE p.payment_id = e.payment_id;
ALTER TABLE ledger.entries ENABLE TRIGGER ledger_entries_is_append_only;
ALTER TABLE ledger.entries ALTER COLUMN merchant_id SET NOT NULL;
CREATE INDEX entries_of_merchant ON ledger.entries (merchant_id, occurred_at DESC, entry_id DESC);
"""

GUARD = """
CREATE FUNCTION ledger.require_opposite() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM ledger.entries AS e WHERE e.entry_id = NEW.reverses
                AND (e.reverses IS NOT NULL OR e.payment_id <> NEW.payment_id)) THEN
        RAISE EXCEPTION 'journal entry % reverses a reversal, or an entry of another payment', NEW.entry_id
            USING ERRCODE = 'check_violation';
    END IF;
    IF EXISTS (SELECT FROM (SELECT leg, account, side, amount, currency FROM ledger.postings
                             WHERE entry_id = NEW.entry_id) AS ours
                 FULL JOIN (SELECT leg, account, CASE side WHEN 'debit' THEN 'credit' ELSE 'debit' END AS side,
                                   amount, currency FROM ledger.postings WHERE entry_id = NEW.reverses) AS theirs
                USING (leg, account, side, amount, currency)
                WHERE ours.leg IS NULL OR theirs.leg IS NULL) THEN
        RAISE EXCEPTION 'journal entry % is not the opposite of the entry that it reverses', NEW.entry_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER a_reversal_is_the_opposite AFTER INSERT ON ledger.entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.reverses IS NOT NULL)
    EXECUTE FUNCTION ledger.require_opposite();
"""

CONTENT = """
CREATE OR REPLACE VIEW ledger.journal_content AS
SELECT f.journal_partition, f.chain_position, f.chain_hash, f.fact_id,
       format('[%s,%s,"%s",%s,"%s",%s,%s,"%s",%s]',
              f.journal_partition, f.journal_offset, f.payment_id, f.sequence, f.fact_id, to_json(f.type),
              (extract(epoch FROM f.occurred_at) * 1000000)::bigint, encode(sha256(f.body), 'hex'),
              CASE WHEN e.entry_id IS NULL THEN 'null' ELSE
              format('["%s","%s",%s,%s,%s,%s,%s,%s,[%s],%s,%s,%s]',
                     e.entry_id, e.payment_id, to_json(e.merchant_id),
                     (extract(epoch FROM e.occurred_at) * 1000000)::bigint, to_json(e.description),
                     e.journal_partition, e.journal_offset, e.legs,
                     (SELECT string_agg(format('[%s,%s,%s,%s]', to_json(p.account), to_json(p.side), p.amount,
                                               to_json(p.currency)), ',' ORDER BY p.leg)
                        FROM ledger.postings AS p WHERE p.entry_id = e.entry_id),
                     coalesce(to_json(e.reverses)::text, 'null'), coalesce(to_json(e.reason)::text, 'null'),
                     coalesce(to_json(e.operator)::text, 'null')) END) AS content
  FROM payments.facts AS f LEFT JOIN ledger.entries AS e USING (fact_id);
"""


def upgrade() -> None:
    """Add it, to books that may be in use."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    for script in (COLUMNS, GUARD, CONTENT):
        connection.execute(script)
    chain_everything(connection)


def downgrade() -> None:
    """Books are not unmade."""
    raise NotImplementedError("there is no way back: reasons and operators would be lost")
