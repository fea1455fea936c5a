"""`make demo`: a dozen payments through the whole system, shown as they happen, and checked.

Everything is real: HTTP, Kafka, the stages, Stripe's SDK against the simulator, Postgres, Debezium. The demo ends
with 0 only if each payment came out as it should, the books sum to zero, and the provider's own book says the same
as ours.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, sleep, time
from typing import Any, Final

import httpx
import psycopg
from confluent_kafka import Consumer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.keys import create_key
from pipeline import clock, local, money, topics
from pipeline.codec import Codec, Registry
from pipeline.domain.networks import milliseconds
from pipeline.messages import Record
from pipeline.settings import PROJECT, Settings, home

MERCHANT: Final = "demo"
VISA: Final = "pm_card_visa"
PATIENCE: Final = 45.0
REQUESTS: Final = tuple(map(topics.requests, topics.PROVIDERS))
SHOWN: Final = (topics.COMMANDS, topics.INTAKE, *REQUESTS, topics.EVENTS, topics.JOURNAL)
COLORS: Final = {
    topics.COMMANDS: "magenta",
    topics.INTAKE: "cyan",
    **dict.fromkeys(REQUESTS, "yellow"),
    topics.EVENTS: "green",
    topics.JOURNAL: "blue",
}


class DemoError(AssertionError):
    """A payment did not come out as it should."""


@dataclass(slots=True)
class Tail:
    """Shows the records of the topics as they are committed."""

    settings: Settings
    console: Console
    scene: int = 0
    public: dict[str, list[str]] = field(default_factory=dict)
    """Public events seen, by payment."""
    _scenes: dict[str, int] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _ready: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Tail:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._ready.wait(30):
            raise DemoError("Kafka gave the demo's consumer no partitions")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(5)

    def _run(self) -> None:
        codec = Codec(Registry(self.settings.registry_url))
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka_bootstrap,
                "group.id": f"demo-{time()}",
                "auto.offset.reset": "latest",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
            }
        )
        names = [*SHOWN, *(topic.value for topic in topics.PublicTopic)]
        consumer.subscribe(names, on_assign=self._assigned)
        while not self._stop.is_set():
            for message in consumer.consume(100, 0.2):
                if not message.error():
                    self._show(message.topic(), message.partition(), message.offset(), codec.decode(message.value()))
        consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[Any]) -> None:
        """Start at the end as it is now: what the demo does next must not be missed."""
        for place in partitions:
            _, place.offset = consumer.get_watermark_offsets(place, timeout=10)
        consumer.assign(partitions)
        self._ready.set()

    def _show(self, topic: str, partition: int, offset: int, record: Record) -> None:
        payment: str = getattr(record, "payment_id", "")
        scene = self._scenes.setdefault(payment, self.scene)
        if topic not in SHOWN:
            self.public.setdefault(payment, []).append(topic)
        line = Text(f"  {scene:>2}  ")
        line.append(f"{topic}[{partition}]@{offset}".ljust(40), COLORS.get(topic, "bold green"))
        line.append(f"{type(record).__name__:<20}", "bold")
        line.append(_summary(record), "dim")
        self.console.print(line, soft_wrap=True)


def _summary(record: Any) -> str:
    """The few words of a record that a reader wants."""
    if entry := getattr(record, "entry", None):
        return "  ".join(f"{p.side.value[:2].capitalize()} {p.account} {p.amount}" for p in entry.postings[:4])
    parts = []
    if getattr(record, "amount", None) is not None:
        currency = getattr(record, "currency", None)
        parts.append(f"{money.decimal(record.amount, currency)} {currency}" if currency else str(record.amount))
    named = (getattr(record, name, None) for name in ("operation", "outcome", "reason", "rule", "type"))
    parts.extend(str(value) for value in named if value)
    if decline := getattr(record, "decline", None):
        parts.append(f"{decline.category}: {decline.code}")
    return " ".join(parts)


@dataclass(slots=True)
class Api:
    """The HTTP API, as a merchant's backend uses it."""

    client: httpx.Client
    run: str
    _count: int = 0

    def create(
        self, amount: str, currency: str, token: str = VISA, key: str | None = None, **more: Any
    ) -> httpx.Response:
        """POST /intents"""
        body = {"amount": amount, "currency": currency, "provider": "stripe", "payment_method": {"token": token}}
        return self._checked(self.client.post("/intents", json={**body, **more}, headers=self._headers(key)))

    def command(self, payment: str, name: str, accept: tuple[int, ...] = (200,), **body: Any) -> httpx.Response:
        """POST /intents/{id}/{name}, waiting for the outcome."""
        headers = {**self._headers(None), "Prefer": "wait=20"}
        return self._checked(self.client.post(f"/intents/{payment}/{name}", json=body, headers=headers), accept)

    def get(self, payment: str) -> dict[str, Any]:
        """GET /intents/{id}"""
        found: dict[str, Any] = self._checked(self.client.get(f"/intents/{payment}"), (200, 404)).json()
        return found

    def _headers(self, key: str | None) -> dict[str, str]:
        self._count += 1
        return {"Idempotency-Key": key or f"{self.run}-{self._count}"}

    def _checked(self, answer: httpx.Response, accept: tuple[int, ...] = (200, 201, 202)) -> httpx.Response:
        if answer.status_code not in accept:
            raise DemoError(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}")
        return answer


