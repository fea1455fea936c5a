"""Kafka Connect: the Debezium connector that relays the outbox to the public topics."""
