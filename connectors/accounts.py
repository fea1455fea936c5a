"""Several accounts at one provider, each for some merchants: the file of `PAYMENTS_PROVIDER_ACCOUNTS`.

The file names credentials and holds none: each secret is a reference, `env:NAME` or `file:/path`, read once at start.
An account is the settings with its own fields in the place of the provider's; no secret of the settings' own account
becomes another's, nor does the name that goes with one.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from connectors.provider import Answer, Provider, Webhooks, open_provider, open_webhooks
from pipeline import topics
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.values import Decline, DeclineCategory, Outcome
from pipeline.settings import Settings

ANY_MERCHANT: Final = "*"
_OWN: Final = {"name", "provider", "merchants"}
_REQUIRED: Final = {
    "stripe": ("api_key",),
    "adyen": ("api_key", "merchant_account"),
    "paypal": ("client_id", "client_secret"),
}
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_REFERENCE: Final = re.compile(r"(env|file):(.+)")


class AccountsError(ValueError):
    """The file cannot be used. Its words name the account and the field, never a value."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account at one provider; `settings` are what its connector is opened with."""

    name: str
    provider: str
    merchants: frozenset[str]
    settings: Settings

    def serves(self, merchant_id: str) -> bool:
        """Whether it is this merchant's, named or as one of all the others."""
        return merchant_id in self.merchants or ANY_MERCHANT in self.merchants


def load(settings: Settings) -> list[Account]:
    """The accounts of the file that the settings name; none without one. Raises AccountsError."""
    path = settings.provider_accounts
    if path is None:
        return []
    try:
        written = tomllib.loads(path.read_text())
    except OSError as error:
        raise AccountsError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # The error's own words may quote the line, which may hold a secret by mistake.
        raise AccountsError(f"{path}: not TOML") from None
    entries = written.get("accounts")
    if set(written) != {"accounts"} or not isinstance(entries, list) or not entries:
        raise AccountsError(f"{path}: [[accounts]], once or more often, and nothing else")
    accounts = [_account(entry, number, settings) for number, entry in enumerate(entries, 1)]
    _check_together(accounts)
    return accounts


def _account(entry: Any, number: int, settings: Settings) -> Account:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise AccountsError(f"account {number}: name is small letters, digits and '-'")
    provider, merchants = entry.get("provider"), entry.get("merchants")
    if provider not in topics.PROVIDERS:
        raise AccountsError(f"account {name}: provider is one of {', '.join(topics.PROVIDERS)}")
    if not isinstance(merchants, list) or not merchants or not all(isinstance(one, str) and one for one in merchants):
        raise AccountsError(
            f"account {name}: merchants is a list of merchant ids, or ['{ANY_MERCHANT}'] for all others"
        )
    given = {key: value for key, value in entry.items() if key not in _OWN}
    for wanted in _REQUIRED[provider]:
        if wanted not in given:
            raise AccountsError(f"account {name}: {wanted} is missing")
    return Account(name, provider, frozenset(merchants), _settings(name, provider, given, settings))


def _settings(name: str, provider: str, given: Mapping[str, Any], settings: Settings) -> Settings:
    fields = type(settings).model_fields
    own = {key for key in fields if key.startswith(f"{provider}_")}
    secret = {key for key in own if fields[key].annotation is SecretStr}
    names = {f"{provider}_webhook_{part}" for part in ("ids", "username")} & own
    changes: dict[str, Any] = {key: fields[key].default for key in secret | names}
    for short, value in given.items():
        key = f"{provider}_{short}"
        if key not in own:
            raise AccountsError(f"account {name}: {short} is no setting of {provider}")
        changes[key] = _value(f"account {name}: {short}", value, is_secret=key in secret)
    try:
        return type(settings).model_validate({**settings.model_dump(), **changes})
    except ValidationError as error:
        wrong = ", ".join(str(found["loc"][0]).removeprefix(f"{provider}_") for found in error.errors())
        raise AccountsError(f"account {name}: {wrong} has a value that cannot be") from None


def _value(where: str, value: Any, *, is_secret: bool) -> Any:
    """The value, or what the reference leads to. A secret must be a reference."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        if is_secret:
            raise AccountsError(f"{where} is a secret: write env:NAME or file:/path instead")
        return value
    found = _from_environment(where, match[2]) if match[1] == "env" else _from_file(where, Path(match[2]))
    if not found:
        raise AccountsError(f"{where}: {value} is empty")
    return found


def _from_environment(where: str, name: str) -> str:
    if name not in os.environ:
        raise AccountsError(f"{where}: there is no environment variable {name}")
    return os.environ[name].strip()


def _from_file(where: str, path: Path) -> str:
    if not path.is_absolute():
        raise AccountsError(f"{where}: {path} is no absolute path")
    try:
        return path.read_text().strip()
    except OSError as error:
        raise AccountsError(f"{where}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AccountsError(f"{where}: {path} is no text") from None


def _check_together(accounts: list[Account]) -> None:
    """Each name once, and each merchant once at a provider: there is never a choice. Raises AccountsError."""
    names, taken = set[str](), dict[tuple[str, str], str]()
    for account in accounts:
        if account.name in names:
            raise AccountsError(f"account {account.name} is there twice")
        names.add(account.name)
        for merchant in sorted(account.merchants):
            other = taken.setdefault((account.provider, merchant), account.name)
            if other != account.name:
                raise AccountsError(
                    f"merchant {merchant} has two accounts at {account.provider}: {other}, {account.name}"
                )


# The two halves of a provider's edge, by account


class ByMerchant:
    """A provider at which each merchant has its account: a Provider, over one of each account's."""

    def __init__(self, name: str, accounts: Mapping[str, Provider]) -> None:
        self.name = name
        self._accounts = accounts

    async def call(self, request: ProviderRequest) -> Answer:
        """Make the call at the account of the request's merchant; without one nothing is sent."""
        account = self._accounts.get(request.merchant_id) or self._accounts.get(ANY_MERCHANT)
        return await account.call(request) if account else _no_account(self.name)

    async def close(self) -> None:
        """Close the connections of all accounts."""
        for account in set(self._accounts.values()):
            await account.close()


def _no_account(provider: str) -> Answer:
    """Nothing was sent now. The worker makes UNKNOWN of it for what may have been sent when there was an account."""
    return Answer(
        outcome=Outcome.TEMPORARY_FAILURE,
        decline=Decline(
            category=DeclineCategory.NEEDS_CUSTOMER,
            code="no_provider_account",
            raw_code="",
            message="The payment could not be processed with this method.",
        ),
        detail=f"the merchant has no account at {provider}",
    )


def open_accounts(name: str, settings: Settings) -> Provider:
    """The provider of that name: the settings' own account, or the file's if it names any at this provider.

    Raises AccountsError, UnknownProviderError.
    """
    accounts = [account for account in load(settings) if account.provider == name]
    if not accounts:
        return open_provider(name, settings)
    return ByMerchant(name, dict(_by_merchant(accounts)))


def _by_merchant(accounts: list[Account]) -> Iterator[tuple[str, Provider]]:
    for account in accounts:
        provider = open_provider(account.provider, account.settings)
        yield from ((merchant, provider) for merchant in account.merchants)


def open_account_webhooks(settings: Settings) -> dict[tuple[str, str], tuple[Account, Webhooks]]:
    """By provider and account: whose deliveries, and how they are read. Raises AccountsError."""
    accounts = load(settings)
    return {(one.provider, one.name): (one, open_webhooks(one.provider, one.settings)) for one in accounts}
