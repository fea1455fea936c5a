"""What the commands of operators share: a record that is sent and seen to be taken, and a refusal in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NoReturn

import typer
from confluent_kafka import KafkaError, Message, Producer
from rich.console import Console
from rich.markup import escape

from pipeline.codec import Codec, Registry
from pipeline.headers import headers_of, key_of
from pipeline.kafka import producer_config
from pipeline.messages import Record
from pipeline.settings import Settings

NAME: Final = "operators"
"""Who writes, in the headers and the topic catalogue."""
MAX_REASON: Final = 500
_TIMEOUT: Final = 30.0
_console: Final = Console()


def send(settings: Settings, topic: str, records: Iterable[Record]) -> None:
    """Write records under their own keys. Ends the command if Kafka does not take all of them."""
    producer, codec = Producer(producer_config(settings, NAME)), Codec(Registry(settings.registry_url))
    failed: list[str] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error.str())

    for record in records:
        headers = headers_of(record, NAME)
        producer.produce(topic, codec.encode(record), key_of(record), headers=headers, on_delivery=delivered)
        producer.poll(0)
    if producer.flush(_TIMEOUT) or failed:
        refuse(f"Kafka did not take it: {', '.join(failed) or 'no answer'}")


def refuse(words: str, code: int = 1) -> NoReturn:
    """End the command."""
    _console.print(f"[red]{escape(words)}[/]", highlight=False)
    raise typer.Exit(code)
