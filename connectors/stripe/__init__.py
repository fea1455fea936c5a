"""Stripe, both ways: requests become API calls, webhooks become reports."""
