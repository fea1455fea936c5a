"""The shell around a stage's pure step: decode, check, decide, encode, route; what cannot be used is dead-lettered.

A stage reads bytes from one topic and calls its step once a record. Only `Unusable` is caught; any other exception
is a bug and ends the process, with the transaction aborted, so that nothing is skipped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
from prometheus_client import Counter
from quixstreams import Application, State, message_context
from quixstreams.dataframe import StreamingDataFrame
from quixstreams.models import Topic
from quixstreams.models.serializers import SerializationContext, Serializer

from pipeline import admin, clock, metrics, topics
from pipeline.codec import Codec, CodecError, Registry
from pipeline.dead_letters import Origin, Unusable, dead_letter, dead_letter_headers
from pipeline.domain.timers import tier_for
from pipeline.headers import Headers, headers_of, key_of, trace_of
from pipeline.messages import Record
from pipeline.messages.deadletters import DeadLetter
from pipeline.messages.requests import ProviderRequest
from pipeline.messages.timers import Timer
from pipeline.settings import Settings
from topologies.application import application

STATE_KEY: Final = b"s"
TIERS: Final = tuple(map(topics.tier, topics.TIERS))
REQUESTS_AND_TIMERS: Final = (*map(topics.requests, topics.PROVIDERS), *TIERS)

AnyStore = State[Any, Any]
AnyState = TypeVar("AnyState", bound=msgspec.Struct)
DecidedState_co = TypeVar("DecidedState_co", bound=msgspec.Struct, covariant=True)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record as it came. `timestamp` is the broker's append time, in milliseconds."""

    key: bytes | None
    value: bytes | None
    headers: Headers | None
    timestamp: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """A record of a kind that the stage takes, under the key it must have."""

    record: Any
    key: bytes
    value: bytes
    headers: Headers | None
    timestamp: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record as it goes."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers | None


class _OutgoingValue(Serializer):
    """The steps encode; quixstreams passes the bytes on."""

    def __call__(self, value: Outgoing, ctx: SerializationContext) -> bytes:
        return value.value


