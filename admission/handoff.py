"""Handoff codes: a place goes over to the shopper's other device. Pure: no input or output.

The device that has the place asks for a code; the other one joins with it and a secret of its own. From then on only the
new secret counts. A code is a JWS (RFC 7515) under the receipt key with a `typ` of its own, so it can be taken for no
receipt and no admission token. Whoever has it can take the place, so it lives for ten minutes; the store sees to it that a place
is handed over once.
"""

from __future__ import annotations

import msgspec

from admission.signed_texts import SignedTexts
from admission.tokens import SigningKeySet
from flashsale.model import TICKET_ID_RE

HANDOFF_TYPE = "flashsale-handoff+jws"
HANDOFF_TTL_MS = 600_000
HANDOFF_LENGTH_MAX = 1024

_NOT_OURS = "This is not a handoff code of this service, or it was changed."


class _Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ticket: str
    expires_at_ms: int


class Handoffs:
    """Makes handoff codes, and tells ours from others."""

    def __init__(self, keys: SigningKeySet) -> None:
        """Put it together.

        Raises:
            ValueError: there is no active receipt key.
        """
        self._texts = SignedTexts(keys, HANDOFF_TYPE, HANDOFF_LENGTH_MAX)

    def make(self, ticket_id: str, expires_at_ms: int) -> str:
        """The code that hands the place of `ticket_id` over until `expires_at_ms`, by the store's clock."""
        return self._texts.sign(msgspec.json.encode(_Payload(ticket_id, expires_at_ms)))

    def read(self, code: str, drop_id: str, now_ms: int) -> str:
        """The id of the ticket whose place a genuine code hands over.

        Args:
            now_ms: the store's time.

        Raises:
            ValueError: it is not genuine, of another drop, or has expired; says which.
        """
        payload = self._genuine(code)
        match = TICKET_ID_RE.fullmatch(payload.ticket)
        if match is None or match[1] != drop_id:
            raise ValueError("The handoff code is of another drop.")
        if now_ms >= payload.expires_at_ms:
            raise ValueError("The handoff code has expired; ask the first device for a new one.")
        return payload.ticket

    def _genuine(self, code: str) -> _Payload:
        try:
            return msgspec.json.decode(self._texts.verify(code), type=_Payload)
        except ValueError:
            raise ValueError(_NOT_OURS) from None
