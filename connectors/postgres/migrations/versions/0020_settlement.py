"""What the providers' reports say, beside what the payments' facts say, and where the two differ.

An entry may belong to no payment (a payout, a fee of the account), so its payment and merchant are no longer required.
"""

from alembic import op

revision = "0020"
down_revision = "0012"

LINES = """
CREATE SCHEMA settlement;
ALTER TABLE ledger.entries ALTER COLUMN payment_id DROP NOT NULL, ALTER COLUMN merchant_id DROP NOT NULL;

CREATE TABLE settlement.lines (
    line_id uuid PRIMARY KEY,
    provider text NOT NULL,
    account text,
    report_id uuid NOT NULL,
    line_number bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    kind text NOT NULL,
    provider_kind text NOT NULL,
    provider_line text NOT NULL,
    payout_id text,
    payment_id uuid,
    payment_reference text,
    operation_reference text,
    gross bigint NOT NULL,
    fee bigint NOT NULL,
    net bigint NOT NULL CHECK (net = gross - fee),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    payment_amount bigint,
    payment_currency text CHECK (payment_currency ~ '^[A-Z]{3}$'),
    expected_fee bigint,
    journal_partition integer NOT NULL,
    journal_offset bigint NOT NULL,
    CHECK ((payment_amount IS NULL) = (payment_currency IS NULL))
);
CREATE INDEX lines_of_payment ON settlement.lines (payment_id) WHERE payment_id IS NOT NULL;
CREATE INDEX lines_of_payout ON settlement.lines (payout_id) WHERE payout_id IS NOT NULL;
CREATE INDEX lines_by_time ON settlement.lines (provider, occurred_at);
COMMENT ON TABLE settlement.lines IS 'Each line of a provider''s report, once, as it first came';

CREATE TABLE settlement.explanations (
    explanation_id uuid PRIMARY KEY,
    line_id uuid NOT NULL REFERENCES settlement.lines,
    payment_id uuid,
    payout_id text,
    journal_partition integer NOT NULL,
    journal_offset bigint NOT NULL
);
CREATE INDEX explanations_of_line ON settlement.explanations (line_id);
COMMENT ON TABLE settlement.explanations IS 'What was learned of a line after it was posted';

CREATE TABLE payments.provider_references (
    provider text NOT NULL,
    reference text NOT NULL,
    payment_id uuid NOT NULL,
    PRIMARY KEY (provider, reference)
);
COMMENT ON TABLE payments.provider_references IS
    'The provider''s names of a payment, its captures and refunds: for report lines that do not carry ours';
"""

