"""Which module reads which provider's reports."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from connectors.settlement.report import Reader

READERS: Final = {provider: f"connectors.{provider}.settlement" for provider in ("stripe", "adyen", "paypal")}


def reader(provider: str) -> Reader:
    """What reads a provider's reports. Raises KeyError for a provider without reports."""
    read: Reader = import_module(READERS[provider]).read
    return read
