"""The gateway reads the ledger, for the merchants' own view of it."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Grant it, and no more than that."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(
        "GRANT USAGE ON SCHEMA ledger TO payments_gateway;"
        "GRANT SELECT ON ledger.entries, ledger.postings TO payments_gateway"
    )


def downgrade() -> None:
    """Take it back."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute("REVOKE ALL ON ALL TABLES IN SCHEMA ledger FROM payments_gateway")
