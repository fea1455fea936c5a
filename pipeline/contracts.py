"""The Avro contracts: each record's struct and its `avro/<Record>.avsc` say the same thing.

The files are what the registry holds and what other teams read. They are written from the structs by `payments schemas
write`; a test refuses a difference, and the registry (FULL_TRANSITIVE) refuses an incompatible change. Each record
has a subject of its own (RecordNameStrategy), so that a topic can gain a new type of record without breaking its
readers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect

from pipeline.messages import RECORDS, Record

NAMESPACE: Final = "payments.v1"
AVRO_DIR: Final = Path(__file__).resolve().parent.parent / "avro"

type_schema = dict[str, Any] | list[Any] | str


def subject(record: type[Record]) -> str:
    """The registry subject of a record: its full name."""
    return f"{NAMESPACE}.{record.__name__}"


def schema_of(record: type[Record]) -> dict[str, Any]:
    """The Avro schema that a struct stands for, self-contained: named types are written out where they first occur."""
    info = inspect.type_info(record)
    assert isinstance(info, inspect.StructType)
    return _record(info, set())


def contract(record: type[Record]) -> dict[str, Any]:
    """The schema as its file in `avro/` has it. Raises FileNotFoundError for a record without a contract."""
    schema: dict[str, Any] = json.loads(path_of(record).read_text())
    return schema


def path_of(record: type[Record]) -> Path:
    """The file of a record's contract."""
    return AVRO_DIR / f"{record.__name__}.avsc"


def write_all() -> list[Path]:
    """Write every contract from its struct; returns the files that changed."""
    changed = []
    for record in RECORDS:
        text = json.dumps(schema_of(record), indent=2) + "\n"
        path = path_of(record)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            changed.append(path)
    return changed


def _record(info: inspect.StructType, named: set[str]) -> dict[str, Any]:
    name = info.cls.__name__
    named.add(name)
    return {
        "type": "record",
        "name": name,
        "namespace": NAMESPACE,
        "doc": _first_paragraph(info.cls.__doc__),
        "fields": [_field(field, named) for field in info.fields],
    }


def _field(field: inspect.Field, named: set[str]) -> dict[str, Any]:
    doc, schema = _documented(field.type, named)
    result: dict[str, Any] = {"name": field.name, "type": schema}
    if doc or (doc := _words(field.type)):
        result["doc"] = doc
    if not field.required:
        result["default"] = _default(field)
    return result


def _default(field: inspect.Field) -> object:
    if field.default is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default)
    if field.default_factory is msgspec.NODEFAULT:
        raise TypeError(f"{field.name} has no default")
    return field.default_factory()


def _documented(kind: inspect.Type, named: set[str]) -> tuple[str | None, type_schema]:
    if not isinstance(kind, inspect.Metadata):
        return None, _schema(kind, named)
    extra = kind.extra_json_schema or {}
    schema = _schema(kind.type, named)
    logical = (kind.extra or {}).get("logicalType")
    return extra.get("description"), {"type": schema, "logicalType": logical} if logical else schema


def _schema(kind: inspect.Type, named: set[str]) -> type_schema:  # noqa: PLR0911 - one line a type
    match kind:
        case inspect.Metadata():
            return _documented(kind, named)[1]
        case inspect.StrType():
            return "string"
        case inspect.IntType():
            return "long"
        case inspect.BoolType():
            return "boolean"
        case inspect.BytesType():
            return "bytes"
        case inspect.EnumType():
            return "string"
        case inspect.StructType():
            return _named(kind.cls.__name__, named, lambda: _record(kind, named))
        case inspect.ListType():
            return {"type": "array", "items": _schema(kind.item_type, named)}
        case inspect.DictType():
            return {"type": "map", "values": _schema(kind.value_type, named)}
        case inspect.UnionType():
            return _nullable(kind, named)
    raise TypeError(f"no Avro type for {kind}")


def _named(name: str, named: set[str], write: Any) -> type_schema:
    if name in named:
        return name
    named.add(name)
    schema: type_schema = write()
    return schema


def _words(kind: inspect.Type) -> str | None:
    """The values of a closed set. On the wire it is a string: an Avro enum could never grow under FULL_TRANSITIVE."""
    branches = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    words = [member.value for b in branches if isinstance(b, inspect.EnumType) for member in b.cls]
    return f"one of: {', '.join(words)}" if words else None


def _nullable(kind: inspect.UnionType, named: set[str]) -> list[Any]:
    """Optional fields are `["null", T]`: adding one with default null is compatible both ways."""
    others = [branch for branch in kind.types if not isinstance(branch, inspect.NoneType)]
    if len(others) != 1:
        raise TypeError("a field is one type, or one type and null")
    return ["null", _schema(others[0], named)]


def _first_paragraph(doc: str | None) -> str:
    return " ".join((doc or "").strip().split("\n\n")[0].split())
