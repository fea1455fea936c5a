"""A correction counts as what it corrects.

The first view named every entry by its own description, so the reversal of a capture stood beside the capture as a
kind of its own: two differences where the books had none.
"""

from alembic import op

revision = "0050"
down_revision = "0040"

BOOKED = """
CREATE OR REPLACE VIEW settlement.booked AS
SELECT split_part(p.account, ':', 2) AS provider, e.payment_id,
       CASE coalesce(r.description, e.description)
            WHEN 'PaymentCaptured' THEN 'charge'
            WHEN 'AuthorizationOrphaned' THEN 'charge'
            WHEN 'PaymentRefunded' THEN 'refund'
            WHEN 'RefundFailed' THEN 'refund'
            WHEN 'OrphanReturned' THEN 'refund'
            WHEN 'OrphanReturnFailed' THEN 'refund'
            WHEN 'DisputeFundsWithdrawn' THEN 'dispute'
            WHEN 'DisputeFundsReinstated' THEN 'dispute'
            ELSE coalesce(r.description, e.description) END AS kind,
       p.currency, CASE p.side WHEN 'debit' THEN p.amount ELSE -p.amount END AS amount, e.occurred_at, e.entry_id
  FROM ledger.postings AS p JOIN ledger.entries AS e USING (entry_id)
  LEFT JOIN ledger.entries AS r ON r.entry_id = e.reverses
 WHERE p.account LIKE 'provider\\_receivable:%'
   AND NOT EXISTS (SELECT FROM settlement.lines AS l WHERE l.line_id = e.fact_id)
   AND NOT EXISTS (SELECT FROM settlement.explanations AS x WHERE x.explanation_id = e.fact_id);
COMMENT ON VIEW settlement.booked IS
    'What the facts say that the provider owes us, or took from us; a correction counts as what it corrects';
"""


def upgrade() -> None:
    """Replace the view, over books that may be in use."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(BOOKED)


def downgrade() -> None:
    """Books are not unmade."""
    raise NotImplementedError("there is no way back: corrections would be differences again")
