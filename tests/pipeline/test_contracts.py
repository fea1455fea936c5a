"""The structs, the contracts in avro/ and the bytes on the wire say the same thing."""

from __future__ import annotations

import json
from typing import get_type_hints

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import contracts
from pipeline.codec import Codec, CodecError, LocalIds
from pipeline.messages import RECORDS, Record
from pipeline.messages.commands import Capture
from pipeline.messages.facts import PaymentCaptured
from pipeline.messages.public import PaymentSnapshot
from pipeline.messages.values import PaymentMethod

CODEC = Codec(LocalIds()).require()


def any_record(kind: type[Record]) -> st.SearchStrategy[Record]:
    """Any record of a kind, every field drawn by its type."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: st.from_type(hints[name]) for name in kind.__struct_fields__})


# Hypothesis would pass msgspec's marker for a default factory instead of calling it.
st.register_type_strategy(PaymentSnapshot, any_record)
st.register_type_strategy(PaymentMethod, any_record)
RECORD = st.sampled_from(RECORDS).flatmap(any_record)

text = st.text(max_size=20)
st.register_type_strategy(str, text)
st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))
st.register_type_strategy(bytes, st.binary(max_size=40))


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.__name__)
def test_each_contract_is_its_struct(record: type[Record]) -> None:
    assert contracts.contract(record) == contracts.schema_of(record), "run `payments schemas write`"
    fastavro.parse_schema(contracts.contract(record))


def test_no_contract_is_left_over() -> None:
    assert {path.stem for path in contracts.AVRO_DIR.glob("*.avsc")} == {record.__name__ for record in RECORDS}


@settings(max_examples=300, deadline=None)
@given(RECORD)
def test_any_record_survives_the_wire(record: Record) -> None:
    data = CODEC.encode(record)
    assert CODEC.decode(data) == record
    assert CODEC.encode(CODEC.decode(data)) == data


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200) | st.builds(lambda body: b"\x00\x00\x00\x00\x05" + body, st.binary(max_size=200)))
def test_any_bytes_are_a_record_or_a_codec_error(data: bytes) -> None:
    try:
        CODEC.decode(data)
    except CodecError:
        return


@settings(max_examples=300, deadline=None)
@given(RECORD, st.data())
def test_a_damaged_record_is_a_codec_error_or_another_record(record: Record, data: st.DataObject) -> None:
    whole = bytearray(CODEC.encode(record))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        CODEC.decode(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except CodecError:
        return


class Older:
    """A registry that holds what an older version wrote: without the last optional field."""

    def __init__(self, record: type[Record]) -> None:
        self.schema = contracts.contract(record)
        optional = [f for f in self.schema["fields"] if "default" in f]
        self.schema["fields"] = [f for f in self.schema["fields"] if f is not optional[-1]]

    def id_of(self, subject: str, schema: dict[str, object]) -> int:
        return 1

    def schema_of(self, schema_id: int) -> dict[str, object]:
        return self.schema


def test_an_older_record_reads_with_the_default() -> None:
    older = Older(PaymentCaptured)
    fact = PaymentCaptured(
        fact_id="f", payment_id="p", merchant_id="m", occurred_at=1, cause_id="c", operation_id="o",
        capture_id="x", provider="stripe", amount=5, currency="USD", final=True, hold_captured=5,
        hold_released=0, provider_reference="pi", operation_reference="gone",
    )  # fmt: skip
    body = json.loads(json.dumps(msgspec.to_builtins(fact)))
    body.pop("operation_reference")
    from io import BytesIO

    buffer = BytesIO()
    buffer.write(b"\x00\x00\x00\x00\x01")
    plain = json.loads(json.dumps(older.schema).replace('"logicalType": "timestamp-millis"', '"doc": ""'))
    fastavro.schemaless_writer(buffer, plain, body)
    assert Codec(older).decode(buffer.getvalue()) == msgspec.structs.replace(fact, operation_reference=None)


def test_a_contract_that_is_not_registered_stops_the_process() -> None:
    class Empty(LocalIds):
        def id_of(self, subject: str, schema: dict[str, object]) -> int:
            from pipeline.codec import UnregisteredContractError

            raise UnregisteredContractError(subject)

    with pytest.raises(RuntimeError, match="Capture"):
        Codec(Empty()).require(Capture)
