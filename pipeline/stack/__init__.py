"""The local stack, without Docker: Kafka, Connect with Debezium, a schema registry and Postgres, from packages."""
