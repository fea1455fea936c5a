"""Holds that lapse soon are published; reviews and declines without a plan are found fast; when a fact was written is
kept; the gateway may read a payment's facts, for its recovery points and its timeline.
"""

from alembic import op

from pipeline.topics import PublicTopic

revision = "0040"
down_revision = "0030"

SCRIPT = """
ALTER TABLE outbox.events DROP CONSTRAINT events_topic_check,
    ADD CONSTRAINT events_topic_check CHECK (topic IN ({topics}));

ALTER TABLE payments.facts ADD COLUMN written_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN payments.facts.written_at IS
    'When it, its journal entry and its public event were committed; for facts before this column, when it was added';

CREATE INDEX payments_with_reviews ON payments.payments (updated_at) WHERE view -> 'reviews' <> '[]'::jsonb;
CREATE INDEX payments_declined ON payments.payments (updated_at) WHERE status = 'declined';

GRANT SELECT ON payments.facts TO payments_gateway;
"""


def upgrade() -> None:
    """Add it, to books that may be in use."""
    listed = ", ".join(f"'{topic.value}'" for topic in PublicTopic)
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(SCRIPT.format(topics=listed))


def downgrade() -> None:
    """Books are not unmade."""
    raise NotImplementedError("there is no way back: warnings may have been published")
