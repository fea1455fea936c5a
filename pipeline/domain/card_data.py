"""Finding card data where none belongs: card numbers (PAN) and verification codes (CVV) in free text.

A card number is 13 to 19 digits, perhaps in groups, that begin as an issuer's numbers do and satisfy Luhn (ISO/IEC
7812-1). PCI DSS 3.3 and 3.4 forbid keeping either, so the gateway and intake refuse such text, and dead letters
withhold it. UUIDs and times are no card numbers, whatever their digits add up to.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_TIME: Final = re.compile(
    r"(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)"
    r"(?:\.[0-9]{1,9})?(?:[Zz]|[+\- ](?:[01][0-9]|2[0-3]):[0-5][0-9])?(?![0-9])"
)
"""RFC 3339; a `+` that a query's decoding made a blank is read as one."""
_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_GROUPED: Final = re.compile(r"[0-9](?:[\s\-._/\\,:;|*+()\[\]]{0,3}[0-9])*")
_GROUP: Final = re.compile(r"[0-9]+")
_SHORTEST, _LONGEST = 13, 19
_ABSURD: Final = 256
"""A longer run of digits is taken for card data unseen: a bound on the time that a check takes."""

_ISSUERS: Final = re.compile(
    r"""
      4[0-9]{12}(?:[0-9]{3}|[0-9]{5,6})?                 # Visa: 13, 16, 18, 19
    | 5[0-9]{12,18}                                      # Mastercard, Maestro
    | 6[0-9]{12,18}                                      # Discover, UnionPay, Maestro, RuPay
    | (?:222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}    # Mastercard
    | 220[0-4][0-9]{12,15}                               # Mir
    | 3[47][0-9]{13}                                     # American Express
    | 3(?:0[0-5]|095|[689][0-9])[0-9]{11,16}             # Diners Club
    | 35(?:2[89]|[3-8][0-9])[0-9]{12,15}                 # JCB
    | 8[12][0-9]{14,17}                                  # UnionPay, RuPay
    | 9792[0-9]{12}                                      # Troy
    """,
    re.VERBOSE,
)
_VERIFICATION_CODE: Final = re.compile(
    r"(?<![a-z])(?:cvv2?|cvc2?|cvn|csc|card[\s_-]*(?:code|verification)|security[\s_-]*code)(?![a-z])"
    r"[^0-9a-z]{0,5}(?:is\s+|code\s+|number\s+)?[0-9]{3,4}(?![0-9])",
    re.IGNORECASE,
)
_WORDS: Final = ("cv", "csc", "card", "security")


def contains_pan(text: str) -> bool:
    """Whether a card number stands in `text`, whole or in groups, in any script's digits."""
    if sum(map(str.isdecimal, text)) < _SHORTEST:
        return False
    plain = _without_ids_and_times(_plain(text))
    return any(_is_pan_in(match[0]) for match in _GROUPED.finditer(plain))


def contains_card_data(text: str) -> bool:
    """Whether a card number, or a verification code called by its name (`cvc: 123`), stands in `text`."""
    return contains_pan(text) or _contains_verification_code(_plain(text))


def bytes_may_contain_card_data(data: bytes) -> bool:
    """Whether bytes of any format may hold card data. Stricter than for text: beside a number, a format's own bytes
    (Avro's lengths) can look like digits, so a card number is looked for at every place in a run of digits.
    """
    text = _without_ids_and_times(_plain(data.decode(errors="replace")))
    if _contains_verification_code(text):
        return True
    return any(_is_pan_anywhere(match[0]) for match in _GROUPED.finditer(text))


def _contains_verification_code(plain: str) -> bool:
    """The words are looked for first: they are rare, and plain search costs a tenth of the expression."""
    lower = plain.lower()
    return any(word in lower for word in _WORDS) and _VERIFICATION_CODE.search(plain) is not None


def _plain(text: str) -> str:
    """`text` with compatibility forms folded, invisible characters gone and every script's digits as 0-9."""
    if text.isascii():
        return text
    folded = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in folded)


def _without_ids_and_times(plain: str) -> str:
    return _TIME.sub("t", _UUID.sub("u", plain))


def _is_pan_in(grouped: str) -> bool:
    """Whether some adjacent whole groups of digits are a card number: `4242 4242 4242 4242 12/34` contains one."""
    if len(grouped) > _ABSURD:
        return True
    groups = _GROUP.findall(grouped)
    for first in range(len(groups)):
        digits = ""
        for group in groups[first:]:
            digits += group
            if len(digits) > _LONGEST:
                break
            if len(digits) >= _SHORTEST and _ISSUERS.fullmatch(digits) and _luhn(digits):
                return True
    return False


def _is_pan_anywhere(grouped: str) -> bool:
    if len(grouped) > _ABSURD:
        return True
    digits = "".join(_GROUP.findall(grouped))
    return any(
        _ISSUERS.fullmatch(digits, start, start + length) and _luhn(digits[start : start + length])
        for start in range(len(digits) - _SHORTEST + 1)
        for length in range(_SHORTEST, min(_LONGEST, len(digits) - start) + 1)
    )


def _luhn(digits: str) -> bool:
    """The check of ISO/IEC 7812-1, annex B."""
    total = 0
    for place, char in enumerate(reversed(digits)):
        doubled = int(char) * (2 if place % 2 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0