VIEWS = """
CREATE VIEW settlement.reported AS
SELECT l.line_id, l.provider, l.account, l.report_id, l.line_number, l.occurred_at, l.kind, l.provider_kind,
       l.provider_line, coalesce(l.payout_id, x.payout_id) AS payout_id,
       coalesce(l.payment_id, x.payment_id) AS payment_id, l.payment_reference, l.operation_reference,
       l.gross, l.fee, l.net, l.currency, l.expected_fee,
       CASE WHEN l.payment_amount IS NOT NULL THEN l.payment_amount
            WHEN l.kind IN ('dispute', 'dispute_reversed') THEN l.net
            ELSE l.gross END AS claimed,
       coalesce(l.payment_currency, l.currency) AS claimed_currency
  FROM settlement.lines AS l
  LEFT JOIN (SELECT line_id, max(payment_id::text)::uuid AS payment_id, max(payout_id) AS payout_id
               FROM settlement.explanations GROUP BY line_id) AS x USING (line_id);
COMMENT ON VIEW settlement.reported IS
    'Each line with all that is known of it; claimed: what it confirms of what the facts booked';

CREATE VIEW settlement.booked AS
SELECT split_part(p.account, ':', 2) AS provider, e.payment_id,
       CASE e.description WHEN 'PaymentCaptured' THEN 'charge'
                          WHEN 'AuthorizationOrphaned' THEN 'charge'
                          WHEN 'PaymentRefunded' THEN 'refund'
                          WHEN 'RefundFailed' THEN 'refund'
                          WHEN 'OrphanReturned' THEN 'refund'
                          WHEN 'OrphanReturnFailed' THEN 'refund'
                          WHEN 'DisputeFundsWithdrawn' THEN 'dispute'
                          WHEN 'DisputeFundsReinstated' THEN 'dispute'
                          ELSE e.description END AS kind,
       p.currency, CASE p.side WHEN 'debit' THEN p.amount ELSE -p.amount END AS amount, e.occurred_at, e.entry_id
  FROM ledger.postings AS p JOIN ledger.entries AS e USING (entry_id)
 WHERE p.account LIKE 'provider\\_receivable:%'
   AND NOT EXISTS (SELECT FROM settlement.lines AS l WHERE l.line_id = e.fact_id)
   AND NOT EXISTS (SELECT FROM settlement.explanations AS x WHERE x.explanation_id = e.fact_id);
COMMENT ON VIEW settlement.booked IS 'What the facts say that the provider owes us, or took from us';

CREATE VIEW settlement.comparisons AS
SELECT provider, payment_id, kind, currency, booked, reported, fee, expected_fee, lines,
       CASE WHEN booked <> reported AND lines = 0 THEN 'missing_there'
            WHEN booked <> reported AND entries = 0 THEN 'missing_here'
            WHEN booked <> reported THEN 'different_amount'
            WHEN fee <> expected_fee THEN 'different_fee'
            ELSE 'matched' END AS verdict,
       booked_at, first_reported_at, reported_at, line_id, reference
  FROM (SELECT provider, payment_id, kind, currency,
               count(*) FILTER (WHERE line_id IS NULL) AS entries,
               count(line_id) AS lines,
               coalesce(sum(amount) FILTER (WHERE line_id IS NULL), 0)::bigint AS booked,
               coalesce(sum(amount) FILTER (WHERE line_id IS NOT NULL), 0)::bigint AS reported,
               coalesce(sum(fee), 0)::bigint AS fee,
               CASE WHEN count(expected_fee) = count(line_id) THEN sum(expected_fee)::bigint END AS expected_fee,
               max(occurred_at) FILTER (WHERE line_id IS NULL) AS booked_at,
               min(occurred_at) FILTER (WHERE line_id IS NOT NULL) AS first_reported_at,
               max(occurred_at) FILTER (WHERE line_id IS NOT NULL) AS reported_at,
               min(line_id::text)::uuid AS line_id, min(reference) AS reference
          FROM (SELECT provider, payment_id, NULL::uuid AS stray, kind, currency, amount, NULL::uuid AS line_id,
                       NULL::bigint AS fee, NULL::bigint AS expected_fee, occurred_at, NULL AS reference
                  FROM settlement.booked
                 UNION ALL
                SELECT provider, payment_id, CASE WHEN payment_id IS NULL THEN line_id END,
                       CASE kind WHEN 'refund_failed' THEN 'refund' WHEN 'dispute_reversed' THEN 'dispute'
                                 ELSE kind END, claimed_currency,
                       claimed, line_id, fee, expected_fee, occurred_at,
                       coalesce(operation_reference, payment_reference, provider_line)
                  FROM settlement.reported
                 WHERE kind IN ('charge', 'refund', 'refund_failed', 'dispute', 'dispute_reversed', 'adjustment')
               ) AS both_sides
         GROUP BY provider, payment_id, stray, kind, currency) AS summed;
COMMENT ON VIEW settlement.comparisons IS
    'What we booked and what the provider reported, by payment and kind (a line that names no payment by itself), and '
    'the verdict: matched, missing_here, missing_there (yet), different_amount, different_fee';

CREATE VIEW settlement.differences AS SELECT * FROM settlement.comparisons WHERE verdict <> 'matched';
COMMENT ON VIEW settlement.differences IS 'What payments reconcile names, at any time';

CREATE VIEW settlement.payouts AS
SELECT provider, payout_id, currency,
       count(*) FILTER (WHERE kind NOT IN ('payout', 'payout_arrived', 'payout_failed')) AS lines,
       coalesce(sum(net) FILTER (WHERE kind NOT IN ('payout', 'payout_arrived', 'payout_failed')), 0)::bigint AS earned,
       coalesce(-sum(net) FILTER (WHERE kind = 'payout'), 0)::bigint AS paid_out,
       coalesce(sum(gross) FILTER (WHERE kind = 'payout_arrived'), 0)::bigint AS arrived,
       coalesce(sum(gross) FILTER (WHERE kind = 'payout_failed'), 0)::bigint AS failed,
       min(occurred_at) AS first_at, max(occurred_at) AS last_at
  FROM settlement.reported WHERE payout_id IS NOT NULL
 GROUP BY provider, payout_id, currency;
COMMENT ON VIEW settlement.payouts IS
    'Each payout with what its lines earned: the two are equal when the provider paid out what it says it owed';
"""

APPEND_ONLY = ("settlement.lines", "settlement.explanations")

GRANTS = """
GRANT USAGE ON SCHEMA settlement TO payments_sink, payments_reader;
GRANT SELECT, INSERT ON settlement.lines, settlement.explanations, payments.provider_references TO payments_sink;
GRANT SELECT ON ALL TABLES IN SCHEMA settlement TO payments_reader;
GRANT SELECT ON payments.provider_references TO payments_reader;
"""


def upgrade() -> None:
    """Add it, to books that may be in use."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    for script in (LINES, VIEWS, *map(_guard, APPEND_ONLY), GRANTS):
        connection.execute(script)


def _guard(table: str) -> str:
    return (
        f"CREATE TRIGGER {table.replace('.', '_')}_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse()"
    )


def downgrade() -> None:
    """Books are not unmade."""
    raise NotImplementedError("the books are append-only: there is no way back")
