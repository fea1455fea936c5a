"""Every change of an API key is noted, by the database itself: who, when and what, in a table that only grows."""

from alembic import op

revision = "0060"
down_revision = "0051"

SCRIPT = """
CREATE TABLE gateway.key_changes (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    key_id text NOT NULL,
    merchant_id text NOT NULL,
    change text NOT NULL CHECK (change IN ('created', 'changed', 'revoked', 'deleted')),
    operator text,
    role text,
    mode text NOT NULL,
    scopes text[] NOT NULL,
    expires_at timestamptz
);
COMMENT ON TABLE gateway.key_changes IS
    'Who changed which API key, when, and what it may do since; nothing of its secret';
COMMENT ON COLUMN gateway.key_changes.operator IS 'Who said so on the command line; the database cannot check it';
COMMENT ON COLUMN gateway.key_changes.role IS 'The database role that did it; null: before the log was kept';
CREATE INDEX key_changes_of_merchant ON gateway.key_changes (merchant_id, change_id);

INSERT INTO gateway.key_changes (at, key_id, merchant_id, change, mode, scopes, expires_at)
SELECT at, key_id, merchant_id, change, mode, scopes, expires_at FROM (
    SELECT created_at AS at, 'created' AS change, k.* FROM gateway.api_keys AS k
    UNION ALL
    SELECT revoked_at, 'revoked', k.* FROM gateway.api_keys AS k WHERE revoked_at IS NOT NULL
) AS known ORDER BY at;

CREATE FUNCTION gateway.note_key_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    key gateway.api_keys;
    what text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        key := OLD;
        what := 'deleted';
    ELSE
        key := NEW;
        what := CASE
            WHEN TG_OP = 'INSERT' THEN 'created'
            WHEN OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL THEN 'revoked'
            ELSE 'changed'
        END;
    END IF;
    INSERT INTO gateway.key_changes (key_id, merchant_id, change, operator, role, mode, scopes, expires_at)
    VALUES (key.key_id, key.merchant_id, what, nullif(current_setting('payments.operator', true), ''), session_user,
            key.mode, key.scopes, key.expires_at);
    RETURN NULL;
END $$;
CREATE TRIGGER key_change_is_noted AFTER INSERT OR UPDATE OR DELETE ON gateway.api_keys
    FOR EACH ROW EXECUTE FUNCTION gateway.note_key_change();

CREATE FUNCTION gateway.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER key_changes_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON gateway.key_changes
    FOR EACH STATEMENT EXECUTE FUNCTION gateway.refuse();

GRANT SELECT ON gateway.key_changes TO payments_gateway;
"""


def upgrade() -> None:
    """Add it, to a gateway that may be in use."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(SCRIPT)


def downgrade() -> None:
    """A log of changes is not unmade."""
    raise NotImplementedError("the log of key changes is append-only: there is no way back from it")
