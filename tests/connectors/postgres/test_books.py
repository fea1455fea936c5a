"""What the books refuse, whoever asks: unbalanced entries, changed rows, and everything that was not granted."""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors

from connectors.postgres import migrate
from pipeline.domain.accounts import CHART
from pipeline.messages.journal import Side
from pipeline.settings import Settings

pytestmark = pytest.mark.stack

ENTRY = (
    "INSERT INTO ledger.entries (entry_id, fact_id, payment_id, merchant_id, occurred_at, description,"
    " journal_partition, journal_offset, legs) VALUES (%s, %s, %s, 'acme', now(), 'Test', 0, 0, %s)"
)
CORRECTION = (
    "INSERT INTO ledger.entries (entry_id, fact_id, payment_id, merchant_id, occurred_at, description,"
    " journal_partition, journal_offset, legs, reverses, reason, operator)"
    " VALUES (%s, %s, %s, 'acme', now(), 'Test', 0, 0, %s, %s, %s, %s)"
)
LEGS = "INSERT INTO ledger.postings VALUES (%s, %s, %s, %s, %s, %s), (%s, %s, %s, %s, %s, %s)"
LEG = "INSERT INTO ledger.postings VALUES (%s, %s, 'bank:USD', %s, %s, %s)"


def post(connection: psycopg.Connection, *legs: tuple[str, int, str], declared: int | None = None) -> UUID:
    """An entry with these legs (side, amount, currency), in one transaction."""
    entry = uuid4()
    with connection.transaction():
        connection.execute(ENTRY, (entry, uuid4(), uuid4(), len(legs) if declared is None else declared))
        for number, (side, amount, currency) in enumerate(legs):
            connection.execute(LEG, (entry, number, side, amount, currency))
    return entry


def test_a_balanced_entry_is_taken(sink_connection: psycopg.Connection) -> None:
    post(sink_connection, ("debit", 5, "USD"), ("credit", 5, "USD"), ("debit", 7, "EUR"), ("credit", 7, "EUR"))
    rows = sink_connection.execute("SELECT count(*) FROM ledger.postings").fetchall()
    assert rows == [(4,)]


@pytest.mark.parametrize(
    "legs",
    [
        [("debit", 5, "USD")],
        [("debit", 5, "USD"), ("credit", 4, "USD")],
        [("debit", 5, "USD"), ("credit", 5, "EUR")],
        [("debit", 5, "USD"), ("debit", 5, "USD")],
        [],
    ],
)
def test_an_unbalanced_entry_is_refused_at_commit(
    sink_connection: psycopg.Connection, legs: list[tuple[str, int, str]]
) -> None:
    with pytest.raises(errors.CheckViolation):
        post(sink_connection, *legs)
    assert sink_connection.execute("SELECT count(*) FROM ledger.entries").fetchall() == [(0,)]


def take_out(connection: psycopg.Connection, kind: str, put_in: int, taken: int) -> None:
    """A payment that moves into an account of that kind, then out of it."""
    account, payment = f"{kind}:acme:stripe:USD", uuid4()
    into = CHART[kind].normal
    out = Side.CREDIT if into is Side.DEBIT else Side.DEBIT
    for amount, side, other in ((put_in, into, out), (taken, out, into)):
        entry = uuid4()
        with connection.transaction():
            connection.execute(ENTRY, (entry, uuid4(), payment, 2))
            connection.execute(
                LEGS, (entry, 0, account, side, amount, "USD", entry, 1, "bank:USD", other, amount, "USD")
            )


@pytest.mark.parametrize("kind", sorted(CHART))
def test_no_payment_takes_more_out_than_it_put_in_where_the_chart_says_so(
    sink_connection: psycopg.Connection, kind: str
) -> None:
    """Of the other kinds any sign is legal, and refusing it would stop a payment for nothing."""
    take_out(sink_connection, kind, 500, 500)
    if CHART[kind].floor:
        with pytest.raises(errors.CheckViolation, match=f"takes 1 USD more out of {kind}"):
            take_out(sink_connection, kind, 500, 501)
    else:
        take_out(sink_connection, kind, 500, 501)


