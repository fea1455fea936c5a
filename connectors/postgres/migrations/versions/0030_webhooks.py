"""Webhooks to merchants: endpoints, their signing secrets, events, deliveries and every attempt.

What is sent is kept in `webhooks.events`, once an event, as the bytes that are signed. A delivery is one event for one
endpoint; its row says when it is to be tried next, and a process that dies in the middle leaves it due again. Secrets
are sealed (pipeline/sealing.py) and the reader role does not see them.
"""

from alembic import op

from pipeline.domain.deliveries import AttemptError, DeliveryStatus, DisabledReason

revision = "0030"
down_revision = "0020"

TABLES = """
CREATE SCHEMA webhooks;

CREATE TABLE webhooks.endpoints (
    endpoint_id uuid PRIMARY KEY,
    merchant_id text NOT NULL,
    url text NOT NULL,
    event_types text[] NOT NULL CHECK (cardinality(event_types) > 0),
    disabled_reason text CHECK (disabled_reason IN ({reasons})),
    disabled_at timestamptz,
    failing_since timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CHECK ((disabled_reason IS NULL) = (disabled_at IS NULL))
);
CREATE INDEX endpoints_of_merchant ON webhooks.endpoints (merchant_id) WHERE deleted_at IS NULL;
COMMENT ON COLUMN webhooks.endpoints.failing_since IS 'The first failed attempt since the last that succeeded';

CREATE TABLE webhooks.signing_secrets (
    secret_id uuid PRIMARY KEY,
    endpoint_id uuid NOT NULL REFERENCES webhooks.endpoints ON DELETE CASCADE,
    key_id text NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX secrets_of_endpoint ON webhooks.signing_secrets (endpoint_id, created_at);

CREATE VIEW webhooks.active_secrets AS
SELECT secret_id, endpoint_id, key_id, sealed, created_at, expires_at
  FROM (SELECT s.*, lead(created_at) OVER (PARTITION BY endpoint_id ORDER BY created_at, secret_id)
                    + interval '24 hours' AS expires_at
          FROM webhooks.signing_secrets AS s) AS secret
 WHERE expires_at IS NULL OR expires_at > now();
COMMENT ON VIEW webhooks.active_secrets IS 'What an endpoint''s webhooks are signed with: its newest secret, and each
older one for 24 hours after the one that replaced it';

CREATE TABLE webhooks.events (
    event_id uuid PRIMARY KEY,
    merchant_id text NOT NULL,
    type text NOT NULL,
    payment_id uuid,
    occurred_at timestamptz NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_of_merchant ON webhooks.events (merchant_id, occurred_at, event_id);
CREATE INDEX events_by_age ON webhooks.events (created_at);

CREATE TABLE webhooks.deliveries (
    delivery_id uuid PRIMARY KEY,
    endpoint_id uuid NOT NULL REFERENCES webhooks.endpoints,
    event_id uuid NOT NULL REFERENCES webhooks.events,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ({statuses})),
    attempts integer NOT NULL DEFAULT 0,
    tries integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL))
);
CREATE INDEX deliveries_due ON webhooks.deliveries (endpoint_id, next_attempt_at) WHERE status = 'pending';
CREATE INDEX deliveries_of_endpoint ON webhooks.deliveries (endpoint_id, created_at DESC, delivery_id DESC);
CREATE UNIQUE INDEX deliveries_of_event ON webhooks.deliveries (event_id, endpoint_id);
CREATE INDEX deliveries_by_age ON webhooks.deliveries (updated_at);
COMMENT ON COLUMN webhooks.deliveries.attempts IS 'Begun so far, in all; a newer one takes the delivery from an older';
COMMENT ON COLUMN webhooks.deliveries.tries IS 'Begun in this schedule; a replay begins a new one';
COMMENT ON COLUMN webhooks.deliveries.next_attempt_at IS 'While an attempt is under way, when it counts as lost';

CREATE TABLE webhooks.attempts (
    delivery_id uuid NOT NULL REFERENCES webhooks.deliveries ON DELETE CASCADE,
    number integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    http_status integer,
    error text CHECK (error IN ({errors})),
    PRIMARY KEY (delivery_id, number),
    CHECK (ended_at IS NULL OR (http_status IS NULL) <> (error IS NULL))
);
COMMENT ON COLUMN webhooks.attempts.ended_at IS 'Null while it is under way, and for good if its process died';

CREATE TABLE webhooks.offsets (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    epoch bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
COMMENT ON TABLE webhooks.offsets IS 'As sink.offsets, for the public topics: moved with the deliveries they make';
"""

GRANTS = """
GRANT USAGE ON SCHEMA webhooks, payments TO payments_webhooks;
GRANT SELECT ON payments.payments TO payments_webhooks;
GRANT SELECT, DELETE ON webhooks.endpoints TO payments_webhooks;
GRANT UPDATE (disabled_reason, disabled_at, failing_since, updated_at) ON webhooks.endpoints TO payments_webhooks;
GRANT SELECT, DELETE ON webhooks.signing_secrets TO payments_webhooks;
GRANT SELECT ON webhooks.active_secrets TO payments_webhooks, payments_gateway;
GRANT UPDATE (key_id, sealed) ON webhooks.signing_secrets TO payments_webhooks;
GRANT SELECT, INSERT, DELETE ON webhooks.events TO payments_webhooks;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhooks.deliveries TO payments_webhooks;
GRANT SELECT, INSERT ON webhooks.attempts TO payments_webhooks;
GRANT UPDATE (ended_at, http_status, error) ON webhooks.attempts TO payments_webhooks;
GRANT SELECT, INSERT, UPDATE ON webhooks.offsets TO payments_webhooks;

GRANT USAGE ON SCHEMA webhooks TO payments_gateway;
GRANT SELECT, INSERT, UPDATE ON webhooks.endpoints, webhooks.deliveries TO payments_gateway;
GRANT SELECT, INSERT ON webhooks.signing_secrets TO payments_gateway;
GRANT SELECT, INSERT ON webhooks.events TO payments_gateway;
GRANT SELECT ON webhooks.attempts TO payments_gateway;

GRANT USAGE ON SCHEMA webhooks TO payments_reader;
GRANT SELECT ON webhooks.endpoints, webhooks.events, webhooks.deliveries, webhooks.attempts, webhooks.offsets
    TO payments_reader;

DO $$ BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO payments_webhooks', current_database());
END $$;
"""


def upgrade() -> None:
    """Add it. The role `payments_webhooks` has to exist (`payments stack up`, deploy/compose/roles.sql)."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    tables = TABLES.format(
        reasons=_listed(DisabledReason), statuses=_listed(DeliveryStatus), errors=_listed(AttemptError)
    )
    for script in (tables, GRANTS):
        connection.execute(script)


def downgrade() -> None:
    """Take it away, with everything in it."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute("DROP SCHEMA webhooks CASCADE; REVOKE ALL ON SCHEMA payments FROM payments_webhooks")


def _listed(values: type[AttemptError] | type[DeliveryStatus] | type[DisabledReason]) -> str:
    return ", ".join(f"'{value.value}'" for value in values)
