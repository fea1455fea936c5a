"""Disputes are published."""

from alembic import op

from pipeline.topics import PublicTopic

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """The outbox takes every public topic that there is now."""
    listed = ", ".join(f"'{topic.value}'" for topic in PublicTopic)
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(
        "ALTER TABLE outbox.events DROP CONSTRAINT events_topic_check, "
        f"ADD CONSTRAINT events_topic_check CHECK (topic IN ({listed}))"
    )


def downgrade() -> None:
    """Books are not unmade."""
    raise NotImplementedError("there is no way back: disputes may have been published")
