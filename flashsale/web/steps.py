"""A shopper's steps, the same for the API and for pages without JavaScript: how they are asked for and answered is not known here."""

from __future__ import annotations

from admission.inlet import LiveDrop
from admission.receipts import ReceiptPayload
from admission.tokens import Permission
from flashsale.model import Drop, Place, Refused, Reservation, ReserveOutcome
from flashsale.web.problems import Code, ProblemError, of_refusal, problem
from flashsale.web.requests import JoinBody
from flashsale.web.services import Services

ENDED_TOKEN = "of-an-earlier-epoch"  # noqa: S105 - no token's id


class Steps:
    """Joining and reserving, with all that is checked before."""

    def __init__(self, services: Services) -> None:
        self._room = services.waiting_room
        self._entrance = services.entrance
        self._receipts = services.receipts
        self._tokens = services.tokens
        self._reservations = services.reservations

    async def join(self, live: LiveDrop, body: JoinBody) -> Place | Refused:
        """A place in the line.

        Raises:
            BadInput, ProblemError: see `Entrance.check`; or the receipt shown is not this shopper's.
            Recovering, StoreUnavailable, StoreUnknown, Busy: see `WaitingRoom.join`.
        """
        drop = live.definition
        before = self._place_before(body, drop.drop_id)
        entrant = self._entrance.check(drop, body, before, live.snapshot.now_ms)
        return await self._room.join(drop.drop_id, body.secret_hash, before, **entrant._asdict())

    def permission(self, drop: Drop, token: str) -> Permission:
        """What an admission token permits. Raises ProblemError when it is not genuine, or of another drop."""
        permission = self._tokens.read(token)
        if permission is None or permission.drop_id != drop.drop_id:
            raise ProblemError(problem(Code.TOKEN_INVALID))
        return permission

    async def reserve(
        self, live: LiveDrop, permission: Permission, key: str, items: tuple[tuple[str, int], ...], request_id: str
    ) -> Reservation:
        """Units for an admitted shopper.

        Args:
            permission: of this drop.
            key: the shopper's own for this attempt; the same key is the same reservation.
            items: (SKU, quantity) in ascending order of SKU.

        Raises:
            ProblemError: the reservation is refused.
            Recovering, StoreUnavailable, StoreUnknown, Busy: see `Reservations.reserve`.
        """
        # A token of an earlier epoch has ended; who repeats a request with it still finds what it did.
        ended = permission.epoch < live.snapshot.epoch
        token_id = ENDED_TOKEN if ended else permission.token_id
        drop_id = live.definition.drop_id
        reservation = await self._reservations.reserve(drop_id, permission.ticket_id, token_id, key, items, request_id)
        if isinstance(reservation, Refused):
            ended = ended and reservation.outcome is ReserveOutcome.TOKEN_INVALID
            raise ProblemError(problem(Code.TOKEN_EXPIRED) if ended else of_refusal(reservation))
        return reservation

    def _place_before(self, body: JoinBody, drop_id: str) -> ReceiptPayload | None:
        """What the shopper's receipt proves, when one is shown. Raises ProblemError when it is not theirs."""
        if not isinstance(body.receipt, str):
            return None
        try:
            receipt = self._receipts.read(body.receipt)
        except ValueError:
            receipt = None
        if receipt is None or (receipt.drop, receipt.secret_hash) != (drop_id, body.secret_hash):
            raise ProblemError(problem(Code.RECEIPT_INVALID))
        return receipt