@dataclass(slots=True)
class Stage:
    """What the scenes play on."""

    api: Api
    settings: Settings
    simulator: httpx.Client
    payments: list[str] = field(default_factory=list)

    def made(self, answer: httpx.Response) -> str:
        """The id of a payment that was created."""
        payment: str = answer.json()["payment_id"]
        self.payments.append(payment)
        return payment

    def until(self, payment: str, status: str) -> dict[str, Any]:
        """The payment once it has that status. Raises DemoError."""
        deadline = monotonic() + PATIENCE
        found = self.api.get(payment)
        while found.get("status") != status:
            if monotonic() > deadline:
                raise DemoError(f"{payment} is {found.get('status')} after {PATIENCE:.0f} s, not {status}")
            sleep(0.1)
            found = self.api.get(payment)
        return found

    def dispute(self, payment: str, so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The payment's dispute once it is `so`. Raises DemoError."""
        deadline = monotonic() + PATIENCE
        while not (found := self.api.get(payment)["disputes"]) or not so(found[0]):
            if monotonic() > deadline:
                raise DemoError(f"the dispute of {payment} is {found} after {PATIENCE:.0f} s")
            sleep(0.1)
        first: dict[str, Any] = found[0]
        return first

    def fact(self, payment: str, kind: str) -> None:
        """Wait for a fact of that kind. Raises DemoError."""
        query = "SELECT count(*) FROM payments.facts WHERE payment_id = %s AND type = %s"
        deadline = monotonic() + PATIENCE
        with psycopg.connect(self.settings.reveal("postgres_reader_url"), autocommit=True) as connection:
            while (row := connection.execute(query, [payment, kind]).fetchone()) is None or not row[0]:
                if monotonic() > deadline:
                    raise DemoError(f"{payment} has no {kind} after {PATIENCE:.0f} s")
                sleep(0.1)

    def entries(self, payment: str) -> int:
        """How many journal entries a payment has."""
        with psycopg.connect(self.settings.reveal("postgres_reader_url")) as connection:
            query = "SELECT count(*) FROM ledger.entries WHERE payment_id = %s"
            row = connection.execute(query, [payment]).fetchone()
        return int(row[0]) if row else 0


def captured(stage: Stage) -> str:
    """Authorized, then captured in full"""
    payment = stage.made(stage.api.create("100.00", "USD", merchant_reference="order 1"))
    stage.api.command(payment, "authorize")
    stage.api.command(payment, "capture")
    stage.until(payment, "captured")
    return "captured 100.00 USD"


def automatic(stage: Stage) -> str:
    """Captured with the authorization (a currency without decimals)"""
    payment = stage.made(stage.api.create("1500", "JPY", capture_method="automatic"))
    stage.api.command(payment, "authorize")
    stage.until(payment, "captured")
    return "captured 1500 JPY in one call"


def partly(stage: Stage) -> str:
    """Partly captured, partly refunded"""
    payment = stage.made(stage.api.create("80.00", "EUR"))
    stage.api.command(payment, "authorize")
    stage.api.command(payment, "capture", amount="60.00")
    stage.api.command(payment, "refund", amount="15.50", reason="requested_by_customer")
    found = stage.until(payment, "partially_refunded")
    amounts = (found["amount_captured"], found["amount_refunded"])
    _expect(amounts == ("60.00", "15.50"), "captured 60.00, refunded 15.50")
    return "captured 60.00, refunded 15.50, 20.00 of the hold released"


def several(stage: Stage) -> str:
    """Captured in two parts"""
    payment = stage.made(stage.api.create("90.00", "USD"))
    stage.api.command(payment, "authorize")
    stage.api.command(payment, "capture", amount="30.00", final=False)
    stage.api.command(payment, "capture", amount="60.00")
    found = stage.until(payment, "captured")
    _expect(len(found["captures"]) == 2, "two captures")
    return "captured 30.00 + 60.00"


def voided(stage: Stage) -> str:
    """Voided; a capture afterwards is refused"""
    payment = stage.made(stage.api.create("45.00", "USD"))
    stage.api.command(payment, "authorize")
    stage.api.command(payment, "void", reason="out of stock")
    stage.until(payment, "voided")
    refused = stage.api.command(payment, "capture", accept=(409,)).json()
    return f"voided; capture: 409 {refused['type'].rsplit('/', 1)[-1]}"


def declined(stage: Stage) -> str:
    """Declined for good"""
    payment = stage.made(stage.api.create("20.00", "USD", "pm_card_visa_chargeDeclinedLostCard"))
    stage.api.command(payment, "authorize", accept=(402,))
    found = stage.until(payment, "failed")
    return f"failed: {found['decline']['code']} ({found['decline']['category']}), no retry"


def rescued(stage: Stage) -> str:
    """Declined softly, rescued by a retry"""
    payment = stage.made(stage.api.create("30.00", "USD", "pm_sim_declineTimes1_insufficient_funds"))
    stage.api.command(payment, "authorize", accept=(402,))
    found = stage.until(payment, "authorized")
    _expect(len(found["attempts"]) == 2, "two attempts")
    stage.api.command(payment, "capture")
    stage.until(payment, "captured")
    return "insufficient funds, then approved by the second attempt"


def through_kafka(stage: Stage) -> str:
    """Through Kafka, without the API"""
    example = [sys.executable, str(PROJECT / "docs" / "examples" / "produce_commands.py"), "--merchant", MERCHANT]
    reference = f"{stage.api.run}-kafka"
    done = subprocess.run(
        [*example, "--reference", reference], env=local.environment(), capture_output=True, text=True, check=False
    )
    _expect(done.returncode == 0, f"the example producer works: {done.stderr}")
    payment = done.stdout.strip()
    stage.payments.append(payment)
    stage.until(payment, "authorized")
    stage.api.command(payment, "capture")
    stage.until(payment, "captured")
    return "commands on payments.commands, then a capture over HTTP"


def duplicate_request(stage: Stage) -> str:
    """The same request twice"""
    key = f"{stage.api.run}-twice"
    first, second = (stage.api.create("55.00", "USD", key=key) for _ in range(2))
    _expect(first.json()["payment_id"] == second.json()["payment_id"], "one payment")
    _expect(second.headers.get("Idempotent-Replayed") == "true", "the second answer is the first")
    payment = stage.made(first)
    stage.api.command(payment, "authorize")
    stage.api.command(payment, "capture")
    stage.until(payment, "captured")
    return "one payment, the first answer again"


def duplicate_webhook(stage: Stage) -> str:
    """Every webhook delivered again"""
    payment = stage.made(stage.api.create("70.00", "USD"))
    stage.api.command(payment, "authorize")
    stage.api.command(payment, "capture")
    stage.until(payment, "captured")
    before = stage.entries(payment)
    sent = stage.simulator.post("/_sim/webhooks/resend", params={"payment_id": payment}).json()["sent"]
    marker = stage.made(stage.api.create("1.00", "USD"))
    stage.api.command(marker, "authorize")  # goes the same way behind them, so that they have arrived
    stage.api.command(marker, "void")
    _expect(stage.entries(payment) == before, "nothing posted twice")
    return f"{sent} webhooks again, still {before} journal entries"


def disputed(stage: Stage) -> str:
    """Disputed by the cardholder, and lost"""
    payment = stage.made(stage.api.create("25.00", "USD", "pm_card_createDispute"))
    stage.api.command(payment, "authorize")
    stage.api.command(payment, "capture")
    reference = stage.dispute(payment, lambda dispute: dispute["withdrawn"] == "25.00")["dispute_reference"]
    headers = {"Authorization": f"Bearer {stage.settings.reveal('stripe_api_key')}"}
    stage.simulator.post(f"/v1/disputes/{reference}/close", headers=headers).raise_for_status()
    stage.dispute(payment, lambda dispute: dispute["status"] == "lost")
    return "25.00 withdrawn by the provider, found by its reference, borne by the merchant"


def by_adyen(stage: Stage) -> str:
    """By Adyen, which accepts a capture or refund first and decides it by webhook"""
    payment = stage.made(stage.api.create("60.00", "EUR", "adyen_ok", provider="adyen"))
    stage.api.command(payment, "authorize")
    stage.api.command(payment, "capture")
    stage.until(payment, "captured")
    stage.api.command(payment, "refund", amount="20.00")
    stage.until(payment, "partially_refunded")
    return "captured 60.00 EUR, refunded 20.00, each by its webhook"


def by_paypal(stage: Stage) -> str:
    """By PayPal: its payer approves, then two captures, one partly refunded"""
    payment = stage.made(stage.api.create("75.00", "EUR", "paypal_payer_action", provider="paypal"))
    stage.api.command(payment, "authorize")
    page = stage.until(payment, "requires_action")["attempts"][-1]["next_action"]["url"]
    httpx.post(page, data={"outcome": "success", "finish": "true"}, timeout=20).raise_for_status()
    stage.until(payment, "authorized")
    stage.api.command(payment, "capture", amount="25.00", final=False)
    stage.api.command(payment, "capture", amount="50.00")
    stage.api.command(payment, "refund", amount="30.00")
    found = stage.until(payment, "partially_refunded")
    amounts = (found["amount_captured"], found["amount_refunded"])
    _expect(amounts == ("75.00", "30.00"), "captured 75.00, refunded 30.00")
    return "approved by its payer, captured 25.00 + 50.00, refunded 30.00"


def days_pass(stage: Stage) -> str:
    """Ten days: a retry three days later, a hold's warning and its lapse"""
    payment = stage.made(stage.api.create("35.00", "USD", "pm_sim_declineTimes1_card_velocity_exceeded"))
    stage.api.command(payment, "authorize", accept=(402,))
    stage.until(payment, "retry_scheduled")
    clock.put_forward(milliseconds("3d"))
    found = stage.until(payment, "authorized")
    _expect(len(found["attempts"]) == 2, "two attempts")
    clock.put_forward(milliseconds("6d"))
    stage.fact(payment, "HoldExpiring")
    clock.put_forward(milliseconds("1d"))
    stage.until(payment, "expired")
    return "limit exceeded, approved 3 days later; warned 6 days later, lapsed after 7"


SCENES: Final[tuple[Callable[[Stage], str], ...]] = (
    captured,
    automatic,
    partly,
    several,
    voided,
    declined,
    rescued,
    through_kafka,
    duplicate_request,
    duplicate_webhook,
    disputed,
    by_adyen,
    by_paypal,
    days_pass,  # last: it is ten days later for every payment
)


def main(console: Console) -> int:
    """Play every scene; returns the exit status."""
    settings = local.up(lambda text: console.print(f"[dim]{text}[/]"))
    clock.follow(settings.clock_file)
    began = datetime.fromtimestamp(clock.now() // 1000, UTC).isoformat(timespec="seconds")
    results = Table("", "payment", "what came of it", "", title="The payments")
    failures: list[str] = []
    base = f"http://{settings.gateway_host}:{settings.gateway_port}/api/v1"
    key = create_key(settings.reveal("postgres_gateway_url"), MERCHANT)
    with (
        httpx.Client(base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=40) as client,
        httpx.Client(base_url=settings.stripe_api_url, timeout=20) as simulator,
        Tail(settings, console) as tail,
    ):
        stage = Stage(Api(client, f"demo-{int(time() * 1000)}"), settings, simulator)
        for tail.scene, scene in enumerate(SCENES, 1):
            console.rule(f"{tail.scene}  {scene.__doc__}", align="left")
            try:
                results.add_row(str(tail.scene), scene.__doc__, scene(stage), "[green]✓[/]")
            except (DemoError, httpx.HTTPError, KeyError) as error:
                failures.append(f"{scene.__doc__}: {error}")
                results.add_row(str(tail.scene), scene.__doc__, str(error), "[red]✗[/]")
        _wait_for_public_events(tail, stage, failures)
    console.print(results)
    _show_ledger(console, settings, failures)
    _compare_with_provider(console, stage, simulator_book(settings), failures)
    _prove(console, settings, began, failures)
    _show_next(console, settings, stage.payments[0])
    for failure in failures:
        console.print(f"[red]✗ {failure}[/]")
    return 1 if failures else 0


def simulator_book(settings: Settings) -> list[dict[str, Any]]:
    """What the provider says it charged, captured and refunded."""
    book: list[dict[str, Any]] = httpx.get(f"{settings.stripe_api_url}/_sim/book", timeout=20).json()
    return book


def _expect(true: bool, what: str) -> None:
    if not true:
        raise DemoError(f"expected: {what}")


def _wait_for_public_events(tail: Tail, stage: Stage, failures: list[str]) -> None:
    """Each payment of the demo must have been announced, once."""
    deadline = monotonic() + PATIENCE
    while any("payments.created" not in tail.public.get(p, []) for p in stage.payments) and monotonic() < deadline:
        sleep(0.1)
    for payment in stage.payments:
        seen = tail.public.get(payment, [])
        if seen.count("payments.created") != 1:
            failures.append(f"payments.created for {payment} came {seen.count('payments.created')} times")


def _show_ledger(console: Console, settings: Settings, failures: list[str]) -> None:
    """The balance of every account, and that they sum to zero in each currency."""
    table = Table("account", "currency", "debit", "credit", "balance", title="The ledger")
    sums: dict[str, int] = {}
    with psycopg.connect(settings.reveal("postgres_reader_url")) as connection:
        for account, currency, *amounts in connection.execute("SELECT * FROM ledger.balances ORDER BY 1, 2"):
            table.add_row(account, currency, *(money.decimal(amount, currency) for amount in amounts))
            sums[currency] = sums.get(currency, 0) + amounts[2]
    for currency, total in sums.items():
        table.add_row("[bold]sum[/]", currency, "", "", f"[bold]{money.decimal(total, currency)}[/]")
        if total:
            failures.append(f"the books are off by {total} {currency}")
    console.print(table)


def _compare_with_provider(console: Console, stage: Stage, book: list[dict[str, Any]], failures: list[str]) -> None:
    """The provider's own book must say the same as ours, payment by payment."""
    with psycopg.connect(stage.settings.reveal("postgres_reader_url")) as connection:
        query = "SELECT view FROM payments.payments WHERE payment_id = ANY (%s::uuid[])"
        ours = {row[0]["payment_id"]: row[0] for row in connection.execute(query, [stage.payments])}
    theirs: dict[str, tuple[int, int]] = {}
    for page in book:
        before = theirs.get(page["payment_id"], (0, 0))
        theirs[page["payment_id"]] = (before[0] + page["captured"], before[1] + page["refunded"])
    for payment in stage.payments:
        view = ours.get(payment, {})
        mine = (view.get("amount_captured"), view.get("amount_refunded"))
        if mine != theirs.get(payment):
            failures.append(f"{payment}: we have {mine} captured and refunded, the provider {theirs.get(payment)}")
    console.print(f"the provider's book agrees on {len(stage.payments)} payments" if not failures else "")


def _prove(console: Console, settings: Settings, since: str, failures: list[str]) -> None:
    """What an auditor would type: the books computed anew from the log, and held against the provider's report."""
    report = home() / "stripe-balance-report.csv"
    report.write_bytes(httpx.get(f"{settings.stripe_api_url}/_sim/stripe/balance_report.csv", timeout=20).content)
    for command in (["verify"], ["reconcile", "stripe", str(report), "--since", since]):
        console.rule(f"payments {' '.join(command)}", align="left")
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *command], env=local.environment(), cwd=PROJECT, check=False
        )
        if done.returncode:
            failures.append(f"payments {command[0]} found a difference")


def _show_next(console: Console, settings: Settings, payment: str) -> None:
    url = f"http://{settings.gateway_host}:{settings.gateway_port}"
    table = Table("where to look next", "", show_header=True, box=None)
    table.add_row("the API, to read and try", f"{url}/docs")
    table.add_row("an API key", ".venv/bin/payments keys create --merchant demo")
    table.add_row("one payment, explained", f".venv/bin/payments explain {payment}")
    table.add_row("the topics", ".venv/bin/payments topics diff")
    table.add_row("the services", ".venv/bin/payments stack status")
    table.add_row("the clock, ten days ahead now", ".venv/bin/payments clock")
    table.add_row("stop it all", "make down")
    console.print(table)
