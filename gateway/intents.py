"""Payment intents: commands that move one, and what is read of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from gateway import idempotency, metrics, problems
from gateway.body import canonical
from gateway.idempotency import Answer, Asked, Key
from gateway.keys import ApiKey, Scope
from gateway.payments import Operation, Outcome, Target
from gateway.problems import FieldError, Problem
from gateway.query import UUID_TEXT
from gateway.recovery import recovery_points
from gateway.schemas import (
    AuthorizeIn,
    CancelIn,
    CaptureIn,
    CompleteActionIn,
    CreateIntentIn,
    PaymentMethodIn,
    RefundIn,
    RetryNowIn,
    SetMethodIn,
    Taken,
    VoidIn,
)
from gateway.services import Services, authenticated, json_body, services_of, trace_of, validated
from gateway.waits import preferred_wait
from pipeline import clock, ids, money, topics, views
from pipeline.domain import commands as command_rules
from pipeline.domain.projection import OperationState
from pipeline.domain.provider_choice import AUTO, Rules
from pipeline.headers import headers_of
from pipeline.messages.commands import (
    Authorize,
    Capture,
    Command,
    CompleteAction,
    CreateIntent,
    Refund,
    RetryNow,
    SetMethod,
    Void,
)
from pipeline.messages.values import CaptureMethod, PaymentMethod, RejectionReason

INTENTS: Final = "/api/v1/intents"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Common:
    """What every command of a request shares."""

    payment_id: str
    command_id: str
    merchant_id: str
    occurred_at: int

    def fields(self) -> dict[str, Any]:
        """As a command's fields."""
        return {
            "payment_id": self.payment_id,
            "command_id": self.command_id,
            "merchant_id": self.merchant_id,
            "occurred_at": self.occurred_at,
        }


Build = Callable[[Common, Any, str], Command]
"""Makes the command from what all share, the body, and the payment's currency. Raises Problem."""


@dataclass(frozen=True, slots=True)
class Action:
    """A command that the API takes for an existing payment."""

    body: type[Taken]
    build: Build


async def create(request: Request) -> Response:
    """POST /api/v1/intents"""
    services = services_of(request)
    key = await authenticated(request, Scope.PAYMENTS_WRITE)
    named = idempotency.key_of(request, key.merchant_id, key.mode)
    body = await json_body(request)
    taken = validated(CreateIntentIn, body)
    command_id = named.command_id
    payment_id = ids.payment_id(key.merchant_id, command_id)
    command = _create(Common(payment_id, command_id, key.merchant_id, clock.now()), taken, services.rules)
    return await _Run(services, request, named, body).carry_out(command)


def act(action: Action, scope: Scope) -> Callable[[Request], Any]:
    """The endpoint of an action on a payment."""

    async def endpoint(request: Request) -> Response:
        services = services_of(request)
        key = await authenticated(request, scope)
        target = target_of(request, key)
        named = idempotency.key_of(request, key.merchant_id, key.mode)
        body = await json_body(request)
        taken = validated(action.body, body)
        currency = await services.payments.currency(target)
        if currency is None:
            raise Problem(problems.NOT_FOUND)
        common = Common(target.payment_id, named.command_id, key.merchant_id, clock.now())
        return await _Run(services, request, named, body).carry_out(action.build(common, taken, currency))

    return endpoint


async def read(request: Request) -> Response:
    """GET /api/v1/intents/{payment_id}"""
    key = await authenticated(request, Scope.PAYMENTS_READ)
    intent = await services_of(request).payments.intent(target_of(request, key))
    if intent is None:
        raise Problem(problems.NOT_FOUND)
    return _json(200, intent)


async def read_operation(request: Request) -> Response:
    """GET /api/v1/intents/{payment_id}/operations/{operation_id}"""
    key = await authenticated(request, Scope.PAYMENTS_READ)
    operation_id = request.path_params["operation_id"]
    if len(operation_id) > 255 or not operation_id.isprintable():
        raise Problem(problems.NOT_FOUND)
    target = target_of(request, key)
    operation = await services_of(request).payments.operation(target, operation_id)
    if operation is None:
        raise Problem(problems.NOT_FOUND)
    points = await recovery_points(services_of(request), target, operation_id)
    return _json(200, {**operation.as_json(), **points})


def target_of(request: Request, key: ApiKey) -> Target:
    """The payment that the path names, as the key's merchant sees it. Raises Problem `not_found`."""
    payment_id = request.path_params["payment_id"]
    if not UUID_TEXT.fullmatch(payment_id):
        raise Problem(problems.NOT_FOUND)
    structlog.contextvars.bind_contextvars(payment_id=payment_id)
    return Target(key.merchant_id, payment_id)


