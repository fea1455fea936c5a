"""What Stripe keeps: objects by id, newest last, found by id, by list, and by search."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from connectors.simulator.stripe.errors import invalid, no_such
from connectors.simulator.stripe.forms import Params
from connectors.simulator.stripe.objects import (
    BalanceTransaction,
    Charge,
    Dispute,
    Event,
    Intent,
    Payout,
    Refund,
    StripeObject,
)

_PAGE: Final = 10
_LONGEST_PAGE: Final = 100
_RANGES: Final[dict[str, Callable[[int, int], bool]]] = {
    "gt": int.__gt__,
    "gte": int.__ge__,
    "lt": int.__lt__,
    "lte": int.__le__,
}
_EXPANDABLE: Final = frozenset(
    {
        "latest_charge",
        "balance_transaction",
        "failure_balance_transaction",
        "charge",
        "payment_intent",
        "source",
    }
)

Thing = TypeVar("Thing")
Listed = TypeVar("Listed", Intent, Charge, Refund, Dispute, BalanceTransaction, Event)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, and whether there is more."""

    items: list[Any]
    has_more: bool
    next_page: str | None = None


class Store:
    """All of one account. `events_kept` bounds the events, which Stripe keeps for 30 days."""

    def __init__(self, events_kept: int) -> None:
        self.intents: dict[str, Intent] = {}
        self.charges: dict[str, Charge] = {}
        self.refunds: dict[str, Refund] = {}
        self.disputes: dict[str, Dispute] = {}
        self.transactions: dict[str, BalanceTransaction] = {}
        self.payouts: dict[str, Payout] = {}
        self.paid_out_by: dict[str, str] = {}
        self.events: deque[Event] = deque(maxlen=events_kept)

    def reset(self) -> None:
        """An account without a history."""
        for kept in (self.intents, self.charges, self.refunds, self.disputes, self.transactions):
            kept.clear()
        self.payouts.clear()
        self.paid_out_by.clear()
        self.events.clear()

    def put(self, thing: StripeObject) -> None:
        """Keep an object as it is now."""
        if isinstance(thing, Intent):
            self.intents[thing.id] = thing
        elif isinstance(thing, Charge):
            self.charges[thing.id] = thing
        elif isinstance(thing, Refund):
            self.refunds[thing.id] = thing
        elif isinstance(thing, Dispute):
            self.disputes[thing.id] = thing
        elif isinstance(thing, Payout):
            self.payouts[thing.id] = thing
        else:
            self.transactions[thing.id] = thing

    def intent(self, identifier: str, param: str = "intent") -> Intent:
        """Raises StripeError."""
        return _found(self.intents, identifier, "payment_intent", param)

    def charge(self, identifier: str, param: str = "id") -> Charge:
        """Raises StripeError."""
        return _found(self.charges, identifier, "charge", param)

    def event(self, identifier: str) -> Event:
        """Raises StripeError."""
        for event in reversed(self.events):
            if event.id == identifier:
                return event
        raise no_such("event", identifier, "id")

    def source(self, identifier: str) -> Charge | Refund | Dispute | None:
        """What a balance transaction is about, if it is about a payment."""
        return self.charges.get(identifier) or self.refunds.get(identifier) or self.disputes.get(identifier)

    def paid_out(self, payout: str | None) -> Iterable[BalanceTransaction]:
        """What a payout took, its own transaction with it, newest first; every transaction without one."""
        newest = reversed(self.transactions.values())
        return newest if payout is None else (it for it in newest if self.paid_out_by.get(it.id) == payout)

    def refunds_of(self, charge: str) -> list[Refund]:
        """A charge's refunds, oldest first."""
        return [refund for refund in self.refunds.values() if refund.charge == charge]

    def expanded(self, thing: StripeObject, paths: Iterable[str]) -> dict[str, StripeObject]:
        """What the paths of `expand` lead to from `thing`, by path. Raises StripeError for a path that cannot be."""
        found: dict[str, StripeObject] = {}
        for path in paths:
            at: StripeObject | None = thing
            walked: list[str] = []
            for name in path.split("."):
                at = self._follow(at, name, path)
                walked.append(name)
                if at is None:
                    break
                found[".".join(walked)] = at
        return found

    def _follow(self, thing: StripeObject | None, name: str, path: str) -> StripeObject | None:
        if name not in _EXPANDABLE or not hasattr(thing, name):
            raise invalid(f"This property cannot be expanded ({path}).", "expand")
        identifier = getattr(thing, name)
        return None if identifier is None else self._any(identifier)

    def _any(self, identifier: str) -> StripeObject | None:
        for kept in (self.charges, self.intents, self.transactions, self.refunds, self.disputes, self.payouts):
            thing: StripeObject | None = kept.get(identifier)
            if thing is not None:
                return thing
        return None


def listed(newest_first: Iterable[Listed], params: Params, *filters: str) -> Page:
    """A list as Stripe pages it: `limit`, `starting_after`, `ending_before`, `created[gte]`, equality of `filters`."""
    limit = params.integer("limit", _PAGE) or _PAGE
    if not 1 <= limit <= _LONGEST_PAGE:
        raise invalid(f"This value must be between 1 and {_LONGEST_PAGE}.", "limit", "parameter_invalid_integer")
    wanted = [(name, value) for name in filters if (value := params.text(name)) is not None]
    created = _created(params)
    items: Iterator[Listed] = (
        item
        for item in newest_first
        if all(getattr(item, name) == value for name, value in wanted) and all(test(item.created) for test in created)
    )
    before = params.text("ending_before")
    if before is not None:
        return _page_before(items, before, limit)
    after = params.text("starting_after")
    if after is not None:
        items = _after(items, after)
    found = list(islice(items, limit + 1))
    return Page(found[:limit], len(found) > limit)


