"""Parameters: form-encoded with nested brackets as Stripe's SDKs send them, read with Stripe's complaints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

from connectors.simulator.stripe.errors import invalid, missing

_TRUE: Final = {"true": True, "false": False}
_METADATA_KEYS: Final = 50
_METADATA_KEY: Final = 40
_METADATA_VALUE: Final = 500

Values = dict[str, Any]


def decode(form: bytes) -> Values:
    """`a[b][c]=1` -> {"a": {"b": {"c": "1"}}}; items of a list under their index, or their number for `a[]`."""
    values: Values = {}
    if not form:
        return values
    for pair in form.split(b"&"):
        name, _, value = pair.partition(b"=")
        _put(values, unquote_plus(name.decode("latin-1")), unquote_plus(value.decode("latin-1")))
    return values


def _put(values: Values, name: str, value: str) -> None:
    head, bracket, rest = name.partition("[")
    if not bracket:
        values[name] = value
        return
    at, segments = values, rest.removesuffix("]").split("][")
    for segment in segments:
        inner = at.get(head)
        if not isinstance(inner, dict):
            inner = at[head] = {}
        at, head = inner, segment or str(len(inner))
    at[head] = value


class Params:
    """The parameters of a call. Every reader raises StripeError (400, not saved) for what does not fit."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def only(self, names: frozenset[str]) -> None:
        """Refuse parameters that the endpoint does not have."""
        for name in self.values:
            if name not in names:
                raise invalid(f"Received unknown parameter: {name}", name, "parameter_unknown")

    def text(self, name: str) -> str | None:
        """A string; an empty one is none."""
        value = self.values.get(name)
        if isinstance(value, dict):
            raise invalid(f"Invalid string: {value}", name)
        return value or None

    def required(self, name: str) -> str:
        """A string that must be there."""
        value = self.text(name)
        if value is None:
            raise missing(name)
        return value

    def integer(self, name: str, default: int | None = None) -> int | None:
        """A whole number."""
        value = self.text(name)
        if value is None:
            return default
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
            raise invalid(f"Invalid integer: {value}", name, "parameter_invalid_integer")
        return int(value)

    def boolean(self, name: str, default: bool = False) -> bool:
        """true or false."""
        value = self.text(name)
        if value is None:
            return default
        if value not in _TRUE:
            raise invalid(f"Invalid boolean: {value}", name)
        return _TRUE[value]

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None) -> str | None:
        """One of several words."""
        value = self.text(name)
        if value is None:
            return default
        if value not in choices:
            raise invalid(f"Invalid {name}: must be one of {', '.join(choices[:-1])}, or {choices[-1]}", name)
        return value

    def items(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self.values.get(name)
        if value is None or value == "":
            return ()
        if not isinstance(value, dict):
            raise invalid("Invalid array", name)
        return tuple(str(item) for item in value.values())

    def table(self, *path: str) -> Mapping[str, Any]:
        """A nested hash; empty where there is none."""
        value: Any = self.values
        for name in path:
            value = value.get(name)
            if value is None or value == "":
                return {}
            if not isinstance(value, dict):
                raise invalid("Invalid object", "[".join(path))
        return value  # type: ignore[no-any-return]

    def metadata(self, before: Mapping[str, str]) -> Mapping[str, str]:
        """The metadata after this call: an empty value unsets a key, empty metadata all of them."""
        given = self.values.get("metadata")
        if given is None:
            return before
        if given == "":
            return {}
        merged = {**before, **self._tags(given)}
        kept = {key: value for key, value in merged.items() if value != ""}
        if len(kept) > _METADATA_KEYS:
            raise invalid(f"You may only specify up to {_METADATA_KEYS} metadata keys.", "metadata")
        return kept

    def _tags(self, given: Any) -> dict[str, str]:
        if not isinstance(given, dict):
            raise invalid("Invalid object", "metadata")
        for key, value in given.items():
            if not isinstance(value, str):
                raise invalid("Metadata values must be strings.", f"metadata[{key}]")
            if len(key) > _METADATA_KEY:
                raise invalid(f"Metadata keys can't exceed {_METADATA_KEY} characters in length.", "metadata")
            if len(value) > _METADATA_VALUE:
                raise invalid(f"Metadata values can have up to {_METADATA_VALUE} characters.", f"metadata[{key}]")
        return given
