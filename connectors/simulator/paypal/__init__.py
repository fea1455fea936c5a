"""PayPal: Orders v2, Payments v2, OAuth 2.0 tokens, webhooks with their certificates, disputes, reports.

Written from PayPal's OpenAPI (github.com/paypal/paypal-rest-api-specifications: checkout_orders_v2,
payments_payment_v2, notifications_webhooks_v1, customer_disputes_v1, reporting_transactions_v1) and
developer.paypal.com.

    methods, responses.toml  how a vaulted payment method behaves; the processor's response codes
    errors, issues.toml      error bodies; every issue that orders and payments can answer with
    money                    amounts: decimal strings outside, integers inside
    records                  orders, authorizations, captures, refunds, disputes: what is kept
    business, account        all of an account; the records, the book, what orders, payments and disputes have in common
    orders, payments         what can be done with an order; with an authorization, a capture, a refund
    disputes                 what payers and PayPal do about a capture
    render, events           the JSON of the records; webhooks' events
    tokens, keys             access tokens; PayPal-Request-Id
    certificates             the chain that signs webhooks, and the verification of a signature
    outbox, api, payer       webhooks out, calls in, the page on which a payer approves
    transactions, report     what moved: Transaction Search, the Settlement Report (STL)
    control, service         what only this account has under /_sim/paypal, and all of it put together
"""