def _page_before(items: Iterable[Listed], before: str, limit: int) -> Page:
    newer: list[Listed] = []
    for item in items:
        if item.id == before:
            return Page(newer[-limit:], len(newer) > limit)
        newer.append(item)
    raise no_such("object", before, "ending_before", 400)


def _after(items: Iterator[Listed], identifier: str) -> Iterator[Listed]:
    for item in items:
        if item.id == identifier:
            return items
    raise no_such("object", identifier, "starting_after", 400)


def _created(params: Params) -> list[Callable[[int], bool]]:
    """The tests of `created`: a time, or a table of gt, gte, lt, lte."""
    given = params.values.get("created")
    if given is None:
        return []
    if isinstance(given, str):
        given = {"gte": given, "lte": given}
    tests = []
    for name, text in given.items():
        if name not in _RANGES or not str(text).isdigit():
            raise invalid("Invalid created filter.", "created")
        tests.append(_test(_RANGES[name], int(text)))
    return tests


def _test(compare: Callable[[int, int], bool], bound: int) -> Callable[[int], bool]:
    return lambda value: compare(value, bound)


def _found(kept: dict[str, Thing], identifier: str, kind: str, param: str) -> Thing:
    thing = kept.get(identifier)
    if thing is None:
        raise no_such(kind, identifier, param)
    return thing


# Search. Source: docs.stripe.com/search#search-query-language

_CLAUSE: Final = re.compile(
    r"""\s*(?P<not>-)?
        (?:metadata\[(?P<q>["'])(?P<key>.+?)(?P=q)\]|(?P<field>[a-z_]+))
        \s*(?P<compare>:|~|>=|<=|>|<)\s*
        (?:'(?P<single>(?:[^'\\]|\\.)*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<bare>-?\d+|null))\s*""",
    re.VERBOSE,
)
_JOIN: Final = re.compile(r"\s*(AND|OR)?\s*", re.IGNORECASE)
_FIELDS: Final = frozenset({"amount", "created", "currency", "customer", "status"})
_NUMBERS: Final = frozenset({"amount", "created"})

Clause = Callable[[Intent], bool]


def search(intents: Iterable[Intent], query: str, limit: int, page: str | None) -> Page:
    """The intents that `query` finds, newest first. Raises StripeError for a query that is none."""
    matches = _compiled(query)
    start = int(page) if page and page.isdigit() else 0
    found = list(islice((intent for intent in intents if matches(intent)), start, start + limit + 1))
    more = len(found) > limit
    return Page(found[:limit], more, str(start + limit) if more else None)


def _compiled(query: str) -> Clause:
    clauses: list[Clause] = []
    joins: set[str] = set()
    at = 0
    while at < len(query):
        if clauses:
            join = _JOIN.match(query, at)
            assert join is not None
            joins.add((join[1] or "AND").upper())
            at = join.end()
        match = _CLAUSE.match(query, at)
        if match is None:
            raise invalid(f"We were unable to parse your search query: {query}", "query")
        clauses.append(_clause(match))
        at = match.end()
    if not clauses or len(joins) > 1:
        raise invalid("You can't combine AND and OR in a query, nor leave it empty.", "query")
    every = any if "OR" in joins else all
    return lambda intent: every(clause(intent) for clause in clauses)


def _clause(match: re.Match[str]) -> Clause:
    key, field, compare = match["key"], match["field"], match["compare"]
    if field is not None and field not in _FIELDS:
        raise invalid(f"Field `{field}` is an unsupported search field for resource `payment_intents`.", "query")
    value = next(v for v in (match["single"], match["double"], match["bare"]) if v is not None)
    value = re.sub(r"\\(.)", r"\1", value)
    test = _compare(compare, value, number=field in _NUMBERS, null=match["bare"] == "null")
    read = _attribute(field) if field is not None else _tag(key)
    if match["not"]:
        return lambda intent: not test(read(intent))
    return lambda intent: test(read(intent))


def _compare(compare: str, value: str, *, number: bool, null: bool) -> Callable[[Any], bool]:
    if null:
        return lambda found: found is None
    if number:
        bound = int(value)
        orders: dict[str, Callable[[int, int], bool]] = {
            ":": int.__eq__,
            ">": int.__gt__,
            "<": int.__lt__,
            ">=": int.__ge__,
            "<=": int.__le__,
        }
        order = orders.get(compare, int.__eq__)
        return lambda found: order(found, bound)
    folded = value.casefold()
    if compare == "~":
        return lambda found: found is not None and folded in found.casefold()
    return lambda found: found is not None and found.casefold() == folded


def _tag(key: str) -> Callable[[Intent], Any]:
    return lambda intent: intent.metadata.get(key)


def _attribute(name: str) -> Callable[[Intent], Any]:
    return lambda intent: getattr(intent, name)
