"""Stripe, as its documentation has it: payment intents, charges, refunds, disputes, events, idempotency, test cards.

Sources: docs.stripe.com/api (objects, errors, idempotent requests, pagination, search), /testing, /declines,
/payments/place-a-hold-on-a-payment-method, /payments/multicapture, /refunds, /disputes, /webhooks.

Where the documentation leaves it open, this is assumed: canceling a partly captured intent releases the rest and ends
in `canceled`; `amount_capturable_updated` accompanies captures of intents with multicapture only.
"""
