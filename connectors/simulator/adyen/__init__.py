"""Adyen: the Checkout API under /checkout/v71 and later, and standard webhooks.

Written from Adyen's documentation and OpenAPI (github.com/Adyen/adyen-openapi: CheckoutService, Webhooks).

    methods, refusals.toml   how a payment method, a test card's holder name or a requested response behaves
    payments                 payments and their modifications: what is kept, and what becomes of it
    items                    webhooks' items
    account                  the money: authorise, capture, cancel, refund, expire, dispute
    keys, errors             idempotency, error bodies
    outbox, api, shopper     webhooks out, calls in, the page of the shopper's bank
    control, service         what only this account has under /_sim/adyen, and all of it put together
"""
