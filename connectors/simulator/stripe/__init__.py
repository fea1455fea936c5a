"""Stripe's API, as far as payments go."""