class Decided(Protocol[DecidedState_co]):
    """What a decision must say, as `pipeline.domain.decision.Decision` does."""

    @property
    def state(self) -> DecidedState_co | None: ...
    @property
    def outputs(self) -> tuple[Record, ...]: ...
    @property
    def forward(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Decider(Generic[AnyState]):
    """A state machine: the struct its state is kept as, and the pure function that moves it."""

    state: type[AnyState]
    decide: Callable[[AnyState | None, Any], Decided[AnyState]]


class Stage:
    """Builds a stage's stream. Topologies call `decides` or `maps` once, in a function, never at import."""

    def __init__(self, name: str, codec: Codec, app: Application, now: Callable[[], int] = clock.now) -> None:
        self.name = name
        self.codec = codec
        self.app = app
        self.now = now
        self._topics: dict[str, Topic] = {}
        self._out: dict[str, Counter] = {}
        self._in = metrics.RECORDS_IN.labels(name)

    def decides(
        self,
        source: str,
        accepts: tuple[type[Record], ...],
        decider: Decider[AnyState],
        *,
        to: str,
        also: tuple[str, ...] = (),
        routes: Mapping[type[Record], str] = MappingProxyType({}),
    ) -> None:
        """Run a state machine over `source`: requests go to their provider, timers to a tier, what `routes` names
        where it says (topics that `also` must name), all else to `to`.
        """
        step = _StatefulStep(self, decider, to, routes)
        self._flow(source, accepts, step, stateful=True)
        self._declare(to, *also)

    def maps(
        self,
        source: str,
        accepts: tuple[type[Record], ...],
        step: Callable[[Delivered], Iterable[Record]],
        to: str,
        max_bytes: int | None = None,
    ) -> None:
        """Write what `step` makes of each record of `source` to `to`, under its own key."""

        def run(delivered: Delivered) -> list[Outgoing]:
            return [self.encoded(record, to, delivered) for record in step(delivered)]

        self._flow(source, accepts, run, stateful=False, max_bytes=max_bytes)
        self._declare(to)

    def encoded(self, record: Record, topic: str, cause: Delivered) -> Outgoing:
        """A record ready to go, in the trace of what caused it."""
        headers = headers_of(record, self.name, trace_of(cause.headers))
        return Outgoing(topic, key_of(record), self.codec.encode(record), headers)

    def _flow(
        self,
        source: str,
        accepts: tuple[type[Record], ...],
        step: Any,
        *,
        stateful: bool,
        max_bytes: int | None = None,
    ) -> None:
        self._declare(topics.dlq(source))
        stream: StreamingDataFrame = self.app.dataframe(
            self.app.topic(source, value_deserializer="bytes", key_deserializer="bytes")
        )
        guarded = self._guarded(source, accepts, step, max_bytes)
        outputs = stream.apply(guarded, metadata=True, expand=True, stateful=stateful)  # type: ignore[call-overload]
        outputs = outputs.set_headers(lambda out, key, timestamp, headers: out.headers)
        outputs.to_topic(self._route, key=lambda out: out.key)

    def _declare(self, *names: str) -> None:
        for name in names:
            self._topics[name] = self.app.topic(name, value_serializer=_OutgoingValue(), key_serializer="bytes")
            self._out[name] = metrics.RECORDS_OUT.labels(self.name, name)

    def _route(self, out: Outgoing, key: Any, timestamp: int, headers: Any) -> Topic:
        self._out[out.topic].inc()
        return self._topics[out.topic]

    def _guarded(self, source: str, accepts: tuple[type[Record], ...], step: Any, max_bytes: int | None) -> Any:
        def run(
            value: bytes | None, key: bytes | None, timestamp: int, headers: Any, *state: AnyStore
        ) -> list[Outgoing]:
            self._in.inc()
            incoming = Incoming(key, value, headers, timestamp)
            try:
                if max_bytes is not None and value is not None and len(value) > max_bytes:
                    raise Unusable("too_large", f"at most {max_bytes} bytes")
                sent: list[Outgoing] = step(self._read(accepts, incoming), *state)
            except Unusable as error:
                return [self._dead(source, error, incoming)]
            return sent

        return run

    def _read(self, accepts: tuple[type[Record], ...], incoming: Incoming) -> Delivered:
        key, value = incoming.key, incoming.value
        try:
            record = self.codec.decode(value)
        except CodecError as error:
            raise Unusable("undecodable", str(error)) from error
        if not isinstance(record, accepts):
            raise Unusable("unexpected_type", f"{type(record).__name__} does not belong here")
        if key is None or key_of(record) != key:
            raise Unusable("key_mismatch", "the record's key is not the one it must have")
        assert value is not None
        return Delivered(record, key, value, incoming.headers, clock.system_time(incoming.timestamp))

    def _dead(self, source: str, error: Unusable, incoming: Incoming) -> Outgoing:
        metrics.DEAD_LETTERS.labels(self.name, error.reason).inc()
        here = message_context()
        origin = Origin(self.name, source, here.partition, here.offset, incoming.timestamp)
        letter = dead_letter(origin, error, incoming.key, incoming.value)
        headers = dead_letter_headers(letter, trace_of(incoming.headers))
        return Outgoing(topics.dlq(source), letter.key, self.codec.encode(letter), headers)


class _StatefulStep(Generic[AnyState]):
    """Load the payment's state, decide, keep the new state, route what the decision brought about."""

    def __init__(self, stage: Stage, decider: Decider[AnyState], to: str, routes: Mapping[type[Record], str]) -> None:
        self._stage = stage
        self._decide = decider.decide
        self._decode = msgspec.json.Decoder(decider.state).decode
        self._encode = msgspec.json.Encoder().encode
        self._to = to
        self._routes = routes

    def __call__(self, delivered: Delivered, store: AnyStore) -> list[Outgoing]:
        kept = store.get_bytes(STATE_KEY)
        before = None if kept is None else self._decode(kept)
        decision = self._decide(before, delivered.record)
        if decision.state is not None and decision.state is not before:
            store.set_bytes(STATE_KEY, self._encode(decision.state))
        sent = [self._routed(output, delivered) for output in decision.outputs]
        if decision.forward:
            sent.append(Outgoing(self._to, delivered.key, delivered.value, delivered.headers))
        return sent

    def _routed(self, output: Record, cause: Delivered) -> Outgoing:
        return self._stage.encoded(output, self._destination(output), cause)

    def _destination(self, output: Record) -> str:
        match output:
            case ProviderRequest():
                return topics.requests(output.provider)
            case Timer():
                return topics.tier(tier_for(output.due_at - self._stage.now()))
        return self._routes.get(type(output), self._to)


def run_stage(
    name: str, settings: Settings, topology: Callable[[Stage], None], writes: tuple[type[Record], ...]
) -> None:
    """Run a stage until SIGTERM or SIGINT. Raises at start when a topic or a contract it writes is missing."""
    admin.require_topics(settings, admin.wanted_topics(settings))
    codec = Codec(Registry(settings.registry_url)).require(*writes, DeadLetter)
    metrics.serve(settings)
    app = application(name, settings)
    topology(Stage(name, codec, app))
    logging.getLogger("payments").info("stage %s-%s runs", name, settings.slot)
    app.run()
