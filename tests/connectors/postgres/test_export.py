"""Somebody else's program over our books."""

from __future__ import annotations

import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from beancount import loader
from beancount.core import realization
from beancount.core.data import Transaction
from confluent_kafka import Producer
from msgspec.structs import replace
from typer.testing import CliRunner

from connectors.postgres import ledger_cli
from connectors.postgres.corrections import Corrections
from pipeline import ids, money
from pipeline.domain.beancount import account_name
from pipeline.messages.facts import Fact
from pipeline.settings import Settings
from tests.connectors.journal import moved
from tests.connectors.postgres.test_corrections import asked, entry
from tests.connectors.postgres.test_sink import CODEC, delivered, sink
from tests.connectors.postgres.test_verify import refunded, refunded_chain

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


def in_yen(facts: list[Fact]) -> list[Fact]:
    """The same facts in a currency without decimals."""
    return [replace(fact, currency="JPY") if hasattr(fact, "currency") else fact for fact in facts]


@pytest.fixture
def file(
    topics_there: Settings,
    sink_connection: psycopg.Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The export of some payments, one of them with a correction, as the command writes it."""
    chain = refunded_chain()
    writer = sink(topics_there, sink_connection)
    writer.write(delivered(chain.facts))
    with psycopg.connect(topics_there.reveal("postgres_reader_url"), autocommit=True) as reader:
        sender = Corrections(topics_there, CODEC, Producer({"bootstrap.servers": "127.0.0.1:1"}), reader)
        (fact,) = chain.feed(asked(sender, entry(chain, 5).entry_id)).facts
    others = [*moved(refunded(), ids.derive("dollars")), *in_yen(moved(refunded(), ids.derive("yen")))]
    writer.write(delivered([fact, *others], 7))
    monkeypatch.setattr(ledger_cli, "settings", lambda: topics_there)
    path = tmp_path / "books.beancount"
    done = CliRunner().invoke(ledger_cli.app, ["export", "--format", "beancount", "--output", str(path)])
    assert done.exit_code == 0, done.output
    return path


def bean_check(path: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "bean-check"
    return subprocess.run([program, str(path)], capture_output=True, text=True, check=False)


def test_beancount_comes_to_the_same_balances(file: Path, topics_there: Settings) -> None:
    checked = bean_check(file)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    entries, errors, _ = loader.load_file(str(file))
    assert errors == []
    books = realization.realize(entries)  # type: ignore[no-untyped-call]
    with psycopg.connect(topics_there.reveal("postgres_reader_url")) as reader:
        ours = reader.execute("SELECT account, currency, balance FROM ledger.balances").fetchall()
        count = reader.execute("SELECT count(*) FROM ledger.entries").fetchone()
    assert len(ours) == 10
    for account, currency, balance in ours:
        found = realization.get(books, account_name(account))  # type: ignore[no-untyped-call]
        theirs = found.balance.get_currency_units(currency)
        assert theirs.number == Decimal(money.decimal(balance, currency)), account
    transactions = [each for each in entries if isinstance(each, Transaction)]
    assert (len(transactions),) == count
    (reversal,) = [each for each in transactions if "reverses" in each.meta]
    assert (reversal.meta["reason"], reversal.meta["operator"]) == ("captured twice by mistake", "ann")


WRONG: dict[str, tuple[str, str]] = {
    "a cent in a transaction": (r"(  Assets\S+  60\.0)0 USD", r"\g<1>1 USD"),
    "a yen in a transaction": (r"  6000 JPY", "  5999 JPY"),
    "a cent in a balance": (r"0( ~ 0 USD)", r"1\1"),
    "a transaction less": (r"\n[^\n]*PaymentRefunded[^\n]*(\n.+)+", ""),
    "an account less": (r"[^\n]* open [^\n]*", ""),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_beancount_finds_what_is_wrong(file: Path, wrong: str) -> None:
    text, count = re.subn(*WRONG[wrong], file.read_text(), count=1)
    assert count == 1
    file.write_text(text)
    assert bean_check(file).returncode != 0
