"""The numbers of refusals that webhooks give in words. Source: docs.adyen.com/development-resources/refusal-reasons.

An answer has `refusalReasonCode`; the `AUTHORISATION` webhook of the same refusal has only its words, as `reason`.
"""

from __future__ import annotations

from typing import Final

CODES: Final = {
    "Unknown": "0",
    "Refused": "2",
    "Referral": "3",
    "Acquirer Error": "4",
    "Blocked Card": "5",
    "Expired Card": "6",
    "Invalid Amount": "7",
    "Invalid Card Number": "8",
    "Issuer Unavailable": "9",
    "Not supported": "10",
    "3D Not Authenticated": "11",
    "Not enough balance": "12",
    "Acquirer Fraud": "14",
    "Cancelled": "15",
    "Shopper Cancelled": "16",
    "Invalid Pin": "17",
    "Pin tries exceeded": "18",
    "Pin validation not possible": "19",
    "FRAUD": "20",
    "Not Submitted": "21",
    "FRAUD-CANCELLED": "22",
    "Transaction Not Permitted": "23",
    "CVC Declined": "24",
    "Restricted Card": "25",
    "Revocation Of Auth": "26",
    "Declined Non Generic": "27",
    "Withdrawal amount exceeded": "28",
    "Withdrawal count exceeded": "29",
    "Issuer Suspected Fraud": "31",
    "AVS Declined": "32",
    "Card requires online pin": "33",
    "No checking account available on Card": "34",
    "No savings account available on Card": "35",
    "Mobile PIN required": "36",
    "Contactless fallback": "37",
    "Authentication required": "38",
    "RReq not received from DS": "39",
    "Current AID is in Penalty Box": "40",
    "CVM Required Restart Payment": "41",
    "3DS Authentication Error": "42",
    "Online PIN required": "43",
    "Try another interface": "44",
    "Chip downgrade mode": "45",
    "Transaction blocked by Adyen to prevent excessive retry fees": "46",
    "Token Revoked": "50",
}
_BY_WORDS: Final = {words.casefold(): code for words, code in CODES.items()}


def code_of(reason: str) -> str | None:
    """The `refusalReasonCode` of a `refusalReason`; None for words that are not documented."""
    return _BY_WORDS.get(reason.strip().rstrip(".").casefold())
