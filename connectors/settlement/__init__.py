"""Providers' settlement reports: read, sent through Kafka, compared with the books."""