class _Run:
    """One request that carries out a command, once for its Idempotency-Key."""

    def __init__(self, services: Services, request: Request, key: Key, body: dict[str, Any]) -> None:
        self._services = services
        self._request = request
        self._key = key
        self._body = body
        self._wait = preferred_wait(request)

    async def carry_out(self, command: Command) -> Response:
        """The answer: the first one to this key, or the new one."""
        _check(command)
        structlog.contextvars.bind_contextvars(payment_id=command.payment_id, command_id=command.command_id)
        begun = await self._services.requests.begin(self._asked(command))
        if isinstance(begun, Answer):
            metrics.REPLAYED.inc()
            return begun.response(replayed=True)
        if begun.taken_over:
            metrics.TAKEN_OVER.inc()
            stored = self._services.codec.decode(begun.command)
            assert isinstance(stored, Command)
            command = stored
        answer: Answer | None = None
        try:
            answer = await self._do(command, begun.command)
        finally:
            await self._services.requests.finish(self._key, answer)
        return answer.response()

    def _asked(self, command: Command) -> Asked:
        fingerprint = idempotency.fingerprint(self._request.method, self._request.scope["path"], canonical(self._body))
        return Asked(
            self._key,
            fingerprint,
            command.payment_id,
            command.command_id,
            self._services.codec.encode(command),
            idempotency.LEASE_SECONDS + self._wait,
        )

    async def _do(self, command: Command, encoded: bytes) -> Answer:
        target = Target(command.merchant_id, command.payment_id)
        waits = self._services.waits
        expected = waits.expect(target, command.command_id, type(command).__name__) if self._wait else None
        with expected or nullcontext():
            await self._produce(command, encoded)
            if isinstance(command, CreateIntent):
                self._services.payments.remember(target, command.currency)
            outcome = await expected.outcome(self._wait) if expected else None
        answer = _created(command, outcome) if isinstance(command, CreateIntent) else _acted(command, outcome)
        if self._wait:
            answer.headers["Preference-Applied"] = f"wait={self._wait}"
        return answer

    async def _produce(self, command: Command, encoded: bytes) -> None:
        span = sha256(command.command_id.encode()).hexdigest()[:16]
        headers = headers_of(command, "gateway", trace_of(self._request, span))
        await self._services.producer.send(topics.INTAKE, command.payment_id, encoded, headers)
        metrics.PRODUCED.labels(topics.INTAKE).inc()


def _check(command: Command) -> None:
    """The same rules as for a command from Kafka. Raises Problem with all that is broken."""
    violations = command_rules.problems(command)
    if violations:
        raise problems.invalid([FieldError(found.field, found.code, found.detail) for found in violations])


# Answers


def _created(command: CreateIntent, outcome: Outcome | None) -> Answer:
    """201: the intent is there the moment it is accepted, whether or not it was processed in time."""
    intent = outcome.intent if outcome is not None else views.accepted(command)
    return Answer(201, {"Location": f"{INTENTS}/{command.payment_id}"}, orjson.dumps(intent))


def _acted(command: Command, outcome: Outcome | None) -> Answer:
    if outcome is None or outcome.operation.kind == "Review":
        return _on_its_way(command, outcome)
    match outcome.operation.state:
        case OperationState.COMPLETED:
            where = f"{INTENTS}/{command.payment_id}"
            return Answer(200, {"Content-Location": where}, orjson.dumps(outcome.intent))
        case OperationState.REJECTED:
            return _problem(_rejected(outcome))
        case OperationState.FAILED:
            return _problem(_failed(command, outcome))
    return _on_its_way(command, outcome)


def _on_its_way(command: Command, outcome: Outcome | None) -> Answer:
    where = f"{INTENTS}/{command.payment_id}/operations/{command.command_id}"
    known = outcome.operation if outcome else _accepted(command)
    return Answer(202, {"Location": where}, orjson.dumps(known.as_json()))


def _accepted(command: Command) -> Operation:
    return Operation(
        command.command_id,
        command.payment_id,
        type(command).__name__,
        "accepted",
        None,
        None,
        command.occurred_at,
    )


def _rejected(outcome: Outcome) -> Problem:
    operation = outcome.operation
    kind = problems.KINDS.get(operation.reason or "", problems.KINDS[RejectionReason.NEEDS_REVIEW])
    return Problem(kind, operation.detail or "", more=_about(outcome))


def _failed(command: Command, outcome: Outcome) -> Problem:
    more = _about(outcome)
    if isinstance(command, Authorize | RetryNow | CompleteAction):
        decline = outcome.intent["decline"]
        return Problem(
            problems.PAYMENT_DECLINED,
            decline["message"] if decline else outcome.operation.reason or "",
            more={"decline": decline, **more},
        )
    kind = problems.KINDS.get(outcome.operation.reason or "", _FAILURES.get(type(command), problems.OPERATION_FAILED))
    return Problem(kind, outcome.operation.detail or outcome.operation.reason or "", more=more)


_FAILURES: Final = {
    Capture: problems.CAPTURE_FAILED,
    Void: problems.VOID_FAILED,
    Refund: problems.REFUND_FAILED,
}


