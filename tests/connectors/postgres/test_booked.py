"""The view of what the facts booked knows every fact that moves what a provider owes us."""

from __future__ import annotations

import re
from importlib import import_module

from pipeline.domain.postings import entry_of
from tests.domain.test_simulation import life

BOOKED = import_module("connectors.postgres.migrations.versions.0050_booked_corrections").BOOKED


def test_each_entry_that_moves_the_receivable_has_a_kind_that_reports_have_too() -> None:
    """Else it would be a difference of its own, beside the one that it settles."""
    moving = {
        entry.description
        for seed in range(400)
        for fact in life(seed).chain.facts
        if (entry := entry_of(fact)) and any(leg.account.startswith("provider_receivable:") for leg in entry.postings)
    }
    assert {"PaymentCaptured", "CaptureFailed", "PaymentRefunded", "AuthorizationOrphaned"} <= moving
    assert moving <= set(re.findall(r"WHEN '(\w+)'", BOOKED))
