"""The books, the projections, the outbox, the sink's offsets and the gateway's own tables.

The ledger guards itself: what a role may not do is not granted, and a trigger refuses it besides. An entry's balance
is checked when the transaction commits, whatever statements inserted its legs; legs cannot join an entry of an earlier
transaction.
"""

from alembic import op

from pipeline.topics import PublicTopic

revision = "0001"
down_revision = None

SCHEMAS = """
CREATE SCHEMA payments;
CREATE SCHEMA ledger;
CREATE SCHEMA outbox;
CREATE SCHEMA sink;
CREATE SCHEMA gateway;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
"""

PAYMENTS = """
CREATE TABLE payments.payments (
    payment_id uuid PRIMARY KEY,
    merchant_id text NOT NULL,
    status text NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    provider text NOT NULL,
    capture_method text NOT NULL,
    customer_id text,
    merchant_reference text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    sequence bigint NOT NULL,
    view jsonb NOT NULL
);
COMMENT ON TABLE payments.payments IS 'Each payment as its facts make it: pipeline/domain/projection';
CREATE INDEX payments_of_merchant ON payments.payments (merchant_id, created_at DESC, payment_id DESC);
CREATE INDEX payments_of_customer ON payments.payments (merchant_id, customer_id) WHERE customer_id IS NOT NULL;
CREATE INDEX payments_by_reference ON payments.payments (merchant_id, merchant_reference)
    WHERE merchant_reference IS NOT NULL;

CREATE TABLE payments.operations (
    payment_id uuid NOT NULL,
    operation_id text NOT NULL,
    merchant_id text NOT NULL,
    kind text NOT NULL,
    state text NOT NULL CHECK (state IN ('started', 'completed', 'rejected', 'failed')),
    reason text,
    detail text,
    sequence bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (payment_id, operation_id)
);
CREATE INDEX operations_under_way ON payments.operations (updated_at) WHERE state = 'started';
COMMENT ON TABLE payments.operations IS 'What became of each command';

CREATE TABLE payments.facts (
    payment_id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    fact_id uuid NOT NULL UNIQUE,
    type text NOT NULL,
    occurred_at timestamptz NOT NULL,
    body bytea NOT NULL,
    journal_partition integer NOT NULL,
    journal_offset bigint NOT NULL,
    PRIMARY KEY (payment_id, sequence)
);
COMMENT ON TABLE payments.facts IS 'Every fact, with its bytes and its place in ledger.journal';

CREATE TABLE payments.parked (
    payment_id uuid NOT NULL,
    sequence bigint NOT NULL,
    record bytea NOT NULL,
    journal_partition integer NOT NULL,
    journal_offset bigint NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payment_id, sequence)
);
COMMENT ON TABLE payments.parked IS 'Facts that came before one that is missing. Empty, or there is an alarm';
"""

LEDGER = """
CREATE TABLE ledger.entries (
    entry_id uuid PRIMARY KEY,
    fact_id uuid NOT NULL UNIQUE,
    payment_id uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    description text NOT NULL,
    journal_partition integer NOT NULL,
    journal_offset bigint NOT NULL
);
CREATE INDEX entries_of_payment ON ledger.entries (payment_id);

CREATE TABLE ledger.postings (
    entry_id uuid NOT NULL REFERENCES ledger.entries,
    leg smallint NOT NULL CHECK (leg >= 0),
    account text NOT NULL,
    side text NOT NULL CHECK (side IN ('debit', 'credit')),
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    PRIMARY KEY (entry_id, leg)
);
CREATE INDEX postings_of_account ON ledger.postings (account, currency);

CREATE VIEW ledger.balances AS
SELECT account, currency,
       coalesce(sum(amount) FILTER (WHERE side = 'debit'), 0)::bigint AS debit,
       coalesce(sum(amount) FILTER (WHERE side = 'credit'), 0)::bigint AS credit,
       sum(CASE side WHEN 'debit' THEN amount ELSE -amount END)::bigint AS balance
  FROM ledger.postings
 GROUP BY account, currency;
COMMENT ON VIEW ledger.balances IS 'Debit minus credit by account; over all accounts of a currency the sum is zero';

CREATE FUNCTION ledger.require_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    IF NOT EXISTS (SELECT FROM ledger.postings WHERE entry_id = NEW.entry_id) THEN
        RAISE EXCEPTION 'journal entry % has no postings', NEW.entry_id USING ERRCODE = 'check_violation';
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
CREATE CONSTRAINT TRIGGER entry_is_balanced AFTER INSERT ON ledger.entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger.require_balance();

CREATE FUNCTION ledger.require_same_transaction() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM added JOIN ledger.entries USING (entry_id)
                WHERE entries.xmin <> pg_current_xact_id()::xid) THEN
        RAISE EXCEPTION 'a journal entry is written whole, in one transaction' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER legs_come_with_their_entry AFTER INSERT ON ledger.postings
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger.require_same_transaction();

CREATE FUNCTION ledger.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only: correct it with a reversing entry', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
"""

