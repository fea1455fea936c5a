"""Rate limits: a token bucket per API key and per address, in this process."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway import problems
from gateway.problems import Problem

REMEMBERED: Final = 20_000
"""Buckets kept. A forgotten bucket is a full one, so only the least recently used are forgotten."""


class Limits(BaseSettings):
    """What one instance takes. Every field is the environment variable `PAYMENTS_GATEWAY_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_GATEWAY_", extra="ignore", frozen=True)

    key_rate: float = Field(2_000, gt=0, description="requests a second per API key")
    key_burst: float = Field(4_000, ge=1)
    address_rate: float = Field(4_000, gt=0, description="requests a second per client address")
    address_burst: float = Field(8_000, ge=1)
    refused_rate: float = Field(5, gt=0, description="failed authentications a second per address, before 429")
    refused_burst: float = Field(50, ge=1)
    return_rate: float = Field(1, gt=0, description="customers' returns a second per address, and per payment")
    return_burst: float = Field(20, ge=1)
    mode: Literal["auto", "test", "live", "any"] = Field(
        "auto",
        description="whose keys are taken. A payment does not know the mode of the key that made it, so one "
        "deployment serves one: auto is live if the provider's account is, else test",
    )
    connections: int = Field(10_000, ge=1, description="connections at once")
    in_flight: int = Field(4_096, ge=1, description="requests at once, waiting ones included")
    header_seconds: float = Field(10, gt=0, description="deadline for a request's headers")
    body_seconds: float = Field(10, gt=0, description="deadline for a request's body, from the end of its headers")
    trusted_proxies: str = Field(
        "", description="addresses, comma-separated, whose X-Forwarded-For is believed; none by default"
    )


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Buckets:
    """Token buckets by name: `rate` tokens a second, at most `burst`."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str) -> None:
        """Use one token. Raises Problem `rate_limited` with the seconds until there is one again."""
        bucket = self._filled(name)
        if bucket.tokens < 1:
            raise self._limited(bucket)
        bucket.tokens -= 1

    def _filled(self, name: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(self._burst, now)
            if len(self._buckets) > REMEMBERED:
                self._buckets.popitem(last=False)
            return bucket
        self._buckets.move_to_end(name)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        return bucket

    def _limited(self, bucket: _Bucket) -> Problem:
        seconds = max(1, math.ceil((1 - bucket.tokens) / self._rate))
        return Problem(problems.RATE_LIMITED, headers={"Retry-After": str(seconds)})


@lru_cache(maxsize=4_096)
def address_group(host: str) -> str:
    """The name of an address's bucket: itself, or the /64 that an IPv6 client has to itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return host
