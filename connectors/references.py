"""What we write into a provider's field for our own reference, so that its webhooks and reports name our operation.

Each reference names the payment as well as the operation, for an event may be about the payment only, or about an
operation that we did not ask for:

    <payment id>_<a | c | v | r>_<attempt, capture, void or refund id>       75 characters

The letter says which operation it was made for: the webhook of a refund that carries an authorization's reference is a
refund that we did not ask for. Adyen calls the field `reference` (at most 80 characters, signed, unlike metadata),
PayPal `custom_id` and `invoice_id` (at most 127).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from pipeline.messages.values import Operation

_LETTERS: Final = {Operation.AUTHORIZE: "a", Operation.CAPTURE: "c", Operation.VOID: "v", Operation.REFUND: "r"}
_OPERATIONS: Final = {letter: operation for operation, letter in _LETTERS.items()}
_ID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_REFERENCE: Final = re.compile(f"({_ID})_([acvr])_({_ID})")


class Reference(msgspec.Struct, frozen=True):
    """Whose operation it is."""

    payment_id: str
    operation: Operation
    subject_id: str

    def __str__(self) -> str:
        return f"{self.payment_id}_{_LETTERS[self.operation]}_{self.subject_id}"

    def subject_of(self, operation: Operation) -> str | None:
        """The subject, if the reference was made for that operation."""
        return self.subject_id if self.operation is operation else None


def parse(text: str) -> Reference | None:
    """The reference that `text` is; None if it is none of ours."""
    match = _REFERENCE.fullmatch(text)
    return Reference(match[1], _OPERATIONS[match[2]], match[3]) if match else None
