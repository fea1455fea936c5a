"""Payment providers as a process of its own, for development, tests, demo and benchmark.

The official SDKs talk to it unchanged once their base URL points here. It holds no copy of our code: what it answers is
written from the providers' documentation, so that an error of ours is not an error of its as well.

**State is in memory** and ends with the process. Tests kill our processes, never this one: it stands for the provider,
which does not forget. Its book (`GET /_sim/book`) says what was really charged.

    app, settings        the process
    book                 what really moved, by payment, by provider's reference, by idempotency key
    faults               what goes wrong on request
    webhooks             deliveries: signed, retried, and disturbed on request
    control              the API under /_sim/
    exchange             one HTTP request, down to the connection (hang, reset)
    calls                what befalls any provider's call: latency, a lost request, a lost answer
    stripe/, adyen/, paypal/    the providers; another one is another package beside them
"""
