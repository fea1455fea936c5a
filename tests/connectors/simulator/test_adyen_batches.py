"""Adyen's settlement batches: announced, downloaded from where they may come from, and read."""

from __future__ import annotations

import io
from typing import Any
from uuid import uuid4

import httpx
import pytest

from connectors.adyen.reports import AdyenReports
from connectors.adyen.settlement import read
from connectors.settlement.fetching import FetchError
from connectors.settlement.report import Origin
from pipeline.domain.settlement import entry_of
from pipeline.messages.reports import ReadOutcome, ReportRequest
from pipeline.messages.settlement import LineKind, SettlementLine
from tests.connectors.simulator.test_adyen import ACCOUNT, modification, payment, running, sdk, settle, sim
from tests.connectors.simulators import ADYEN, Simulator

__all__ = ["running", "sdk", "sim"]
KEY = ADYEN["PAYMENTS_ADYEN_API_KEY"]


def asked(name: str, url: str | None = None) -> ReportRequest:
    return ReportRequest(
        report=f"adyen:{name}", request_id="r", provider="adyen", reference=name, url=url, number=1, issued_at=0
    )


def base(sim: Simulator) -> str:
    return f"{sim.url}/reports/download"


def close(sim: Simulator) -> str:
    """Close a batch: its report's name."""
    return str(httpx.post(f"{sim.url}/_sim/adyen/batches").raise_for_status().json()["report"])


def fetched(sim: Simulator, name: str) -> list[SettlementLine]:
    file = io.BytesIO()
    AdyenReports(base(sim), KEY, ACCOUNT).fetch(asked(name, f"{base(sim)}/MerchantAccount/{ACCOUNT}/{name}"), file)
    return list(read(io.StringIO(file.getvalue().decode()), Origin("r")))


def test_a_batch_is_what_was_settled_and_its_payout(sim: Simulator, sdk: Any) -> None:
    psp = sdk.payments_api.payments(payment(), idempotency_key=str(uuid4())).message["pspReference"]
    capture = sdk.modifications_api.capture_authorised_payment(modification(600), psp).message["pspReference"]
    settle(sim)
    refund = sdk.modifications_api.refund_captured_payment(modification(200), psp).message["pspReference"]
    settle(sim)
    first = close(sim)
    charge, back, payout = lines = fetched(sim, first)
    assert [(line.kind, line.gross, line.fee) for line in lines] == [
        (LineKind.CHARGE, 600, 18),
        (LineKind.REFUND, -200, 0),
        (LineKind.PAYOUT, -382, 0),
    ]
    assert [line.operation_reference for line in (charge, back)] == [capture, refund]
    assert charge.payment_reference == psp
    assert sum(line.net for line in lines) == 0
    assert {line.payout_id for line in lines} == {payout.payout_id}
    assert all(entry_of(line) for line in lines)
    second = close(sim)
    assert (second != first, fetched(sim, second)) == (True, []), "nothing settles twice"


def test_a_report_comes_from_where_it_may_only(sim: Simulator) -> None:
    """A forged or mistaken URL gets neither the key nor a request."""
    name = close(sim)
    for url in (
        f"http://localhost:{httpx.URL(sim.url).port}/reports/download/{name}",
        f"{sim.url}/_sim/book",
        f"{base(sim)}/../../_sim/book",
        f"{base(sim)}/%2e%2e/%2E%2E/_sim/book",
        f"{sim.url.replace('://', '://somebody@')}/reports/download/{name}",
        "http://",
        "no url",
    ):
        with pytest.raises(FetchError, match="reports come from") as failed:
            AdyenReports(base(sim), KEY, ACCOUNT).fetch(asked(name, url), io.BytesIO())
        assert failed.value.outcome is ReadOutcome.REFUSED


@pytest.mark.parametrize(
    ("name", "key", "outcome"),
    [("missing.csv", KEY, ReadOutcome.UNAVAILABLE), ("missing.csv", "", ReadOutcome.REFUSED)],
)
def test_what_cannot_be_downloaded(sim: Simulator, name: str, key: str, outcome: ReadOutcome) -> None:
    with pytest.raises(FetchError) as failed:
        AdyenReports(base(sim), key, ACCOUNT).fetch(asked(name), io.BytesIO())
    assert failed.value.outcome is outcome
    assert KEY not in str(failed.value)


def test_a_report_that_is_asked_for_by_its_name(sim: Simulator) -> None:
    """As an operator does, who has no URL."""
    file, name = io.BytesIO(), close(sim)
    AdyenReports(base(sim), KEY, ACCOUNT).fetch(asked(name), file)
    assert file.getvalue().startswith(b"Company Account,")