def _about(outcome: Outcome) -> dict[str, Any]:
    return {"operation_id": outcome.operation.operation_id, "intent": outcome.intent}


def _problem(problem: Problem) -> Answer:
    return Answer(problem.kind.status, {"Content-Type": problems.MEDIA_TYPE}, problem.body())


def _json(status: int, value: Any) -> Response:
    return Response(orjson.dumps(value), status, media_type=JSON)


# Commands


def _create(common: Common, taken: CreateIntentIn, rules: Rules) -> Command:
    """Raises Problem for a provider that does not exist, or that no rule could choose."""
    made = rules.resolve(_intent(common, taken))
    assert isinstance(made, CreateIntent)
    _check_provider(made.provider)
    return made


def _intent(common: Common, taken: CreateIntentIn) -> CreateIntent:
    return CreateIntent(
        **common.fields(),
        amount=_amount(taken.amount, taken.currency),
        currency=taken.currency,
        provider=taken.provider,
        country=taken.country,
        capture_method=CaptureMethod(taken.capture_method),
        customer_id=taken.customer_id,
        merchant_reference=taken.merchant_reference,
        order_id=taken.order_id,
        payment_method=_method(taken.payment_method),
        metadata=taken.metadata,
        return_url=taken.return_url,
    )


def _set_method(common: Common, taken: SetMethodIn, _currency: str) -> Command:
    method = _method(taken.payment_method)
    assert method is not None
    return SetMethod(**common.fields(), payment_method=method)


def _authorize(common: Common, taken: AuthorizeIn, _currency: str) -> Command:
    return Authorize(**common.fields(), payment_method=_method(taken.payment_method))


def _capture(common: Common, taken: CaptureIn, currency: str) -> Command:
    return Capture(**common.fields(), amount=_optional_amount(taken.amount, currency), final=taken.final)


def _void(common: Common, taken: VoidIn | CancelIn, _currency: str) -> Command:
    return Void(**common.fields(), reason=taken.reason)


def _refund(common: Common, taken: RefundIn, currency: str) -> Command:
    return Refund(**common.fields(), amount=_optional_amount(taken.amount, currency), reason=taken.reason)


def _retry_now(common: Common, _taken: RetryNowIn, _currency: str) -> Command:
    return RetryNow(**common.fields())


def _complete_action(common: Common, taken: CompleteActionIn, _currency: str) -> Command:
    return CompleteAction(**common.fields(), result=taken.result)


SET_METHOD: Final = Action(SetMethodIn, _set_method)
AUTHORIZE: Final = Action(AuthorizeIn, _authorize)
CAPTURE: Final = Action(CaptureIn, _capture)
VOID: Final = Action(VoidIn, _void)
CANCEL: Final = Action(CancelIn, _void)
REFUND: Final = Action(RefundIn, _refund)
RETRY_NOW: Final = Action(RetryNowIn, _retry_now)
COMPLETE_ACTION: Final = Action(CompleteActionIn, _complete_action)


def _method(taken: PaymentMethodIn | None) -> PaymentMethod | None:
    return PaymentMethod(kind=taken.kind, token=taken.token, tokens=taken.tokens) if taken else None


def _check_provider(name: str) -> None:
    if name == AUTO:
        detail = "no rule fits, or none of its providers has a token of this payment method"
        raise problems.invalid([FieldError("provider", problems.UNKNOWN_PROVIDER.code, detail)])
    if name not in topics.PROVIDERS:
        detail = "one of: " + ", ".join((*topics.PROVIDERS, AUTO))
        raise problems.invalid([FieldError("provider", problems.UNKNOWN_PROVIDER.code, detail)])


def _optional_amount(text: str | None, currency: str) -> int | None:
    return _amount(text, currency) if text is not None else None


def _amount(text: str, currency: str) -> int:
    try:
        return money.parse(text, currency)
    except money.MoneyError as error:
        code = _precise(error.code, text)
        field = "currency" if code == problems.UNKNOWN_CURRENCY.code else "amount"
        raise problems.invalid([FieldError(field, code, _words(code, error))]) from None


def _precise(code: str, text: str) -> str:
    """Which way an amount is out of range."""
    if code == "invalid_amount" and re.fullmatch(r"-[0-9]+(\.[0-9]+)?", text, re.ASCII):
        return problems.AMOUNT_NEGATIVE.code
    if code == "invalid_amount" and re.fullmatch(r"[1-9][0-9]{15,}(\.[0-9]+)?", text, re.ASCII):
        return problems.AMOUNT_TOO_LARGE.code
    if code == "amount_out_of_range":
        zero = not text.strip("0.")
        return problems.AMOUNT_ZERO.code if zero else problems.AMOUNT_TOO_LARGE.code
    return code


def _words(code: str, error: money.MoneyError) -> str:
    return "no ISO 4217 currency that can be paid in" if code == problems.UNKNOWN_CURRENCY.code else str(error)