def test_a_correction_may_go_below_the_floor(sink_connection: psycopg.Connection) -> None:
    """The hold is reversed although its capture stands: legal, and what follows is judged by the facts alone."""
    payment, hold = uuid4(), uuid4()
    account = "holds_receivable:acme:stripe:USD"
    for entry, side, other, reverses in (
        (hold, "debit", "credit", None),
        (uuid4(), "credit", "debit", None),
        (uuid4(), "credit", "debit", hold),
    ):
        why = ("twice", "ann") if reverses else (None, None)
        with sink_connection.transaction():
            sink_connection.execute(CORRECTION, (entry, uuid4(), payment, 2, reverses, *why))
            sink_connection.execute(LEGS, (entry, 0, account, side, 5, "USD", entry, 1, "bank:USD", other, 5, "USD"))
    balance = sink_connection.execute("SELECT count(*) FROM ledger.postings WHERE account = %s", [account]).fetchone()
    assert balance == (3,)


@pytest.mark.parametrize("amount", [0, -5])
def test_a_leg_moves_something(sink_connection: psycopg.Connection, amount: int) -> None:
    with pytest.raises(errors.CheckViolation):
        post(sink_connection, ("debit", amount, "USD"), ("credit", amount, "USD"))


@pytest.mark.parametrize("declared", [1, 3])
def test_an_entry_has_the_legs_that_it_declares(sink_connection: psycopg.Connection, declared: int) -> None:
    with pytest.raises(errors.CheckViolation):
        post(sink_connection, ("debit", 5, "USD"), ("credit", 5, "USD"), declared=declared)


def test_a_check_made_early_cannot_be_outrun(books: Settings, sink_connection: psycopg.Connection) -> None:
    """`SET CONSTRAINTS` runs the deferred check at once; a leg that comes after it would never be looked at."""
    entry = uuid4()

    def outrun() -> None:
        with sink_connection.transaction():
            sink_connection.execute(ENTRY, (entry, uuid4(), uuid4(), 2))
            sink_connection.execute(LEG, (entry, 0, "debit", 5, "USD"))
            sink_connection.execute(LEG, (entry, 1, "credit", 5, "USD"))
            sink_connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            sink_connection.execute(LEG, (entry, 2, "debit", 7, "USD"))

    with pytest.raises(errors.CheckViolation):
        outrun()
    with psycopg.connect(books.reveal("postgres_reader_url")) as reader:
        assert reader.execute("SELECT count(*) FROM ledger.postings").fetchall() == [(0,)]


def test_the_trial_balance_is_zero_by_currency(books: Settings, sink_connection: psycopg.Connection) -> None:
    post(sink_connection, ("debit", 5, "USD"), ("credit", 5, "USD"), ("debit", 7, "EUR"), ("credit", 7, "EUR"))
    with psycopg.connect(books.reveal("postgres_reader_url")) as reader:
        rows = reader.execute("SELECT * FROM ledger.trial_balance ORDER BY currency, accounts").fetchall()
    assert rows == [
        ("EUR", "bank", 7, 7, 0), ("EUR", "total", 7, 7, 0), ("USD", "bank", 5, 5, 0), ("USD", "total", 5, 5, 0),
    ]  # fmt: skip


