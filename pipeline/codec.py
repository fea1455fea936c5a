"""Avro in the Confluent wire format: byte 0, four bytes of schema id (big endian), the Avro body.

Processes never register a schema: a codec asks the registry for the id of each contract it may write and fails at start
when one is missing (`payments schemas register` puts them there). Reading resolves the writer's schema to ours, so
that a record written by an older or newer contract still reads.
"""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable, Iterator
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, NamedTuple, Protocol

import fastavro
import msgspec
from fastavro import schemaless_reader, schemaless_writer

from pipeline import contracts
from pipeline.messages import RECORDS, Record

_PREFIX: Final = struct.Struct(">bI")
_BY_NAME: Final = {contracts.subject(record): record for record in RECORDS}


class CodecError(ValueError):
    """Bytes that are no record of ours: wrong framing, unknown schema, or a body that does not fit it."""


class UnregisteredContractError(RuntimeError):
    """The registry does not hold a contract that this process writes."""


class SchemaIds(Protocol):
    """What the codec needs of a schema registry."""

    def id_of(self, subject: str, schema: dict[str, Any]) -> int:
        """The id of `schema` under `subject`; raises UnregisteredContractError when it is not there."""

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        """The schema with that id; raises CodecError when there is none."""


class Registry:
    """The real registry, through its Confluent-compatible API."""

    def __init__(self, url: str) -> None:
        with warnings.catch_warnings():
            # The client imports authlib, which announces a change that does not concern us.
            warnings.simplefilter("ignore")
            from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - 40 ms others need not

        self._client = SchemaRegistryClient({"url": url})

    def id_of(self, subject: str, schema: dict[str, Any]) -> int:
        from confluent_kafka.schema_registry import Schema, SchemaRegistryError  # noqa: PLC0415

        try:
            found = self._client.lookup_schema(subject, Schema(json.dumps(schema), "AVRO"))
        except SchemaRegistryError as error:
            raise UnregisteredContractError(
                f"{subject} is not registered as it stands in avro/: run `payments schemas register` ({error})"
            ) from error
        if found.schema_id is None:
            raise UnregisteredContractError(f"the registry gave no id for {subject}")
        return int(found.schema_id)

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        from confluent_kafka.schema_registry import SchemaRegistryError  # noqa: PLC0415

        try:
            text = self._client.get_schema(schema_id).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code != HTTPStatus.NOT_FOUND:
                raise  # the registry's fault, not the record's: stop loudly instead of dead-lettering what is good
            raise CodecError(f"schema {schema_id} is not in the registry") from error
        schema: dict[str, Any] = json.loads(text or "{}")
        return schema


class LocalIds:
    """Ids without a registry, for broker-less tests, simulation and benchmarks of the pure parts: the record's
    place in RECORDS.
    """

    def id_of(self, subject: str, schema: dict[str, Any]) -> int:
        return list(_BY_NAME).index(subject) + 1

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        if not 1 <= schema_id <= len(RECORDS):
            raise CodecError(f"schema {schema_id} is unknown")
        return contracts.contract(RECORDS[schema_id - 1])


class _Writer(NamedTuple):
    """How a record is written. `optional`: the fields that hold null or a record, with that record's name. fastavro is
    told which of the two a value is: left to itself it tries the value against each, a third of the time it takes.
    """

    prefix: bytes
    schema: Any
    optional: tuple[tuple[str, str], ...]


class Codec:
    """Encodes and decodes every record of the pipeline. Not for use by several threads at once."""

    def __init__(self, ids: SchemaIds) -> None:
        self._ids = ids
        self._writers: dict[type[Record], _Writer] = {}
        self._readers: dict[int, Callable[[BytesIO], Record]] = {}

    def require(self, *records: type[Record]) -> Codec:
        """Look the contracts up now, so that a missing one stops the process at start. Raises
        UnregisteredContractError.
        """
        for record in records or RECORDS:
            self._writer(record)
        return self

    def encode(self, record: Record) -> bytes:
        """The record's bytes."""
        writer = self._writer(type(record))
        built = msgspec.to_builtins(record, builtin_types=(bytes,))
        for field, name in writer.optional:
            if built[field] is not None:
                built[field] = (name, built[field])
        buffer = BytesIO()
        buffer.write(writer.prefix)
        schemaless_writer(buffer, writer.schema, built)
        return buffer.getvalue()

    def decode(self, data: bytes | None) -> Record:
        """The record in `data`. Raises CodecError; never anything else, whatever the bytes."""
        if data is None or len(data) < _PREFIX.size:
            raise CodecError("no Confluent wire format: too short")
        magic, schema_id = _PREFIX.unpack_from(data)
        if magic != 0:
            raise CodecError(f"no Confluent wire format: first byte is {magic}")
        reader = self._readers.get(schema_id) or self._reader(schema_id)
        try:
            body = BytesIO(data)
            body.seek(_PREFIX.size)
            record = reader(body)
        except CodecError:
            raise
        except Exception as error:  # fastavro raises whatever the damaged bytes lead to
            raise CodecError(f"the body does not fit schema {schema_id}: {type(error).__name__}") from error
        if body.tell() != len(data):
            raise CodecError(f"{len(data) - body.tell()} bytes after the record")
        return record

    def _writer(self, record: type[Record]) -> _Writer:
        if record not in self._writers:
            schema = contracts.contract(record)
            schema_id = self._ids.id_of(contracts.subject(record), schema)
            plain = _plain(schema)
            self._writers[record] = _Writer(_PREFIX.pack(0, schema_id), plain, tuple(_optional_records(plain)))
        return self._writers[record]

    def _reader(self, schema_id: int) -> Callable[[BytesIO], Record]:
        written = self._ids.schema_of(schema_id)
        name = f"{written.get('namespace')}.{written.get('name')}"
        if name not in _BY_NAME:
            raise CodecError(f"{name} is no record of this pipeline")
        record = _BY_NAME[name]
        writer_schema, reader_schema = _plain(written), _plain(contracts.contract(record))
        resolve = None if writer_schema == reader_schema else reader_schema

        def read(body: BytesIO) -> Record:
            return msgspec.convert(schemaless_reader(body, writer_schema, resolve), record)

        self._readers[schema_id] = read
        return read


def _optional_records(schema: Any) -> Iterator[tuple[str, str]]:
    for field in schema["fields"]:
        match field["type"]:
            case ["null", {"type": "record", "name": name}]:
                yield field["name"], name


def _plain(schema: dict[str, Any]) -> Any:
    """The schema without logical types: inside, times stay integers. The bytes on the wire are the same."""

    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            if "logicalType" in node:
                return node["type"]
            return {key: strip(value) for key, value in node.items() if key != "doc"}
        if isinstance(node, list):
            return [strip(item) for item in node]
        return node

    return fastavro.parse_schema(strip(schema))
