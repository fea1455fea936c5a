"""Adyen's edge: requests to the Checkout API, and its standard webhooks. The table is in docs/providers/adyen.md."""
