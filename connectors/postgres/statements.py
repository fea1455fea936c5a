"""The sink's SQL, in one place."""

from __future__ import annotations

from typing import Final

LOAD_VIEWS: Final = "SELECT payment_id, view::text FROM payments.payments WHERE payment_id = ANY (%s::uuid[])"

LOAD_PARKED: Final = """
SELECT record, journal_partition, journal_offset FROM payments.parked WHERE payment_id = ANY (%s::uuid[])
"""

COUNT_WAITING: Final = "SELECT (SELECT count(*) FROM payments.parked), (SELECT count(*) FROM payments.conflicts)"

FACTS_AT: Final = """
SELECT fact_id FROM payments.facts
  JOIN unnest(%s::uuid[], %s::bigint[]) AS place (payment_id, sequence) USING (payment_id, sequence)
"""

CHAIN_HEAD: Final = """
SELECT chain_position, chain_hash FROM payments.facts WHERE journal_partition = %(partition)s
 ORDER BY chain_position DESC LIMIT 1
"""

# The views go over in binary: as text, each of their quotes would be escaped, in Python.
_PAYMENT_ROWS: Final = """
SELECT v.payment_id, v.merchant_id, v.status, v.amount, v.currency, v.provider, v.capture_method, v.customer_id,
       v.merchant_reference, to_timestamp(v.created_at / 1000.0) AS created_at,
       to_timestamp(v.updated_at / 1000.0) AS updated_at, v.sequence, v.view::jsonb AS view
  FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::bigint[], %s::text[], %s::text[], %s::text[],
              %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %b::text[])
    AS v (payment_id, merchant_id, status, amount, currency, provider, capture_method, customer_id,
          merchant_reference, created_at, updated_at, sequence, view)
"""

UPSERT_PAYMENTS: Final = f"""
INSERT INTO payments.payments (payment_id, merchant_id, status, amount, currency, provider, capture_method, customer_id,
                               merchant_reference, created_at, updated_at, sequence, view)
{_PAYMENT_ROWS}
ON CONFLICT (payment_id) DO UPDATE
   SET merchant_id = excluded.merchant_id, status = excluded.status, amount = excluded.amount,
       currency = excluded.currency, provider = excluded.provider, capture_method = excluded.capture_method,
       customer_id = excluded.customer_id, merchant_reference = excluded.merchant_reference,
       created_at = excluded.created_at, updated_at = excluded.updated_at, sequence = excluded.sequence,
       view = excluded.view
"""  # noqa: S608 - our own text

DIFFERING_PAYMENT: Final = f"""
SELECT to_jsonb(e), to_jsonb(p) FROM ({_PAYMENT_ROWS}) AS e LEFT JOIN payments.payments AS p USING (payment_id)
 WHERE to_jsonb(e) IS DISTINCT FROM to_jsonb(p) LIMIT 1
"""  # noqa: S608 - our own text

_OPERATION_ROWS: Final = """
SELECT v.payment_id, v.operation_id, v.merchant_id, v.kind, v.state, v.reason, v.detail, v.sequence,
       to_timestamp(v.updated_at / 1000.0) AS updated_at
  FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[],
              %s::bigint[])
    AS v (payment_id, operation_id, merchant_id, kind, state, reason, detail, sequence, updated_at)
"""

# What an operation's first fact said stays: pipeline/domain/projection/operations.py, operation_after.
UPSERT_OPERATIONS: Final = f"""
INSERT INTO payments.operations AS o (payment_id, operation_id, merchant_id, kind, state, reason, detail, sequence,
                                      updated_at)
{_OPERATION_ROWS}
ON CONFLICT (payment_id, operation_id) DO UPDATE
   SET kind = CASE o.kind WHEN 'SetMethod' THEN excluded.kind ELSE o.kind END,
       state = excluded.state, reason = excluded.reason, detail = excluded.detail, sequence = excluded.sequence,
       updated_at = excluded.updated_at
"""  # noqa: S608 - our own text

