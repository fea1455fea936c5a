"""Webhooks to merchants: public events fanned out to endpoints, delivered from Postgres."""
