"""No payment takes more out of a hold, or out of its pending refunds, than it put in: docs/decisions/0050.

Checked over what a statement has added, so once for a whole batch. Corrections do not count, on either side.
"""

from __future__ import annotations

from alembic import op

revision = "0051"
down_revision = "0050"

FLOORS = """
CREATE FUNCTION ledger.require_floor() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    SELECT e.payment_id, p.account, p.currency,
           sum(CASE WHEN p.side = touched.side THEN p.amount ELSE -p.amount END) AS too_much INTO wrong
      FROM (SELECT DISTINCT entries.payment_id, added.account, added.currency, added.side
              FROM added JOIN ledger.entries USING (entry_id)
             WHERE entries.reverses IS NULL AND (split_part(added.account, ':', 1), added.side) IN
                   (('holds_receivable', 'credit'), ('holds_commitment', 'debit'), ('refunds_pending', 'debit'))
           ) AS touched
      JOIN ledger.entries AS e ON e.payment_id = touched.payment_id AND e.reverses IS NULL
      JOIN ledger.postings AS p ON p.entry_id = e.entry_id AND p.account = touched.account
                               AND p.currency = touched.currency
     GROUP BY e.payment_id, p.account, p.currency
    HAVING sum(CASE WHEN p.side = touched.side THEN p.amount ELSE -p.amount END) > 0
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'payment % takes % % more out of % than it put in',
            wrong.payment_id, wrong.too_much, wrong.currency, wrong.account USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER nothing_below_its_floor AFTER INSERT ON ledger.postings
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger.require_floor();
"""


def upgrade() -> None:
    """Add it, to books that may be in use: what is there already is not looked at."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(FLOORS)


def downgrade() -> None:
    """Books are not unmade."""
    raise NotImplementedError("there is no way back: nothing would hold the floors")
