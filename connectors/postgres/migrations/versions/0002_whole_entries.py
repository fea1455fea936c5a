"""Entries say how many legs they have; what claims a taken place is kept aside; the trial balance; fewer rights.

The first migration checked an entry's balance once, at commit or at `SET CONSTRAINTS ... IMMEDIATE`, and took further
legs until the transaction ended: a leg added in between was never checked. Now an entry declares its legs, numbered
from 0, and none may be beyond them: once the check has passed, the entry has no place left for another.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

LEGS = """
ALTER TABLE ledger.entries ADD COLUMN legs smallint;
ALTER TABLE ledger.entries DISABLE TRIGGER ledger_entries_is_append_only;
UPDATE ledger.entries AS e SET legs = (SELECT count(*) FROM ledger.postings AS p WHERE p.entry_id = e.entry_id);
ALTER TABLE ledger.entries ENABLE TRIGGER ledger_entries_is_append_only;
ALTER TABLE ledger.entries ALTER COLUMN legs SET NOT NULL,
    ADD CONSTRAINT an_entry_has_two_sides CHECK (legs BETWEEN 2 AND 1000);
COMMENT ON COLUMN ledger.entries.legs IS 'How many postings it has, numbered from 0; all there when it commits';

CREATE OR REPLACE FUNCTION ledger.require_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
    written bigint;
BEGIN
    SELECT count(*) INTO written FROM ledger.postings WHERE entry_id = NEW.entry_id;
    IF written <> NEW.legs THEN
        RAISE EXCEPTION 'journal entry % has % of its % postings', NEW.entry_id, written, NEW.legs
            USING ERRCODE = 'check_violation';
    END IF;
    SELECT currency, sum(CASE side WHEN 'debit' THEN amount ELSE -amount END) AS difference INTO wrong
      FROM ledger.postings WHERE entry_id = NEW.entry_id
     GROUP BY currency HAVING sum(CASE side WHEN 'debit' THEN amount ELSE -amount END) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'journal entry % is unbalanced by % %', NEW.entry_id, wrong.difference, wrong.currency
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.require_declared_leg() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM added JOIN ledger.entries USING (entry_id) WHERE added.leg >= entries.legs) THEN
        RAISE EXCEPTION 'a journal entry is written whole: no leg beyond those it declares'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER legs_are_declared AFTER INSERT ON ledger.postings
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger.require_declared_leg();
DROP TRIGGER legs_come_with_their_entry ON ledger.postings;
DROP FUNCTION ledger.require_same_transaction();
"""

TRIAL_BALANCE = """
CREATE VIEW ledger.trial_balance AS
SELECT currency, coalesce(split_part(account, ':', 1), 'total') AS accounts,
       sum(debit)::numeric AS debit, sum(credit)::numeric AS credit, sum(balance)::numeric AS balance
  FROM ledger.balances
 GROUP BY currency, ROLLUP (split_part(account, ':', 1));
COMMENT ON VIEW ledger.trial_balance IS
    'By currency and kind of account, with a row "total" whose balance is zero, or the books are wrong';
GRANT SELECT ON ledger.trial_balance TO payments_reader;
"""

CONFLICTS = """
CREATE TABLE payments.conflicts (
    payment_id uuid NOT NULL,
    sequence bigint NOT NULL,
    fact_id uuid NOT NULL,
    record bytea NOT NULL,
    journal_partition integer NOT NULL,
    journal_offset bigint NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payment_id, sequence, fact_id)
);
COMMENT ON TABLE payments.conflicts IS
    'Facts whose place in their payment another fact has. Not in the books. Empty, or a person has to look';
GRANT SELECT, INSERT ON payments.conflicts TO payments_sink;
GRANT SELECT ON payments.conflicts TO payments_reader;
CREATE TRIGGER payments_conflicts_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON payments.conflicts
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse();
"""

CONNECT = """
DO $$ BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO payments_sink, payments_gateway, payments_reader,'
                   ' payments_debezium', current_database());
END $$;
"""


def upgrade() -> None:
    """Add it, to books that may be in use."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    for script in (LEGS, TRIAL_BALANCE, CONFLICTS, CONNECT):
        connection.execute(script)


def downgrade() -> None:
    """Books are not unmade."""
    raise NotImplementedError("there is no way back: entries would lose their number of legs")