def test_books_in_use_get_the_legs_of_their_entries(settings_at_first: Settings) -> None:
    """The second migration, over entries that the first one's sink wrote."""
    with psycopg.connect(settings_at_first.reveal("postgres_sink_url")) as connection:
        entry = uuid4()
        old = "INSERT INTO ledger.entries VALUES (%s, %s, %s, now(), 'Test', 0, 0)"
        connection.execute(old, (entry, uuid4(), uuid4()))
        connection.cursor().executemany(LEG, [(entry, n, s, 5, "USD") for n, s in enumerate(("debit", "credit"))])
    migrate.upgrade(settings_at_first, "0002")
    with psycopg.connect(settings_at_first.reveal("postgres_sink_url"), autocommit=True) as connection:
        assert connection.execute("SELECT legs FROM ledger.entries").fetchall() == [(2,)]
        with pytest.raises(errors.CheckViolation):
            connection.execute(LEG, (entry, 2, "debit", 5, "USD"))
    with (
        psycopg.connect(settings_at_first.reveal("postgres_owner_url")) as owner,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        owner.execute("UPDATE ledger.entries SET legs = 3")


def test_legs_cannot_join_an_earlier_entry(sink_connection: psycopg.Connection) -> None:
    entry = post(sink_connection, ("debit", 5, "USD"), ("credit", 5, "USD"))
    legs = [(entry, 2, "debit", 1, "USD"), (entry, 3, "credit", 1, "USD")]
    with pytest.raises(errors.CheckViolation), sink_connection.transaction():
        sink_connection.cursor().executemany(LEG, legs)


CHANGES = [
    "UPDATE ledger.postings SET amount = amount + 1",
    "DELETE FROM ledger.postings",
    "TRUNCATE ledger.postings",
    "UPDATE ledger.entries SET description = 'x'",
    "DELETE FROM ledger.entries",
    "TRUNCATE ledger.entries CASCADE",
    "UPDATE payments.facts SET type = 'x'",
    "DELETE FROM payments.facts",
    "TRUNCATE payments.facts",
    "UPDATE payments.conflicts SET sequence = 1",
    "DELETE FROM payments.conflicts",
    "TRUNCATE payments.conflicts",
    "UPDATE settlement.lines SET gross = 0",
    "DELETE FROM settlement.lines",
    "TRUNCATE settlement.lines CASCADE",
    "UPDATE settlement.explanations SET payment_id = NULL",
    "DELETE FROM settlement.explanations",
    "TRUNCATE settlement.explanations",
]


@pytest.mark.parametrize("role", ["owner", "sink", "gateway", "reader", "debezium", "webhooks"])
def test_nobody_changes_or_removes_what_is_written(books: Settings, role: str) -> None:
    """No role is granted it, and the owner, who could, is refused by a trigger."""
    with psycopg.connect(books.reveal("postgres_sink_url"), autocommit=True) as connection:
        post(connection, ("debit", 5, "USD"), ("credit", 5, "USD"))
    with psycopg.connect(books.reveal(f"postgres_{role}_url"), autocommit=True) as connection:
        for change in CHANGES:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(change.encode())
    with psycopg.connect(books.reveal("postgres_reader_url")) as connection:
        assert connection.execute("SELECT sum(amount)::int FROM ledger.postings").fetchall() == [(10,)]


TABLES = [
    "payments.payments", "payments.operations", "payments.facts", "payments.parked", "payments.conflicts",
    "ledger.entries", "ledger.postings", "ledger.balances", "ledger.trial_balance", "ledger.journal_content",
    "outbox.events", "sink.offsets",
    "gateway.api_keys", "gateway.key_changes", "gateway.requests", "payments.provider_references", "settlement.lines",
    "settlement.explanations", "settlement.reported", "settlement.booked", "settlement.comparisons",
    "settlement.differences", "settlement.payouts",
    "webhooks.endpoints", "webhooks.signing_secrets", "webhooks.active_secrets", "webhooks.events",
    "webhooks.deliveries", "webhooks.attempts", "webhooks.offsets",
]  # fmt: skip
GRANTED = {
    "sink": {
        "payments.payments": "SELECT INSERT UPDATE",
        "payments.operations": "SELECT INSERT UPDATE",
        "payments.facts": "SELECT INSERT",
        "payments.parked": "SELECT INSERT DELETE",
        "payments.conflicts": "SELECT INSERT",
        "ledger.entries": "SELECT INSERT",
        "ledger.postings": "SELECT INSERT",
        "outbox.events": "SELECT INSERT DELETE",
        "sink.offsets": "SELECT INSERT UPDATE",
        "payments.provider_references": "SELECT INSERT",
        "settlement.lines": "SELECT INSERT",
        "settlement.explanations": "SELECT INSERT",
    },
    "gateway": {
        "payments.payments": "SELECT",
        "payments.facts": "SELECT",
        "payments.operations": "SELECT",
        "ledger.entries": "SELECT",
        "ledger.postings": "SELECT",
        "gateway.api_keys": "SELECT INSERT UPDATE",
        "gateway.key_changes": "SELECT",
        "gateway.requests": "SELECT INSERT UPDATE DELETE",
        "webhooks.endpoints": "SELECT INSERT UPDATE",
        "webhooks.signing_secrets": "SELECT INSERT",
        "webhooks.active_secrets": "SELECT",
        "webhooks.events": "SELECT INSERT",
        "webhooks.deliveries": "SELECT INSERT UPDATE",
        "webhooks.attempts": "SELECT",
    },
    "webhooks": {
        "payments.payments": "SELECT",
        "webhooks.endpoints": "SELECT DELETE",
        "webhooks.signing_secrets": "SELECT DELETE",
        "webhooks.active_secrets": "SELECT",
        "webhooks.events": "SELECT INSERT DELETE",
        "webhooks.deliveries": "SELECT INSERT UPDATE DELETE",
        "webhooks.attempts": "SELECT INSERT",
        "webhooks.offsets": "SELECT INSERT UPDATE",
    },
    "reader": dict.fromkeys(
        [
            "payments.payments", "payments.operations", "payments.facts", "payments.parked", "payments.conflicts",
            "ledger.entries", "ledger.postings", "ledger.balances", "ledger.trial_balance", "ledger.journal_content",
            "sink.offsets",
            "payments.provider_references", "settlement.lines", "settlement.explanations", "settlement.reported",
            "settlement.booked", "settlement.comparisons", "settlement.differences", "settlement.payouts",
            "webhooks.endpoints", "webhooks.events", "webhooks.deliveries", "webhooks.attempts", "webhooks.offsets",
        ],
        "SELECT",
    ),
    "debezium": {"outbox.events": "SELECT"},
}  # fmt: skip


def test_each_role_may_do_this_and_no_more(books: Settings) -> None:
    query = "SELECT has_table_privilege(%s, %s, %s)"
    with psycopg.connect(books.reveal("postgres_owner_url")) as connection:
        for role, tables in GRANTED.items():
            for table in TABLES:
                allowed = {
                    privilege
                    for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")
                    if connection.execute(query, (f"payments_{role}", table, privilege)).fetchone() == (True,)
                }
                assert allowed == set(tables.get(table, "").split()), f"{role} on {table}"


def test_the_sender_of_webhooks_cannot_change_where_they_go_nor_put_a_secret_of_its_own(books: Settings) -> None:
    """What it may update is granted by column."""
    with psycopg.connect(books.reveal("postgres_webhooks_url"), autocommit=True) as connection:
        for change in (
            "UPDATE webhooks.endpoints SET url = 'https://evil.example/'",
            "UPDATE webhooks.endpoints SET merchant_id = 'other'",
            "UPDATE webhooks.signing_secrets SET endpoint_id = gen_random_uuid()",
            "UPDATE webhooks.attempts SET started_at = now()",
            "UPDATE webhooks.events SET body = 'x'",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(change.encode())
        connection.execute("UPDATE webhooks.endpoints SET failing_since = now()")
        connection.execute("UPDATE webhooks.signing_secrets SET sealed = 'x', key_id = 'k'")


def test_strangers_cannot_connect_nor_make_anything(books: Settings) -> None:
    """Every role of the cluster is in PUBLIC; no role of ours can make even a temporary table."""
    with psycopg.connect(books.reveal("postgres_owner_url")) as connection:
        for privilege in ("CONNECT", "TEMPORARY", "CREATE"):
            query = "SELECT has_database_privilege('public', current_database(), %s)"
            assert connection.execute(query, (privilege,)).fetchone() == (False,), privilege
    for role in GRANTED:
        with psycopg.connect(books.reveal(f"postgres_{role}_url"), autocommit=True) as connection:
            for statement in ("CREATE TABLE t ()", "CREATE TEMPORARY TABLE t ()", "CREATE SCHEMA s"):
                with pytest.raises((errors.InsufficientPrivilege, errors.InvalidSchemaName)):
                    connection.execute(statement.encode())


def test_the_outbox_takes_only_public_topics(sink_connection: psycopg.Connection) -> None:
    row = "INSERT INTO outbox.events VALUES (%s, %s, 'p', 'x', 't', 's', 't', 't')"
    sink_connection.execute(row, (uuid4(), "payments.captured"))
    with pytest.raises(errors.CheckViolation):
        sink_connection.execute(row, (uuid4(), "payments.misspelt"))
