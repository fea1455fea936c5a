"""Settings of every process: environment variables `PAYMENTS_*`, or the file that `payments stack up` writes.

Secrets are named here by variable only; none is ever in a topic, table or log.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent


def listed(text: str) -> tuple[str, ...]:
    """A setting of several values: comma-separated, without blanks."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def home() -> Path:
    """Where the local stack and the stages' state live: `PAYMENTS_HOME`, else `.local` in the project."""
    return Path(os.environ.get("PAYMENTS_HOME") or PROJECT / ".local")


class Settings(BaseSettings):
    """All settings, validated at start. Every field is the environment variable `PAYMENTS_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_", extra="ignore", frozen=True)

    kafka_bootstrap: str = "127.0.0.1:9092"
    registry_url: str = "http://127.0.0.1:8080/apis/ccompat/v7"
    connect_url: str = "http://127.0.0.1:8083"
    postgres_owner_url: SecretStr = SecretStr("postgresql://payments_owner@127.0.0.1/payments")
    postgres_sink_url: SecretStr = SecretStr("postgresql://payments_sink@127.0.0.1/payments")
    postgres_gateway_url: SecretStr = SecretStr("postgresql://payments_gateway@127.0.0.1/payments")
    postgres_reader_url: SecretStr = SecretStr("postgresql://payments_reader@127.0.0.1/payments")
    postgres_debezium_url: SecretStr = SecretStr("postgresql://payments_debezium@127.0.0.1/payments")
    postgres_webhooks_url: SecretStr = SecretStr("postgresql://payments_webhooks@127.0.0.1/payments")

    partitions: int = Field(12, ge=1, description="of topics without a count of their own; frozen at creation")
    compression: str = Field("none", description="of what is produced; worth its CPU where batches are large")
    replication: int = Field(1, ge=1)
    state_dir: Path = Field(default_factory=lambda: home() / "state")
    slot: str = Field("0", description="names this instance of a stage; stable across restarts")
    commit_interval: float = Field(0.02, ge=0, description="seconds between commits of a stage under load")

    metrics_port: int | None = Field(None, description="serve this process's metrics there")

    gateway_host: str = "127.0.0.1"
    gateway_port: int = 8000

    stripe_api_url: str = "https://api.stripe.com"
    stripe_api_key: SecretStr = SecretStr("")
    stripe_return_url: str | None = Field(None, description="where a customer comes back to after 3-D Secure")
    stripe_webhook_secrets: SecretStr = Field(SecretStr(""), description="every active secret, comma-separated")
    adyen_api_url: str = Field(
        "https://checkout-test.adyen.com",
        description="live: https://{prefix}-checkout-live.adyenpayments.com/checkout",
    )
    adyen_api_key: SecretStr = SecretStr("")
    adyen_merchant_account: str = ""
    adyen_live: bool = Field(
        False, description="which webhooks are taken: those of the live system, or of the test one"
    )
    adyen_return_url: str | None = Field(
        None, description="where a customer comes back to after a redirect; `{payment_id}` in it is the payment's"
    )
    adyen_webhook_hmac_keys: SecretStr = Field(SecretStr(""), description="every active key in hex, comma-separated")
    adyen_report_url: str = Field(
        "https://ca-test.adyen.com/reports/download",
        description="where its reports may come from; live: https://ca-live.adyen.com/reports/download",
    )
    adyen_report_api_key: SecretStr = Field(SecretStr(""), description="of the report user; without it adyen_api_key")
    adyen_webhook_username: str = Field("", description="basic authentication of the webhooks; none without it")
    adyen_webhook_password: SecretStr = SecretStr("")
    paypal_api_url: str = Field("https://api-m.sandbox.paypal.com", description="live: https://api-m.paypal.com")
    paypal_client_id: str = ""
    paypal_client_secret: SecretStr = SecretStr("")
    paypal_return_url: str | None = Field(
        None, description="where a payer comes back to from PayPal; `{payment_id}` in it"
    )
    paypal_key_hours: int = Field(6, ge=1, description="how long PayPal remembers an order's key: 6, or as agreed")
    paypal_report_days: int = Field(
        3, ge=0, le=31, description="days over whose transactions are fetched at the start; 0: none by themselves"
    )
    paypal_webhook_ids: str = Field("", description="ids that PayPal gave the webhook, every active one, with commas")
    paypal_webhook_check: Literal["certificate", "call"] = Field(
        "certificate", description="verify webhooks here, by PayPal's certificate, or by a call to PayPal each"
    )
    paypal_certificate_origins: str = Field(
        "https://api.paypal.com,https://api.sandbox.paypal.com", description="where its certificates may come from"
    )
    paypal_certificate_names: str = Field(
        "messageverificationcerts.paypal.com,messageverificationcerts.sandbox.paypal.com",
        description="whom they must be made out to",
    )
    paypal_certificate_roots: Path | None = Field(
        None, description="PEM file of the authorities they must lead to; the public ones without it"
    )
    provider_accounts: Path | None = Field(
        None, description="TOML file of several accounts at a provider, by merchant: connectors/accounts.py"
    )
    provider_concurrency: int = Field(64, ge=1, description="calls in flight per provider and worker")
    provider_rates: str = Field(
        "", description="calls a second per provider and worker, such as stripe=90,paypal=25; no limit without one"
    )

    retry_policy: Path = PROJECT / "pipeline" / "policies" / "retry.toml"
    provider_rules: Path = PROJECT / "pipeline" / "policies" / "providers.toml"
    fee_schedule: Path = PROJECT / "pipeline" / "policies" / "fees.toml"
    clearing_limits: Path = PROJECT / "pipeline" / "policies" / "clearing.toml"
    recovery_scale: float = Field(
        1.0, gt=0, description="multiplies the recovery and expiry delays; below 1 for demos and tests"
    )

    reconcile_every: float = Field(10.0, gt=0, description="seconds between two looks of the reconciler")
    reconcile_grace: float = Field(30.0, gt=0, description="seconds a fact may take to its ledger rows")
    reconcile_stuck_after: float = Field(900.0, gt=0, description="seconds after which an operation counts as stuck")

    webhook_secret_keys: SecretStr = Field(
        SecretStr(""), description="keys that merchants' signing secrets are kept under: `id:base64` of 32 bytes, "
        "comma-separated; the first one seals, all open"
    )  # fmt: skip
    webhook_allow_http: bool = Field(False, description="webhooks to http URLs: for local receivers only")
    webhook_allowed_networks: str = Field(
        "", description="networks, comma-separated, that webhooks may go to besides the public internet"
    )
    webhook_timeout: float = Field(5.0, gt=0, description="seconds from resolving a receiver's name to its answer")
    webhook_concurrency: int = Field(1_024, ge=1, description="webhooks under way at once")
    webhook_endpoint_concurrency: int = Field(8, ge=2, description="of these, to one endpoint")
    webhook_retry_scale: float = Field(1.0, gt=0, description="multiplies the pauses between attempts; for tests")
    webhook_keep_days: int = Field(30, ge=7, description="how long deliveries can be read and replayed")

    clock_file: Path | None = Field(
        None, description="the clock that a local system lives by, and `payments clock` puts forward"
    )

    @model_validator(mode="after")
    def _lives_by_the_real_time(self) -> Self:
        """Only simulated providers live by a clock that can be put forward: real ones have their own."""
        urls = (self.stripe_api_url, self.adyen_api_url, self.paypal_api_url)
        real = [url for url in urls if urlsplit(url).hostname not in {"127.0.0.1", "::1", "localhost"}]
        if self.clock_file is not None and real:
            raise ValueError(f"PAYMENTS_CLOCK_FILE is for simulated providers on this machine only, not for {real[0]}")
        return self

    def reveal(self, name: str) -> str:
        """The value of a secret setting."""
        secret = getattr(self, name)
        assert isinstance(secret, SecretStr)
        return secret.get_secret_value()


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings: environment first, then what `payments up` wrote to its home."""
    return Settings(_env_file=(home() / "stack.env", home() / "local.env"))