DIFFERING_OPERATION: Final = f"""
SELECT to_jsonb(e), to_jsonb(o) FROM ({_OPERATION_ROWS}) AS e
  LEFT JOIN payments.operations AS o USING (payment_id, operation_id)
 WHERE to_jsonb(e) IS DISTINCT FROM to_jsonb(o) LIMIT 1
"""  # noqa: S608 - our own text

COPY_FACTS: Final = """
COPY payments.facts (payment_id, sequence, fact_id, type, occurred_at, body, journal_partition, journal_offset,
                     chain_position, chain_hash) FROM STDIN
"""

COPY_ENTRIES: Final = """
COPY ledger.entries (entry_id, fact_id, payment_id, merchant_id, occurred_at, description, journal_partition,
                     journal_offset, legs, reverses, reason, operator) FROM STDIN
"""

COPY_POSTINGS: Final = "COPY ledger.postings (entry_id, leg, account, side, amount, currency) FROM STDIN"

SETTLED_CAUSES: Final = """
SELECT line_id FROM settlement.lines WHERE line_id = ANY (%s::uuid[])
 UNION ALL
SELECT explanation_id FROM settlement.explanations WHERE explanation_id = ANY (%s::uuid[])
"""

LINE_COLUMNS: Final = (
    "line_id, provider, account, report_id, line_number, occurred_at, kind, provider_kind, provider_line, payout_id, "
    "payment_id, payment_reference, operation_reference, gross, fee, net, currency, payment_amount, payment_currency, "
    "expected_fee, journal_partition, journal_offset"
)
"""What a line says, and where it stands."""

LINE_CHAIN_HEAD: Final = """
SELECT chain_position, chain_hash FROM (
    (SELECT chain_position, chain_hash FROM settlement.lines
      WHERE journal_partition = %(partition)s ORDER BY chain_position DESC LIMIT 1)
     UNION ALL
    (SELECT chain_position, chain_hash FROM settlement.explanations
      WHERE journal_partition = %(partition)s ORDER BY chain_position DESC LIMIT 1)) AS last
 ORDER BY chain_position DESC LIMIT 1
"""

COPY_LINES: Final = f"COPY settlement.lines ({LINE_COLUMNS}, chain_position, chain_hash) FROM STDIN"

COPY_SETTLED_ENTRIES: Final = """
COPY ledger.entries (entry_id, fact_id, payment_id, occurred_at, description, journal_partition, journal_offset, legs)
FROM STDIN
"""

COPY_EXPLANATIONS: Final = """
COPY settlement.explanations (explanation_id, line_id, payment_id, payout_id, journal_partition, journal_offset,
                              chain_position, chain_hash) FROM STDIN
"""

INSERT_REFERENCES: Final = """
INSERT INTO payments.provider_references (provider, reference, payment_id)
SELECT * FROM unnest(%s::text[], %s::text[], %s::uuid[]) ON CONFLICT DO NOTHING
"""

INSERT_OUTBOX: Final = """
INSERT INTO outbox.events (event_id, topic, payment_id, payload, ce_type, ce_source, ce_time, traceparent)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::bytea[], %s::text[], %s::text[], %s::text[], %s::text[])
"""

EMPTY_OUTBOX: Final = "DELETE FROM outbox.events WHERE event_id = ANY (%s::uuid[])"

PARK: Final = """
INSERT INTO payments.parked (payment_id, sequence, record, journal_partition, journal_offset)
VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""

KEEP_CONFLICT: Final = """
INSERT INTO payments.conflicts (payment_id, sequence, fact_id, record, journal_partition, journal_offset)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""

UNPARK: Final = "DELETE FROM payments.parked WHERE payment_id = %s AND sequence <= %s"

WAKE_WAITERS: Final = "NOTIFY payments_sink"

# The deferred checks, at the end of a batch: inside a larger transaction it is refused as a batch, too.
CHECK_NOW: Final = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED"