APPEND_ONLY = ("ledger.entries", "ledger.postings", "payments.facts")

OUTBOX = """
CREATE TABLE outbox.events (
    event_id uuid PRIMARY KEY,
    topic text NOT NULL CHECK (topic IN ({topics})),
    payment_id text NOT NULL,
    payload bytea NOT NULL,
    ce_type text NOT NULL,
    ce_source text NOT NULL,
    ce_time text NOT NULL,
    traceparent text NOT NULL
);
COMMENT ON TABLE outbox.events IS
    'Always empty: a row is inserted and deleted in one transaction, and Debezium reads the insert from the log. '
    'The check keeps it from a topic that does not exist, which would block the relay in silence';
CREATE PUBLICATION payments_outbox FOR TABLE outbox.events WITH (publish = 'insert');
"""

SINK = """
CREATE TABLE sink.offsets (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    epoch bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
COMMENT ON TABLE sink.offsets IS 'Where the sink stands, moved in the transaction of the rows; epoch fences an old
instance';
"""

GATEWAY = """
CREATE TABLE gateway.api_keys (
    key_id text PRIMARY KEY,
    merchant_id text NOT NULL,
    mode text NOT NULL CHECK (mode IN ('test', 'live')),
    scopes text[] NOT NULL,
    secret_sha256 bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE TABLE gateway.requests (
    merchant_id text NOT NULL,
    mode text NOT NULL,
    idempotency_key text NOT NULL,
    fingerprint bytea NOT NULL,
    payment_id uuid NOT NULL,
    command_id text NOT NULL,
    locked_until timestamptz,
    command bytea NOT NULL,
    response_status integer,
    response_headers jsonb,
    response_body bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (merchant_id, mode, idempotency_key)
);
CREATE INDEX requests_of_payment ON gateway.requests (payment_id);
CREATE INDEX requests_by_age ON gateway.requests (created_at);
"""

GRANTS = """
GRANT USAGE ON SCHEMA payments, ledger, outbox, sink TO payments_sink;
GRANT SELECT, INSERT, UPDATE ON payments.payments, payments.operations, sink.offsets TO payments_sink;
GRANT SELECT, INSERT ON payments.facts, ledger.entries, ledger.postings TO payments_sink;
GRANT SELECT, INSERT, DELETE ON payments.parked, outbox.events TO payments_sink;

GRANT USAGE ON SCHEMA payments, gateway TO payments_gateway;
GRANT SELECT ON payments.payments, payments.operations TO payments_gateway;
GRANT SELECT, INSERT, UPDATE ON gateway.api_keys TO payments_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON gateway.requests TO payments_gateway;

GRANT USAGE ON SCHEMA payments, ledger, sink TO payments_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA payments, ledger, sink TO payments_reader;

GRANT USAGE ON SCHEMA outbox TO payments_debezium;
GRANT SELECT ON outbox.events TO payments_debezium;
"""


def upgrade() -> None:
    """Create everything."""
    topics = ", ".join(f"'{topic}'" for topic in PublicTopic)
    for script in (SCHEMAS, PAYMENTS, LEDGER, OUTBOX.format(topics=topics), SINK, GATEWAY):
        _run(script)
    for table in APPEND_ONLY:
        name = table.replace(".", "_")
        _run(
            f"CREATE TRIGGER {name}_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse()"
        )
    _run(GRANTS)


def _run(script: str) -> None:
    """Several statements as they stand: no parameters, so that a percent sign is one."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(script)


def downgrade() -> None:
    """Books are not unmade."""
    raise NotImplementedError("the books are append-only: there is no way back from the first migration")
